"""The `hatch-docker` command line, which `python -m hatch_docker` runs as well."""

import argparse
import contextlib
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from hatch_docker import __version__
from hatch_docker.build.failures import friendly_errors
from hatch_docker.cli.commands import build, clean, doctor, init, inspect, load, lock, push, rebase, schema, verify
from hatch_docker.cli.common import Commands
from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.text import sanitize

# In the order of `--help`.
COMMANDS = (init, build, inspect, lock, load, rebase, push, verify, doctor, clean, schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; a HatchDockerError is one line on standard error.

    Raises SystemExit with status 2 for a command or an option that does not exist.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with friendly_errors():
            status: int | None = options.run(options)
    except HatchDockerError as error:
        with contextlib.suppress(OSError):  # in one file, the output stands before the error
            sys.stdout.flush()
        sys.stderr.write(sanitize(f"hatch-docker: {error}\n"))
        return error.exit_status
    return status or 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command; an error names the command or option that is most like the wrong word."""
    parser, commands = make_parser()
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    if words[0].startswith("-") and not set(words) & {"-h", "--help", "--version", *commands.choices}:
        _refuse(parser, words[0])
    if not words[0].startswith("-") and words[0] not in commands.choices:
        hint = _did_you_mean(words[0], commands.choices)
        parser.error(f"unknown command: {words[0]}{hint} (`hatch-docker --help` lists all commands)")
    options, rest = parser.parse_known_args(words)
    if rest:
        _refuse(options.command, rest[0].partition("=")[0])
    return options


def _refuse(command: argparse.ArgumentParser, word: str) -> NoReturn:
    known = re.findall(r"(?<!\S)--?[\w-]+", command.format_help())
    if not word.startswith("-"):
        command.error(f"unexpected argument: {word}")
    if word in known:
        command.error(f"{word} must come after the command: {command.prog} {word}")
    command.error(f"unknown option: {word}{_did_you_mean(word, known)}")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {matches[0]}?" if matches else ""


def make_parser() -> tuple[argparse.ArgumentParser, Commands]:
    """Return the parser and its commands by name."""
    parser = argparse.ArgumentParser(
        "hatch-docker", description="Build container images of Python projects, as `hatch build -t docker` does.",
        epilog="`hatch-docker COMMAND --help` describes one command.",
    )
    parser.add_argument("--version", action="version", version=f"hatch-docker {__version__}")
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser, commands
