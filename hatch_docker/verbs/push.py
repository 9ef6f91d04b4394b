"""`hatch-docker push`: push an archive that was built; builds nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare, verbosity

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


TYPED = {"registries": "--registry", "tags": "--tag", "allow-dirty": "--allow-dirty"}


def add(commands: Verbs) -> None:
    """Declare the command."""
    push = declare(commands, "push", "push an archive that was built; builds nothing", speaks=True)
    push.add_argument("archives", type=Path, nargs="*", metavar="ARCHIVE", help="default: what was built in dist/")
    push.add_argument("--registry", action="append", default=[], help="a registry or a repository; several times")
    push.add_argument("--tag", action="append", default=[], help="a tag instead of those of the build; several times")
    push.add_argument("--allow-dirty", action="store_true", help="push what no commit has, too")
    push.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.context import open_context
    from hatch_docker.progress import open_progress
    from hatch_docker.publish import own_table, push_archives

    given = {"registries": ",".join(options.registry), "tags": ",".join(options.tag)}
    given |= {"allow-dirty": "1"} if options.allow_dirty else {}
    told = verbosity(options)
    progress = open_progress(lambda line: print(line, file=sys.stderr), told, os.environ)
    ctx = open_context(os.environ, progress)
    taken: dict[str, Path] = {}
    for archive in options.archives or [Path("dist")]:
        for name in push_archives([archive], Path(), own_table(Path(), archive), given, TYPED, taken, ctx):
            print(name)
