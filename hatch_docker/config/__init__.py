"""The table [tool.hatch-docker]: its name, those of its images and variables, and a mistake in it.

Importing this module brings no library; `load` and what it needs import pydantic.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hatch_docker.core.context import VARIABLES

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"
IMAGES = "images"  # the table of the further images, [tool.hatch-docker.images.NAME]
DEFAULT = "default"  # how a variable calls the image of the table itself
IMAGE_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
Location = tuple[str | int, ...]


def variables_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that override options; an empty one counts as unset."""
    names = (name for name in environ if name.startswith(PREFIX) and name not in VARIABLES)
    return {name: environ[name] for name in names if environ[name].strip()}


class Problem(NamedTuple):
    """A mistake: pydantic's type of error or one of ours, its location, the value, and what the error tells.

    The location is below [tool.hatch-docker], below the value of a `variable`, or in a `file`.
    """

    kind: str
    location: Location
    value: Any = None
    context: Mapping[str, Any] = {}
    variable: str = ""
    file: Path | None = None
