"""`hatch-docker clean`: bound the cache by age and size, or empty it."""

import argparse
import os

from hatch_docker.cli.common import Commands, declare, non_negative, print_lines
from hatch_docker.core.cache.prune import MAX_AGE, MAX_BYTES

DAY = 24 * 3600


def add(commands: Commands) -> None:
    """Declare the command."""
    clean = declare(commands, "clean", "bound the cache by age and size, or empty it", run)
    for option, default, unit in (("--max-age", MAX_AGE / DAY, "DAYS"), ("--max-size", MAX_BYTES / 1e9, "GB")):
        clean.add_argument(option, type=non_negative, default=default, metavar=unit, help="default: %(default)s")
    clean.add_argument("--all", action="store_true", help="remove everything that no build used in the last minute")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.core.cache.prune import prune
    from hatch_docker.core.context import open_context
    from hatch_docker.core.progress import silent

    store = open_context(os.environ, silent()).store
    if options.all:
        pruned = prune(store, max_age=0, max_bytes=0, grace=60)
    else:
        pruned = prune(store, max_age=options.max_age * DAY, max_bytes=int(options.max_size * 1e9))
    removed, kept = pruned.removed_bytes / 1e6, pruned.kept_bytes / 1e6
    print_lines([f"{store.root}: removed {pruned.removed} entries, {removed:.1f} MB; {kept:.1f} MB remain"])
