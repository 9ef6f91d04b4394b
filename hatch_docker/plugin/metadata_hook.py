"""The metadata hook `docker`: the dependencies of [project] come from requirements files.

It is for projects whose dependencies are in a requirements.txt and shall stay there: `init` configures it.
"""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

from hatch_docker.project.requirements_file import read_dependencies


class DockerMetadataHook(MetadataHookInterface):
    """Reads requirements files; configured by [tool.hatch.metadata.hooks.docker]."""

    PLUGIN_NAME = "docker"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of [project], unless an sdist told them; raise ConfigError for a wrong line.

        hatchling refuses them where `dynamic` does not list them.
        """
        if "dependencies" not in metadata:
            metadata["dependencies"] = read_dependencies(Path(self.root), self.config)
