"""`hatch-docker init`: print the lines that a project needs, and write them if the user agrees."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.build.failures import shell_command
from hatch_docker.cli.common import Commands, add_project, declare, print_lines, project_root
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import write_file

if TYPE_CHECKING:
    from hatch_docker.cli.init.proposal import Proposal

EXAMPLES = (
    ("hatch-docker init", "show the lines, then ask"),
    ("hatch-docker init --yes services/shop", "add them without a question, in another directory"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "show the lines that are missing in pyproject.toml, and add them if you agree"
    init = declare(commands, "init", summary, run, examples=EXAMPLES)
    add_project(init)
    init.add_argument("--dry-run", action="store_true", help="show the lines, and write nothing")
    init.add_argument("-y", "--yes", action="store_true", help="add the lines without asking")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.cli.init.proposal import propose

    proposal = propose(project_root(options), os.environ)
    for name in proposal.changed:
        before, after = proposal.before[name], proposal.after[name]
        old = name if before else "/dev/null"
        print_lines([*difflib.unified_diff(before.splitlines(), after.splitlines(), old, name, lineterm=""), ""])
    print_lines([*proposal.guesses, *(f"note: {note}" for note in proposal.notes)])
    if not proposal.changed or options.dry_run or not (options.yes or _is_confirmed(proposal)):
        return
    for name in proposal.changed:
        write_file((proposal.root / name).resolve(), proposal.after[name].encode())  # keeps a symlink
    here = Path(options.project).resolve() == Path.cwd()
    hatch = here and proposal.backend == "hatchling.build" and shutil.which("hatch")
    place = "" if here else f" {shlex.quote(options.project)}"
    build = "hatch build -t docker" if hatch else f"{shell_command()} build{place}"
    print_lines([f"written: {', '.join(proposal.changed)}; next: {build}"])


def _is_confirmed(proposal: Proposal) -> bool:
    """Ask the user, and return whether they agree. Raises ConfigError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        changed = ", ".join(proposal.changed)
        raise ConfigError(f"nothing is written to {changed}: there is no terminal to ask on; add --yes")
    try:
        return input("write this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
