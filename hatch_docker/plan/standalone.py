"""The plan of a `standalone:` base: a Debian base whose Python comes from an archive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.model import DEBIAN_PYTHONS, StandalonePlan

if TYPE_CHECKING:
    from hatch_docker.config.options import Config


def standalone_plan(name: str, python: str, config: Config) -> tuple[StandalonePlan, str, str]:
    """Return the archive of a `standalone:` base, its Python and its suite; raises ConfigError."""
    options, version = config.standalone, name.removeprefix("standalone:")
    if not re.fullmatch(r"3\.\d{1,2}t?", version):
        raise ConfigError(f"base {name!r}: after standalone: stands a Python, such as standalone:3.14t")
    if python not in ("", version):
        raise ConfigError(f"python = {python!r} does not fit base {name!r}; remove `python`")
    if options.suite not in DEBIAN_PYTHONS:
        raise ConfigError(
            f"tool.hatch-docker.standalone.suite: {options.suite!r} is unknown; known: {', '.join(DEBIAN_PYTHONS)}"
        )
    return StandalonePlan(version, options.mirror, options.release), version, options.suite
