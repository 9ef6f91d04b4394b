"""`hatch-docker clean`: bound the cache by age and size, or empty it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hatch_docker.prune import MAX_AGE, MAX_BYTES
from hatch_docker.verbs.common import amount, declare

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs

DAY = 24 * 3600


def add(commands: Verbs) -> None:
    """Declare the command."""
    clean = declare(commands, "clean", "bound the cache by age and size, or empty it")
    clean.add_argument("--max-age", type=amount, default=MAX_AGE / DAY, metavar="DAYS", help="default: %(default)s")
    clean.add_argument("--max-size", type=amount, default=MAX_BYTES / 1e9, metavar="GB", help="default: %(default)s")
    clean.add_argument("--all", action="store_true", help="remove everything that no build has used just now")
    clean.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.context import open_context
    from hatch_docker.progress import silent
    from hatch_docker.prune import prune

    store = open_context(os.environ, silent()).store
    if options.all:
        done = prune(store, max_age=0, max_bytes=0, grace=60)
    else:
        done = prune(store, max_age=options.max_age * DAY, max_bytes=int(options.max_size * 1e9))
    removed, kept = done.removed_bytes / 1e6, done.kept_bytes / 1e6
    print(f"{store.root}: removed {done.removed} entries, {removed:.1f} MB; {kept:.1f} MB stay")
