"""`build`, `plan` and `dockerfile`: what `hatch build -t docker:NAME` does, for projects of any build backend."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hatch_docker.build.unchanged import Command, recall, shown_path
from hatch_docker.cli.common import Commands, add_project, declare, print_lines, project_root, set_verbosity
from hatch_docker.core.files import temporary_directory

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt

SUMMARIES = {
    "build": "build the image, as `hatch build -t docker` does",
    "plan": "write everything that decides the image as JSON",
    "dockerfile": "write a Dockerfile and its build context",
}


def add(commands: Commands) -> None:
    """Declare the commands."""
    for name, summary in SUMMARIES.items():
        command = declare(commands, name, summary, run, verbosity=True)
        command.set_defaults(name=name)
        add_project(command)
        command.add_argument("-o", "--output", metavar="DIRECTORY", help="where to write; default: the project's dist")
        if name == "build":
            command.add_argument("--push", action="store_true", help="push the image, and write no archive")
            command.add_argument("--watch", action="store_true", help="build again after each change; never push")
            command.add_argument(
                "--run", action="store_true", dest="run_image", help="with --watch: run the image after each build"
            )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    verbosity = set_verbosity(options)
    root, output = project_root(options), Path(options.output).resolve() if options.output else None
    if options.name == "build" and (options.watch or options.run_image):
        _watch(options, root, output)
    command = None
    if options.name == "build" and not options.push:
        command = Command(root, ("hatch-docker", str(output or "")), os.environ)
        if recalled := recall(command, lambda line: print(line, file=sys.stderr), verbosity):
            print_lines(shown_path(archive, root) for archive in recalled.archives)
            return
    from hatch_docker.build import api
    from hatch_docker.build.project import open_project

    quiet = verbosity < 0
    made: dict[str, Receipt] = {}
    with temporary_directory() as temporary:
        project = open_project(root, os.environ, temporary)
        if line := api.why_no_image(project):
            if not quiet:
                print(line, file=sys.stderr)
            return
        directory = output or project.output()
        directory.mkdir(parents=True, exist_ok=True)
        artifacts: Sequence[object]
        if options.name == "plan":
            artifacts = api.write_plans(project, directory, os.environ)
        elif options.name == "dockerfile":
            artifacts = api.write_dockerfiles(project, directory, os.environ)
        elif options.push:
            artifacts = api.push_images(project, directory, os.environ, made)
        else:
            artifacts = api.build_images(project, directory, os.environ, made, command)
    print_lines(api.displayed(str(artifact), root, made.values(), quiet=quiet) for artifact in artifacts)


def _watch(options: argparse.Namespace, root: Path, output: Path | None) -> NoReturn:
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
    environ = {**os.environ, "HATCH_DOCKER_PUSH": "false"}
    os.environ["HATCH_QUIET"] = "99"  # the next build reports what is found between builds
    command = build_command(*(("--output", str(output)) if output else ()), str(root))
    watched = WatchedProject(root, output, command, environ)
    watch(watched, lambda line: print(sanitize(line), flush=True), run=options.run_image)
