"""What hatch calls to find our plugins. Imported on every build of every project: keep it empty of work."""

from __future__ import annotations

from typing import Any

from hatchling.plugin import hookimpl


@hookimpl
def hatch_register_builder() -> type[Any]:
    """The target `docker`."""
    from hatch_docker.builder import DockerBuilder

    return DockerBuilder
