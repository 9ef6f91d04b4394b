"""`hatch-docker init`: the few lines that a project needs, shown first."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import ConfigError
from hatch_docker.verbs.common import PROJECT, declare, root_of

if TYPE_CHECKING:
    from hatch_docker.start.proposal import Proposal
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    init = declare(commands, "init", "write the few lines that a project needs, shown first")
    init.add_argument("project", nargs="?", default=".", metavar="PROJECT", help=PROJECT)
    init.add_argument("--dry-run", action="store_true", help="show the lines, and write nothing")
    init.add_argument("-y", "--yes", action="store_true", help="write them without asking")
    init.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.progress import plain
    from hatch_docker.start.proposal import propose

    proposal = propose(root_of(options), os.environ)
    for line in (*_diff(proposal), *proposal.guesses, *(f"note: {note}" for note in proposal.notes)):
        print(plain(line))
    if not proposal.changed or options.dry_run or not (options.yes or _agreed(proposal)):
        return
    _write(proposal)
    here = Path(options.project).resolve() == Path.cwd()
    hatch = here and proposal.backend == "hatchling.build" and _has_hatch()
    place = "" if here else f" {shlex.quote(options.project)}"
    build = "hatch build -t docker" if hatch else f"hatch-docker build{place}"
    print(f"written: {', '.join(proposal.changed)}; next: {build}")


def _diff(proposal: Proposal) -> Iterator[str]:
    for name in proposal.changed:
        before, after = proposal.before[name], proposal.after[name]
        old = name if before else "/dev/null"
        yield from difflib.unified_diff(before.splitlines(), after.splitlines(), old, name, lineterm="")
        yield ""


def _agreed(proposal: Proposal) -> bool:
    """Whether the user says yes; nobody is asked where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(f"nothing is written to {', '.join(proposal.changed)}: nobody can be asked here; add --yes")
    try:
        return input("write this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _write(proposal: Proposal) -> None:
    from hatch_docker.outputs import replacing

    for name in proposal.changed:
        with replacing((proposal.root / name).resolve()) as stream:  # a link stays one
            stream.write(proposal.after[name].encode())


def _has_hatch() -> bool:
    import shutil

    return shutil.which("hatch") is not None
