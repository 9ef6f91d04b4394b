"""`hatch-docker`, the same as `python -m hatch_docker`: what stands beside the hatch target."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from hatch_docker import __version__
from hatch_docker.doors import hatchling_errors
from hatch_docker.ending import stoppable
from hatch_docker.errors import HatchDockerError
from hatch_docker.faults import told_faults
from hatch_docker.progress import plain
from hatch_docker.verbs import (
    clean,
    diff,
    doctor,
    init,
    inspect,
    load,
    lock,
    make,
    push,
    rebase,
    schema,
    verify,
    verify_signature,
    why,
)
from hatch_docker.verbs.common import Verbs

# As `--help` lists them.
VERBS = (init, make, inspect, why, diff, lock, load, rebase, push, verify, verify_signature, doctor, clean, schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; a HatchDockerError is one line on standard error.

    Raises SystemExit, with status 2, where a word is no command or option.
    """
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        with stoppable(), hatchling_errors(), told_faults():
            status: int | None = options.run(options)
    except HatchDockerError as error:
        with contextlib.suppress(OSError):  # what was told before the error is read before it
            sys.stdout.flush()
        sys.stderr.write(plain(f"hatch-docker: {error}\n"))
        return error.exit_status
    return status or 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command; of a word that there is not, the one that is alike is told."""
    parser, commands = _parser()
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    if words[0].startswith("-") and not set(words) & {"-h", "--help", "--version", *commands.choices}:
        _refuse(parser, words[0])
    if not words[0].startswith("-") and words[0] not in commands.choices:
        meant = _meant(words[0], commands.choices)
        parser.error(f"there is no command {words[0]}{meant} (`hatch-docker --help` lists all)")
    options, left = parser.parse_known_args(words)
    if left:
        _refuse(options.command, left[0].partition("=")[0])
    return options


def _refuse(command: argparse.ArgumentParser, word: str) -> NoReturn:
    known = re.findall(r"(?<!\S)--?[\w-]+", command.format_help())
    if not word.startswith("-"):
        command.error(f"{word} is one too many")
    if word in known:
        command.error(f"{word} comes after the command: {command.prog} {word}")
    command.error(f"there is no option {word}{_meant(word, known)}")


def _meant(word: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _parser() -> tuple[argparse.ArgumentParser, Verbs]:
    parser = argparse.ArgumentParser("hatch-docker", description="Images of Python projects: `hatch build -t docker`.",
                                     epilog="`hatch-docker COMMAND --help` says more of one.")
    parser.add_argument("--version", action="version", version=f"hatch-docker {__version__}")
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    for verb in VERBS:
        verb.add(commands)
    return parser, commands
