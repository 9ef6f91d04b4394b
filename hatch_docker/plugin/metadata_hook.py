"""The metadata hook `docker`: it reads the dependencies of [project] from requirements files.

`hatch-docker init` configures it for projects that keep their dependencies in a requirements.txt.
"""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

from hatch_docker.project.requirements_file import read_dependencies


class DockerMetadataHook(MetadataHookInterface):
    """Metadata hook that reads requirements files; configured by [tool.hatch.metadata.hooks.docker]."""

    PLUGIN_NAME = "docker"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of [project], unless an sdist's metadata contain them; raises ConfigError.

        hatchling reports an error if `dynamic` does not list `dependencies`.
        """
        if "dependencies" not in metadata:
            metadata["dependencies"] = read_dependencies(Path(self.root), self.config)
