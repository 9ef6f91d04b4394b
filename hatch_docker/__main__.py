"""`python -m hatch_docker`."""

import sys

from hatch_docker.cli import main

sys.exit(main())
