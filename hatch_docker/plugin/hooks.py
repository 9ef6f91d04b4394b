"""The entry points of the plugins for hatch. hatch imports this module in each build of any project: keep it small."""

from __future__ import annotations

from typing import Any

from hatchling.plugin import hookimpl


@hookimpl
def hatch_register_builder() -> type[Any]:
    """Return the target `docker`."""
    from hatch_docker.plugin.target import DockerBuilder

    return DockerBuilder


@hookimpl
def hatch_register_publisher() -> type[Any]:
    """Return the publisher `docker`; only hatch calls this, and the publisher's base class needs hatch."""
    from hatch_docker.plugin.publisher import DockerPublisher

    return DockerPublisher


@hookimpl
def hatch_register_build_hook() -> type[Any]:
    """Return the build hook `docker`, which builds the image of a wheel."""
    from hatch_docker.plugin.build_hook import DockerBuildHook

    return DockerBuildHook


@hookimpl
def hatch_register_metadata_hook() -> type[Any]:
    """Return the metadata hook `docker`, which reads dependencies from requirements files."""
    from hatch_docker.plugin.metadata_hook import DockerMetadataHook

    return DockerMetadataHook
