"""`hatch-docker lock`: pin what builds would ask registries, mirrors and indexes for."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hatch_docker.doors import open_plans
from hatch_docker.outputs import scratch
from hatch_docker.verbs.common import PROJECT, declare, root_of, verbosity

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    lock = declare(commands, "lock", "pin what builds would ask registries, mirrors and indexes for", speaks=True)
    lock.add_argument("project", nargs="?", default=".", metavar="PROJECT", help=PROJECT)
    how = lock.add_mutually_exclusive_group()
    how.add_argument("--upgrade", action="store_true", help="take the newest of everything")
    how.add_argument("--check", action="store_true", help="only tell whether the lock does, by the exit status")
    lock.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.backend import open_project, read_pyproject
    from hatch_docker.context import REFRESH
    from hatch_docker.lock import check, lock, open_lock
    from hatch_docker.members import with_members
    from hatch_docker.progress import plain

    verbosity(options)
    root = root_of(options)
    if options.check:
        builder = open_project(root, os.environ)
        plans, ctx = open_plans(builder, os.environ, every=True)
        with (
            scratch() as temporary,
            with_members(builder.source(temporary), plans, builder.metadata.config, ctx) as source,
        ):
            check(plans, source, ctx)
        return
    environ = {**os.environ, REFRESH: "1"}  # what is asked is asked now
    was = open_lock(root, read_pyproject(root), environ, upgrade=options.upgrade)
    builder = open_project(root, environ, pins=was.pins)
    plans, ctx = open_plans(builder, environ, pins=was.pins, every=True)
    with (
        scratch() as temporary,
        with_members(builder.source(temporary), plans, builder.metadata.config, ctx) as source,
    ):
        done = lock(was, plans, source, ctx)
    for line in done.changes:
        print(plain(line))
    print(f"{was.path.name}: {'written' if done.written else 'nothing changes'}")
