"""The entry points by which hatch finds the plugins. Every build of every project imports this: keep it small."""

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
    """Return the publisher `docker`; only hatch itself calls this, and only there it can be imported."""
    from hatch_docker.plugin.publisher import DockerPublisher

    return DockerPublisher


@hookimpl
def hatch_register_build_hook() -> type[Any]:
    """Return the build hook `docker`, which makes the image of a wheel."""
    from hatch_docker.plugin.build_hook import DockerBuildHook

    return DockerBuildHook


@hookimpl
def hatch_register_metadata_hook() -> type[Any]:
    """Return the metadata hook `docker`, which reads dependencies from requirements files."""
    from hatch_docker.plugin.metadata_hook import DockerMetadataHook

    return DockerMetadataHook
