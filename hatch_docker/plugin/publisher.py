"""`hatch publish -p docker [ARCHIVE]`: push what `hatch build -t docker` made.

hatch runs publishers in its own environment, without a builder and its metadata: the receipt has all that it takes.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch.publish.plugin.interface import PublisherInterface

from hatch_docker.build.failures import run_or_abort
from hatch_docker.core.errors import ConfigError

OPTIONS = ("registries", "tags", "allow-dirty", "dotenv")
TYPED = {name: f"-o {name}" for name in OPTIONS}
HATCH_OPTIONS = frozenset({"no_prompt", "initialize_auth"})  # hatch adds them for its own publisher


class DockerPublisher(PublisherInterface):
    """Pushes archives; configured by [tool.hatch-docker], overridden by `-o`."""

    PLUGIN_NAME = "docker"

    def publish(self, artifacts: list[str], options: dict[str, Any]) -> None:
        """Push the archives named, else those of dist/; prints the image's names by digest."""
        given = {key: value for key, value in options.items() if key not in HATCH_OPTIONS}
        for name in run_or_abort(self.app, lambda: self._publish(artifacts, given)):
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
        return push_archives(archives, root, project_table(root), options, TYPED, {}, ctx)
