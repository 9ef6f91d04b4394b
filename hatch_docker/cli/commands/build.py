"""`build`, `plan` and `dockerfile`: what `hatch build -t docker:NAME` does, for projects of any build backend."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hatch_docker.build.failures import named_as_typed
from hatch_docker.build.unchanged import Command, recall, shown_path
from hatch_docker.cli.common import Commands, declare, print_lines, project_root, set_verbosity
from hatch_docker.cli.flags import add_flags, flag_variables, flag_words
from hatch_docker.core.cache.store import without_cache
from hatch_docker.core.files import make_output, temporary_directory
from hatch_docker.core.terminal_lines import for_terminal

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.project.model import Project

SUMMARIES = {
    "build": "build the image, as `hatch build -t docker` does",
    "plan": "write every decision about the image as JSON, and build nothing",
    "dockerfile": "write a Dockerfile and its build context, and build nothing",
}
EXAMPLES = {
    "build": (
        ("hatch-docker build", "the project of this directory"),
        ("hatch-docker build -t registry.example/shop:1.2 --push", "build and push"),
        ("hatch-docker build --base debian:trixie --platform linux/arm64", "another base and platform"),
        ("hatch-docker build dist/shop-1.2-py3-none-any.whl", "of a wheel that exists"),
        ("hatch-docker build --watch --run", "while you develop"),
    ),
    "plan": (("hatch-docker plan -o .", "into this directory"),),
    "dockerfile": (("hatch-docker dockerfile -o .", "into this directory"),),
}


def add(commands: Commands) -> None:
    """Declare the commands."""
    for name, summary in SUMMARIES.items():
        command = declare(commands, name, summary, run, verbosity=True, examples=EXAMPLES[name])
        command.set_defaults(name=name)
        command.add_argument(
            "project", nargs="*", metavar="PROJECT",
            help="the project's directory, of any build backend, or wheels of it that exist, each for other platforms; "
            "default: the current directory",
        )
        command.add_argument(
            "--config", metavar="FILE",
            help="with wheels: the file that has [tool.hatch-docker]; default: pyproject.toml of the project around",
        )
        command.add_argument("-o", "--output", metavar="DIRECTORY", help="where to write; default: the project's dist")
        if name == "build":
            command.add_argument("--push", action="store_true", help="push the image, and write no archive")
            command.add_argument("--watch", action="store_true", help="build again after each change; never push")
            command.add_argument(
                "--run", action="store_true", dest="run_image", help="with --watch: run the image after each build"
            )
        add_flags(command, builds=name == "build")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    verbosity = set_verbosity(options)
    source = _source(options)
    root = source.root
    output = Path(options.output).resolve() if options.output else None
    variables, typed = flag_variables(options, os.environ)
    environ: Mapping[str, str] = {**os.environ, **variables}
    if options.name == "build" and (options.watch or options.run_image):
        _watch(options, root, output, environ)
    command = None
    if options.name == "build" and not options.push:
        words = *map(str, source.wheels), source.file
        command = Command(root, ("hatch-docker", str(output or ""), *words), environ)
        if recalled := recall(command, functools.partial(_write, environ=environ), verbosity):
            print_lines(shown_path(archive, root) for archive in recalled.archives)
            return
    with named_as_typed(typed), without_cache(environ) as environ:
        _make(options, source, output, environ, command, quiet=verbosity < 0)


@dataclass(frozen=True, slots=True)
class _Source:
    """The project that an image is made of: its directory, its wheels if they exist, and the file with the table."""

    root: Path
    wheels: tuple[Path, ...] = ()
    file: str = "pyproject.toml"


def _source(options: argparse.Namespace) -> _Source:
    """Return what the arguments name; raises ConfigError for arguments that contradict each other."""
    from hatch_docker.core.errors import ConfigError

    names = options.project or ["."]
    wheels = tuple(Path(os.path.abspath(name)) for name in names if name.endswith(".whl"))  # noqa: PTH100, keeps links
    if not wheels:
        if options.config:
            raise ConfigError("--config is for wheels; a project has its table in its own pyproject.toml")
        if len(names) > 1:
            raise ConfigError(f"{names[0]} and {names[1]}: name one project, or wheels of one")
        options.project = names[0]
        return _Source(project_root(options))
    from hatch_docker.project.pyproject import around_wheel, read_toml  # an unchanged build imports no library

    if others := [name for name in names if not name.endswith(".whl")]:
        raise ConfigError(f"{others[0]} is not a wheel: name wheels alone, or the directory of one project")
    if getattr(options, "watch", False):
        raise ConfigError("--watch looks at the sources of a project; name its directory instead of a wheel")
    if options.build_arg:
        raise ConfigError("--build-arg is for the build of a wheel, and the wheel exists; leave it out")
    if options.config:
        config = Path(options.config).resolve()
        if not config.is_file():
            raise ConfigError(f"--config: there is no file {options.config}")
        if "hatch-docker" not in read_toml(config).get("tool", {}):
            raise ConfigError(f"--config: {options.config} has no table [tool.hatch-docker]; name the file that has it")
        return _Source(config.parent, wheels, config.name)
    return _Source(around_wheel(wheels[0]), wheels)


def _open(source: _Source, environ: Mapping[str, str], temporary: Path, *, push: bool) -> Project:
    if source.wheels:
        from hatch_docker.build.given_wheels import open_wheels

        return open_wheels(source.wheels, source.root, source.file)
    from hatch_docker.build.project import open_project

    return open_project(source.root, environ, temporary, push=push)


def _write(line: str, environ: Mapping[str, str]) -> None:
    print(for_terminal(line, sys.stderr, environ), file=sys.stderr)


def _make(
    options: argparse.Namespace, source: _Source, output: Path | None, environ: Mapping[str, str],
    command: Command | None, *, quiet: bool,
) -> None:
    """Make what the command is for, and print its artifacts."""
    from hatch_docker.build import api

    made: dict[str, Receipt] = {}
    with temporary_directory() as temporary:
        project = _open(source, environ, temporary, push=getattr(options, "push", False))
        if line := api.why_no_image(project):
            if not quiet:
                print(line, file=sys.stderr)
            return
        directory = output or project.output()
        make_output(directory)
        artifacts: Sequence[object]
        if options.name == "plan":
            artifacts = api.write_plans(project, directory, environ)
        elif options.name == "dockerfile":
            artifacts = api.write_dockerfiles(project, directory, environ)
        elif options.push:
            artifacts = api.push_images(project, directory, environ, made)
        else:
            artifacts = api.build_images(project, directory, environ, made, command)
    print_lines(api.displayed(str(artifact), source.root, made.values(), quiet=quiet) for artifact in artifacts)


def _watch(options: argparse.Namespace, root: Path, output: Path | None, environ: Mapping[str, str]) -> NoReturn:
    """Build after each change, until a signal; raise ConfigError for options that contradict each other."""
    from hatch_docker.build.watch import WatchedProject, build_command, watch
    from hatch_docker.core.errors import ConfigError
    from hatch_docker.core.text import sanitize
    from hatch_docker.project.pyproject import read_pyproject

    if not options.watch:
        raise ConfigError("--run needs --watch; the last lines of a build say how to run its image")
    if options.push:
        raise ConfigError("--push and --watch exclude each other: --watch builds and loads here, and never pushes")
    if not (root / "pyproject.toml").is_file():
        read_pyproject(root)  # raises: a directory without a project is not watched
    environ = {**environ, "HATCH_DOCKER_PUSH": "false"}
    os.environ["HATCH_QUIET"] = "99"  # the next build reports what is found between builds
    command = build_command(*flag_words(options), *(("--output", str(output)) if output else ()), str(root))
    watched = WatchedProject(root, output, command, environ)
    watch(watched, lambda line: print(sanitize(line), flush=True), run=options.run_image)
