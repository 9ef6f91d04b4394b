"""`hatch-docker build`, `plan` and `dockerfile`: like `hatch build -t docker:NAME`, but for any build backend."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hatch_docker.build.failures import naming_typed_options
from hatch_docker.build.unchanged import Command, UnchangedBuild, recall, shown_path
from hatch_docker.cli.common import Commands, declare, output_directory, print_lines, set_verbosity
from hatch_docker.cli.flags import add_flags, flag_variables, flag_words
from hatch_docker.cli.source import Source, add_source, read_source
from hatch_docker.core.cache.store import without_cache
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import make_output_directory, temporary_directory
from hatch_docker.core.terminal_lines import for_terminal
from hatch_docker.core.text import sanitize

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt

SUMMARIES = {
    "build": "build the image, as `hatch build -t docker` does",
    "plan": "write every decision about the image as JSON, and build nothing",
    "dockerfile": "write a Dockerfile and its build context, and build nothing",
}
EXAMPLES = {
    "build": (
        ("hatch-docker build", "the project in this directory"),
        ("hatch-docker build -t registry.example/shop:1.2 --push", "build and push"),
        ("hatch-docker build --base debian:trixie --platform linux/arm64", "another base and platform"),
        ("hatch-docker build dist/shop-1.2-py3-none-any.whl", "from an existing wheel"),
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
        add_source(command)
        command.add_argument("-o", "--output", type=output_directory, metavar="DIRECTORY",
                             help="the directory to write to; default: dist/ of the project")  # fmt: skip
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
    source = read_source(options)
    root, output = source.root, options.output
    variables, spellings = flag_variables(options, os.environ)
    environ: Mapping[str, str] = {**os.environ, **variables}
    if options.name == "build" and (options.watch or options.run_image):
        _watch(options, root, output, environ)
    command = None
    if options.name == "build":
        words = *map(str, source.wheels), source.file
        command = Command(root, ("hatch-docker", str(output or ""), *words), environ, options.push)
        if recalled := recall(command, functools.partial(_write, environ=environ), verbosity):
            print_lines(_artifact_texts(recalled, root, quiet=verbosity < 0))
            return
    with naming_typed_options(spellings), without_cache(environ) as environ:
        _write_artifacts(options, source, output, environ, command, quiet=verbosity < 0)


def _artifact_texts(recalled: UnchangedBuild, root: Path, *, quiet: bool) -> list[str]:
    """Return the lines of standard output for an unchanged build. They are the same as for a full build."""
    if not quiet:
        return [shown_path(artifact, root) for artifact in recalled.artifacts]
    from hatch_docker.build.api import artifact_text
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.core.validation import read_record

    receipts = [read_record(Receipt, value) for value in recalled.receipts]
    return [artifact_text(artifact, root, receipts, quiet=True) for artifact in recalled.artifacts]


def _write(line: str, environ: Mapping[str, str]) -> None:
    print(for_terminal(line, sys.stderr, environ), file=sys.stderr)


def _write_artifacts(
    options: argparse.Namespace, source: Source, output: Path | None, environ: Mapping[str, str],
    command: Command | None, *, quiet: bool,
) -> None:
    """Write the artifacts of a command, and print their paths."""
    from hatch_docker.build import api

    receipts: dict[str, Receipt] = {}
    with temporary_directory() as temporary:
        project = source.open(environ, temporary, push=getattr(options, "push", False))
        if line := api.reason_for_no_image(project):
            if not quiet:
                print(line, file=sys.stderr)
            return
        directory = output or project.output()
        make_output_directory(directory)
        artifacts: Sequence[object]
        if options.name == "plan":
            artifacts = api.write_plans(project, directory, environ)
        elif options.name == "dockerfile":
            artifacts = api.write_dockerfiles(project, directory, environ)
        elif options.push:
            artifacts = api.push_images(project, directory, environ, receipts, command)
        else:
            artifacts = api.build_images(project, directory, environ, receipts, command)
    print_lines(api.artifact_text(str(path), source.root, receipts.values(), quiet=quiet) for path in artifacts)


def _watch(options: argparse.Namespace, root: Path, output: Path | None, environ: Mapping[str, str]) -> NoReturn:
    """Build after each change until the user presses Ctrl-C; raise ConfigError for options that exclude each other."""
    from hatch_docker.build.watch import WatchedProject, build_command, watch
    from hatch_docker.project.pyproject import read_pyproject

    if not options.watch:
        raise ConfigError("--run needs --watch; the last lines of a build show how to run its image")
    if options.push:
        raise ConfigError("--push and --watch cannot be used together: --watch only builds and loads the image")
    if not (root / "pyproject.toml").is_file():
        read_pyproject(root)  # raises ConfigError
    environ = {**environ, "HATCH_DOCKER_PUSH": "false"}
    os.environ["HATCH_QUIET"] = "99"  # this process prints no warnings about the project: the next build prints them
    command = build_command(*flag_words(options), *(("--output", str(output)) if output else ()), str(root))
    watched = WatchedProject(root, output, command, environ)
    watch(watched, lambda line: print(sanitize(line), flush=True), run=options.run_image)
