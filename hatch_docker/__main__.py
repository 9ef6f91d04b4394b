"""`python -m hatch_docker`."""

import sys

from hatch_docker.cli.main import main

sys.exit(main())
