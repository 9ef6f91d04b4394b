"""The table [tool.hatch-docker]: its name, and those HATCH_DOCKER_* variables that are not options.

Only `load` and what it needs import pydantic; this module, `images` and `misplaced` bring no library.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"
IMAGES_VARIABLE = "HATCH_DOCKER_IMAGES"
# They are about this machine or this run, and change no image.
OTHER_VARIABLES: Mapping[str, str] = {
    IMAGES_VARIABLE: "The images to make, by their names between commas, `default` for that of the table itself.",
    "HATCH_DOCKER_CACHE_DIR": "The directory of the cache, instead of the user's cache directory.",
    "HATCH_DOCKER_REFRESH": "`1` asks index, mirror and registry again instead of remembering their answers for a day.",
    "HATCH_DOCKER_OFFLINE": "`1` uses the cache alone and fails where it does not suffice.",
    "HATCH_DOCKER_CA_BUNDLE": "A file of certificates to trust instead of the system's.",
    "HATCH_DOCKER_INSECURE_REGISTRIES": "Registries to speak plain HTTP to, `host:port`, between commas.",
    "HATCH_DOCKER_BUILDER_STAGE": "Set in the builder stage, where no image is made again.",
}
Location = tuple[str | int, ...]


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
