"""`hatch publish -p docker [ARCHIVE]`: push the image that `hatch build -t docker` built.

hatch runs publishers in its own environment, without hatchling's metadata: the receipt contains all necessary values.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch.publish.plugin.interface import PublisherInterface

from hatch_docker.build.failures import run_or_abort
from hatch_docker.core.errors import ConfigError

OPTIONS = ("registries", "tags", "allow-dirty", "dotenv")
FLAGS = {name: f"-o {name}" for name in OPTIONS}  # the options as the user types them, for messages
HATCH_OPTIONS = frozenset({"no_prompt", "initialize_auth"})  # hatch passes them to all publishers


class DockerPublisher(PublisherInterface):
    """Publisher that pushes archives; configured by [tool.hatch-docker], and `-o` overrides options."""

    PLUGIN_NAME = "docker"

    def publish(self, artifacts: list[str], options: dict[str, Any]) -> None:
        """Push the archives in `artifacts`, else all in dist/; prints the images' references with digests."""
        own = {key: value for key, value in options.items() if key not in HATCH_OPTIONS}
        for name in run_or_abort(self.app, lambda: self._publish(artifacts, own)):
            self.app.display(name)

    def _publish(self, artifacts: Sequence[str], options: Mapping[str, str]) -> list[str]:
        from hatch_docker.build.publish import project_table, push_archives
        from hatch_docker.core.context import open_context
        from hatch_docker.core.terminal import open_progress

        root = Path(self.root)
        unknown = [*(f"-o {key}" for key in options if key not in OPTIONS), *(set(self.project_config) - {"disable"})]
        if unknown:
            known = ", ".join(OPTIONS)
            raise ConfigError(f"hatch publish -p docker: unknown option {unknown[0]}; `-o` takes {known}")
        ctx = open_context(os.environ, open_progress(self.app.display_warning, self.app.verbosity, os.environ))
        archives = [root / name for name in artifacts] or [root / "dist"]
        return push_archives(archives, root, project_table(root), options, FLAGS, {}, ctx)
