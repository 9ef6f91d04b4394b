"""`build`, `plan` and `dockerfile`: what `hatch build -t docker:VERB` does, for projects of any build backend."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hatch_docker.verbs.common import PROJECT, declare, root_of, verbosity

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs

VERBS = {
    "build": "make the image, as `hatch build -t docker` does",
    "plan": "write everything that decides the image as JSON",
    "dockerfile": "write a Dockerfile and its context",
}


def add(commands: Verbs) -> None:
    """Declare the command."""
    for verb, what in VERBS.items():
        made = declare(commands, verb, what, speaks=True)
        made.add_argument("project", nargs="?", default=".", metavar="PROJECT", help=PROJECT)
        made.add_argument("-o", "--output", metavar="DIRECTORY", help="where to write; default: the project's dist")
        if verb == "build":
            made.add_argument("--push", action="store_true", help="push it, and write no archive")
            made.add_argument("--watch", action="store_true", help="build again whenever something changes; no push")
            made.add_argument(
                "--run", action="store_true", dest="running", help="with --watch: also run it, anew after each build"
            )
        made.set_defaults(run=run, verb=verb)


def run(options: argparse.Namespace) -> None:
    """What `hatch build -t docker:VERB` does, for a project of any build backend."""
    from hatch_docker.backend import open_project

    verbosity(options)
    root, given = root_of(options), Path(options.output).resolve() if options.output else None
    verb = options.verb
    if verb == "build" and (options.watch or options.running):
        _watch(options, root, given)
    if verb == "build":
        verb = "push" if options.push else "image"
    builder = open_project(root, os.environ)
    builder.alone = True
    list(builder.build(directory=str(given or builder.config.directory), versions=[verb]))


def _watch(options: argparse.Namespace, root: Path, output: Path | None) -> NoReturn:
    """Build again and again; raises ConfigError for options that do not go together."""
    from hatch_docker.backend import read_pyproject
    from hatch_docker.errors import ConfigError
    from hatch_docker.progress import plain
    from hatch_docker.watch import Watched, build_command, watch

    if not options.watch:
        raise ConfigError("--run goes with --watch; what a build made is run as its last lines say")
    if options.push:
        raise ConfigError("--push does not go with --watch: what is watched is built and loaded here, and never pushed")
    if not (root / "pyproject.toml").is_file():
        read_pyproject(root)  # of a directory without a project no change is waited for
    environ = {**os.environ, "HATCH_DOCKER_PUSH": "false"}
    os.environ["HATCH_QUIET"] = "99"  # what is read here between builds, the next build tells
    command = build_command(*(("--output", str(output)) if output else ()), str(root))
    watch(Watched(root, output, command, environ), lambda line: print(plain(line), flush=True), run=options.running)
