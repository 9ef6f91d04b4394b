"""Entry point of `python -m hatch_docker`: the same program as `hatch-docker`."""

import sys

from hatch_docker.cli.main import main

sys.exit(main())
