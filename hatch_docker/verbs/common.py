"""The commands of `hatch-docker`, a module each: `add` declares it, `run` does it. What is heavy is imported then."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TypeAlias

from hatch_docker.errors import ConfigError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001, it has no public name
PROJECT = "the project's directory, of any build backend"


def declare(commands: Verbs, name: str, what: str, *, speaks: bool = False) -> argparse.ArgumentParser:
    """A command, with what it does in the list of all and in its own help; one that `speaks` takes -v and -q."""
    made = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    made.set_defaults(command=made)
    if speaks:
        made.add_argument("-v", "--verbose", action="count", default=0, help="tell every guess and its reason")
        made.add_argument("-q", "--quiet", action="count", default=0, help="tell the result alone")
    return made


def amount(text: str) -> float:
    """An option's number, which is not negative and has an end; raises what argparse tells as a sentence."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, not {text}")
    return value


def root_of(options: argparse.Namespace) -> Path:
    """The project's directory; raises ConfigError where there is none."""
    root = Path(options.project).resolve()
    if not root.is_dir():
        raise ConfigError(f"{options.project} is no directory: name the project's")
    return root


def verbosity(options: argparse.Namespace) -> int:
    """How much -v, -q and hatch's variables ask to be told; what hatchling starts is told by the variables."""
    for name, given in (("HATCH_VERBOSE", options.verbose), ("HATCH_QUIET", options.quiet)):
        before = os.environ.get(name, "")
        os.environ[name] = str(given + (int(before) if before.isdecimal() else 0))
    return int(os.environ["HATCH_VERBOSE"]) - int(os.environ["HATCH_QUIET"])
