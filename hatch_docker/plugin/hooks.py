"""What hatch calls to find our plugins. Imported on every build of every project: keep it empty of work."""

from __future__ import annotations

from typing import Any

from hatchling.plugin import hookimpl


@hookimpl
def hatch_register_builder() -> type[Any]:
    """The target `docker`."""
    from hatch_docker.plugin.target import DockerBuilder

    return DockerBuilder


@hookimpl
def hatch_register_publisher() -> type[Any]:
    """The publisher `docker`; called by hatch itself, never by hatchling, and only there it can be imported."""
    from hatch_docker.plugin.publisher import DockerPublisher

    return DockerPublisher


@hookimpl
def hatch_register_build_hook() -> type[Any]:
    """The build hook `docker`: the image of a wheel, after it is built."""
    from hatch_docker.plugin.build_hook import DockerBuildHook

    return DockerBuildHook
