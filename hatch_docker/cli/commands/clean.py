"""`hatch-docker clean`: limit the cache by age and size, or empty it."""

import argparse
import os

from hatch_docker.cli.common import Commands, declare, non_negative, print_lines
from hatch_docker.core.cache.prune import GRACE, MAX_AGE, MAX_BYTES, prune
from hatch_docker.core.context import open_context
from hatch_docker.core.progress import silent

DAY = 24 * 3600
EXAMPLES = (
    ("hatch-docker clean --max-age 7 --max-size 2", "keep at most 2 GB, used in the last week"),
    ("hatch-docker clean --all", "empty the cache"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    clean = declare(commands, "clean", "limit the cache by age and size, or empty it", run, examples=EXAMPLES)
    for option, default, unit in (("--max-age", MAX_AGE / DAY, "DAYS"), ("--max-size", MAX_BYTES / 1e9, "GB")):
        clean.add_argument(option, type=non_negative, default=default, metavar=unit, help="default: %(default)s")
    clean.add_argument("--all", action="store_true", help="remove everything that no build used in the last minute")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    store = open_context(os.environ, silent()).store
    limit, time, grace = int(options.max_size * 1e9), "hour", GRACE
    if options.all:
        limit, time, grace = 0, "minute", 60
    pruned = prune(store, max_age=0 if options.all else options.max_age * DAY, max_bytes=limit, grace=grace)
    removed, kept, used = (size / 1e6 for size in (pruned.removed_bytes, pruned.kept_bytes, pruned.used_bytes))
    lines = [f"{store.root}: removed {pruned.removed} entries, {removed:.1f} MB; {kept:.1f} MB remain"]
    if pruned.kept_bytes > limit:
        lines.append(f"{used:.1f} MB of them were used within the last {time}: a build may still be reading them")
    print_lines(lines)
