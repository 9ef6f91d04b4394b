"""`hatch-docker doctor`: whether a project's image can be built here, in a line a thing, with what to do."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import PROJECT, amount, declare, root_of

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs

PATIENCE = 15.0  # seconds; longer than a host is given to take a connection
MARKS = {"ok": "ok", "unneeded": "--", "problem": "!!"}
TOPIC = 12  # columns


def add(commands: Verbs) -> None:
    """Declare the command."""
    doctor = declare(commands, "doctor", "tell whether a build can work here, and what to do")
    doctor.add_argument("project", nargs="?", default=".", metavar="PROJECT", help=PROJECT)
    doctor.add_argument("--offline", action="store_true", help="ask no mirror, index, registry or builder")
    doctor.add_argument("--deep", action="store_true", help="read all of the cache, however long that takes")
    doctor.add_argument("--json", action="store_true", help="for programs, see docs/troubleshooting.md")
    doctor.add_argument(
        "--patience", type=amount, default=PATIENCE, metavar="SECONDS",
        help="how long who does not answer is waited for; default: %(default)g",
    )
    doctor.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; its status is 1 where there is a problem."""
    from hatch_docker.doctor.visit import visit
    from hatch_docker.progress import plain
    from hatch_docker.verbs.inspect import as_json

    root = root_of(options)
    os.environ |= {"HATCH_QUIET": "9", "HATCH_VERBOSE": "0"}  # what a build would tell on its way is no finding
    found = []
    for one in visit(root, os.environ, offline=options.offline, deep=options.deep, patience=options.patience):
        found.append(one)
        if not options.json:
            first, *rest = plain(one.text).splitlines() or [""]
            print(f"{MARKS[one.state]}  {one.topic:{TOPIC}}  {first}")
            for line in rest:
                print(f"{'':{TOPIC + 6}}{line}")
    works = all(one.state != "problem" for one in found)
    if options.json:
        lines = [{"state": one.state, "topic": one.topic, "text": one.text} for one in found]
        print(as_json({"schema": 1, "works": works, "findings": lines}))
    return 0 if works else 1
