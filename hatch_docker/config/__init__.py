"""The table [tool.hatch-docker]: names of the table, its images and its variables, and the value Problem.

Importing this module imports no library; `load` and its helpers import pydantic.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hatch_docker.core.context import VARIABLES

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"
IMAGES = "images"  # the table of further images, [tool.hatch-docker.images.NAME]
DEFAULT = "default"  # the name in HATCH_DOCKER_IMAGES of the image of [tool.hatch-docker] itself
IMAGE_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
Location = tuple[str | int, ...]


def variables_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that override options; an empty variable counts as unset."""
    names = (name for name in environ if name.startswith(PREFIX) and name not in VARIABLES)
    return {name: environ[name] for name in names if environ[name].strip()}


class Problem(NamedTuple):
    """A mistake in the configuration.

    `kind`: an error type of pydantic or of `messages`. `location`: the path below [tool.hatch-docker], below the value
    of `variable`, or in `file`. `context`: values for the message.
    """

    kind: str
    location: Location
    value: Any = None
    context: Mapping[str, Any] = {}
    variable: str = ""
    file: Path | None = None
