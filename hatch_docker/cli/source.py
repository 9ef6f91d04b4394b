"""The arguments of a command that name the source of an image: a project's directory, or existing wheels."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.cli.common import project_root
from hatch_docker.core.errors import ConfigError

if TYPE_CHECKING:
    from hatch_docker.core.image_lock import ImageLock
    from hatch_docker.project.model import Project


@dataclass(frozen=True, slots=True)
class Source:
    """The source of an image: the project's directory, or existing wheels. `file`: has [tool.hatch-docker]."""

    root: Path
    wheels: tuple[Path, ...] = ()
    file: str = "pyproject.toml"

    def open(
        self, environ: Mapping[str, str], temporary: Path, *, push: bool = False, pins: ImageLock | None = None
    ) -> Project:
        """Return the project. Raises the errors of `open_project` and `open_wheels`."""
        if self.wheels:
            from hatch_docker.build.given_wheels import open_wheels

            return open_wheels(self.wheels, self.root, self.file)
        from hatch_docker.build.project import open_project

        return open_project(self.root, environ, temporary, push=push, pins=pins)


def add_source(command: argparse.ArgumentParser) -> None:
    """Add the project's directory or wheels, and --config."""
    command.add_argument(
        "project", nargs="*", metavar="PROJECT",
        help="the project's directory (any build backend), or the project's wheels, one for each platform; "
        "default: the current directory",
    )
    command.add_argument(
        "--config", metavar="FILE",
        help="for wheels: the file that has [tool.hatch-docker]; default: the nearest pyproject.toml above the wheel",
    )


def read_source(options: argparse.Namespace) -> Source:
    """Return the source that the arguments of `add_source` name. Raises ConfigError for arguments that do not fit."""
    names = options.project or ["."]
    wheels = tuple(Path(os.path.abspath(name)) for name in names if name.endswith(".whl"))  # noqa: PTH100, keeps links
    if not wheels:
        if options.config:
            raise ConfigError("--config is for wheels; the options of a project are in its own pyproject.toml")
        if len(names) > 1:
            raise ConfigError(f"{names[0]} and {names[1]}: give one project, or the wheels of one project")
        options.project = names[0]
        return Source(project_root(options))
    from hatch_docker.project.pyproject import project_of_wheel, read_toml  # an unchanged build imports no library

    if others := [name for name in names if not name.endswith(".whl")]:
        raise ConfigError(f"{others[0]} is not a wheel: give only wheels, or the directory of one project")
    if getattr(options, "watch", False):
        raise ConfigError("--watch watches the sources of a project; give its directory instead of a wheel")
    if getattr(options, "build_arg", None):
        raise ConfigError("--build-arg is for the build of a wheel, but this wheel is already built; leave it out")
    if options.config:
        config = Path(options.config).resolve()
        if not config.is_file():
            raise ConfigError(f"--config: there is no file {options.config}")
        if "hatch-docker" not in read_toml(config).get("tool", {}):
            raise ConfigError(f"--config: {options.config} has no table [tool.hatch-docker]; give the file that has it")
        return Source(config.parent, wheels, config.name)
    return Source(project_of_wheel(wheels[0]), wheels)
