"""`python setup.py docker`: build the image of a setuptools project, with the functions of `hatch-docker build`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from setuptools import Command

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt

HINT = "`hatch-docker build` makes the same image without running setup.py on this machine, and takes more options"


class Docker(Command):  # type: ignore[misc]  # setuptools has no types
    """Command that builds the image of the project in the working directory (entry point group distutils.commands)."""

    command_name = "docker"
    description = "build a container image, as `hatch-docker build` does"
    user_options: ClassVar[list[tuple[str, str | None, str | None]]] = [
        ("output=", "o", "where to write; default: dist"),
    ]

    def initialize_options(self) -> None:
        """Set the defaults of the options."""
        self.output = ""

    def finalize_options(self) -> None:
        """Check nothing: the build reports a directory that is not writable."""

    def run(self) -> None:
        """Build the image; an error of the user ends the program with one line."""
        from hatch_docker.build.failures import run_or_abort

        print(f"hint: {HINT}", file=sys.stderr)  # noqa: T201, where a command's messages go
        run_or_abort(self, self._build)

    def abort(self, message: str, code: int) -> None:
        """End the program with a message and an exit status."""
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
        raise SystemExit(code)

    def _build(self) -> None:
        from hatch_docker.build import api
        from hatch_docker.build.project import open_project
        from hatch_docker.core.cache.store import without_cache
        from hatch_docker.core.files import make_output_directory, temporary_directory

        root = Path.cwd()
        receipts: dict[str, Receipt] = {}
        with temporary_directory() as temporary, without_cache(os.environ) as environ:
            project = open_project(root, environ, temporary)
            directory = Path(self.output).resolve() if self.output else project.output()
            make_output_directory(directory)
            for archive in api.build_images(project, directory, environ, receipts):
                print(api.artifact_text(str(archive), root, receipts.values(), quiet=False))  # noqa: T201
