"""Options, output and settings of several commands.

A module of commands has the function `add`, which declares them, and for each a function that runs it. That function
imports the heavy modules, and returns the exit status, None for 0.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from hatch_docker.cli.parser import Parser, Row
from hatch_docker.core.context import Context, open_context
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.progress import Progress
from hatch_docker.core.terminal import open_progress
from hatch_docker.core.terminal_lines import has_colors, paint
from hatch_docker.core.text import sanitize

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001, it has no public name
Run = Callable[[argparse.Namespace], int | None]


def declare(
    commands: Commands, name: str, summary: str, run: Run, *, verbosity: bool = False, examples: Sequence[Row] = ()
) -> Parser:
    """Declare a command and return its parser. `verbosity`: the command has the options -v and -q."""
    command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.summary, command.examples = summary, examples
    command.set_defaults(command=command, run=run)
    if verbosity:
        command.add_argument("-v", "--verbose", action="count", default=0, help="explain every default")
        command.add_argument("-q", "--quiet", action="count", default=0, help="show only the result")
    return command


def add_project(command: argparse.ArgumentParser, *, option: bool = False) -> None:
    """Add the project's directory as an argument, or as an `option`."""
    text = "the project's directory (any build backend); default: the current directory"
    if option:
        command.add_argument("--project", default=".", metavar="DIRECTORY", help=text)
    else:
        command.add_argument("project", nargs="?", default=".", metavar="PROJECT", help=text)


def add_json(command: argparse._ActionsContainer, page: str) -> None:
    """Add --json. `page`: the page of the documentation that describes the keys."""
    command.add_argument("--json", action="store_true", help=f"print JSON for programs, see {page}")


def output_directory(text: str) -> Path:
    """Return the absolute path of --output. Raises ArgumentTypeError for "-", which other programs use for stdout."""
    if text == "-":
        raise argparse.ArgumentTypeError(
            "must be a directory: several files are written, so - (standard output) is not possible"
        )
    return Path(text).resolve()


def non_negative(text: str) -> float:
    """Return an option's value as a finite number of 0 or more. Raises ArgumentTypeError (argparse prints it)."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, not {text}")
    return value


def project_root(options: argparse.Namespace) -> Path:
    """Return the project's directory; raise ConfigError if it does not exist."""
    root = Path(options.project).resolve()
    if not root.is_dir():
        raise ConfigError(f"{options.project} is not a directory: give the project's directory")
    return root


def set_verbosity(options: argparse.Namespace) -> int:
    """Return the sum of -v, -q and hatch's variables, and set the variables to it.

    hatchling reads these variables when it builds wheels in this process.
    """
    for name, count in (("HATCH_VERBOSE", options.verbose), ("HATCH_QUIET", options.quiet)):
        before = os.environ.get(name, "")
        os.environ[name] = str(count + (int(before) if before.isdecimal() else 0))
    return int(os.environ["HATCH_VERBOSE"]) - int(os.environ["HATCH_QUIET"])


def stderr_context(options: argparse.Namespace | None = None) -> Context:
    """Return a context whose progress is printed to standard error, because standard output is for the result.

    `options`: the options of a command with -v and -q.
    """
    def write(line: str) -> None:
        print(line, file=sys.stderr)

    progress = open_progress(write, set_verbosity(options), os.environ) if options else Progress(write)
    return open_context(os.environ, progress)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines without control characters, because names in images are untrusted."""
    colors = has_colors(sys.stdout, os.environ)
    for line in lines:
        print(paint(sanitize(line)) if colors else sanitize(line))


def print_json(value: object) -> None:
    """Print JSON in ASCII, with control characters and surrogates escaped."""
    print(json.dumps(value, indent=2))
