"""Names of the further images of a project, `[tool.hatch-docker.images.NAME]`, and the choice of those to make.

Importing this module brings no library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hatch_docker.config import IMAGES_VARIABLE
from hatch_docker.core.errors import ConfigError

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

OPTION = "images"
DEFAULT = "default"  # how a variable calls the image of the table itself
NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")


def wanted(configs: Mapping[str, Config], environ: Mapping[str, str]) -> Iterator[tuple[str, Config]]:
    """Yield the images that a build makes: all, or those that the variable names. Raise ConfigError for unknown names.
    """
    names = [name.strip() for name in environ.get(IMAGES_VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if ("" if name == DEFAULT else name) not in configs:
            known = ", ".join([DEFAULT, *sorted(filter(None, configs))])
            raise ConfigError(f"{IMAGES_VARIABLE}: there is no image {name!r}; there are: {known}")
    for name, config in configs.items():
        if not names or (name or DEFAULT) in names:
            yield name, config
