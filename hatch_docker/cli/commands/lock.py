"""`hatch-docker lock`: pin everything that builds use from registries, mirrors and indexes."""

import argparse
import os

from hatch_docker.cli.common import Commands, declare, print_lines, set_verbosity
from hatch_docker.cli.source import add_source, read_source
from hatch_docker.core.context import REFRESH
from hatch_docker.core.files import temporary_directory

EXAMPLES = (
    ("hatch-docker lock", "write hatch-docker.lock, or complete it"),
    ("hatch-docker lock --upgrade", "update to the newest versions"),
    ("hatch-docker lock dist/shop-1.2-py3-none-any.whl", "for images from an existing wheel"),
    ("hatch-docker lock --check", "in a pipeline: fail if it is outdated"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "pin everything that builds take from registries, mirrors and indexes"
    lock = declare(commands, "lock", summary, run, verbosity=True, examples=EXAMPLES)
    add_source(lock)
    mode = lock.add_mutually_exclusive_group()
    mode.add_argument("--upgrade", action="store_true", help="update everything to the newest version")
    mode.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if the lock is outdated")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.build.lock import check, lock, open_lock
    from hatch_docker.build.members import with_members
    from hatch_docker.build.plans import open_plans
    from hatch_docker.project.pyproject import read_pyproject, read_toml

    set_verbosity(options)
    source = read_source(options)
    root, path = source.root, source.root / source.file
    environ, before = {**os.environ}, None
    if not options.check:
        environ[REFRESH] = "1"  # use no cached answers of earlier builds
        tables = read_pyproject(root) if not source.wheels else read_toml(path) if path.is_file() else {}
        before = open_lock(root, tables, environ, upgrade=options.upgrade)
    pins = before.pins if before else None
    with temporary_directory() as temporary:
        project = source.open(environ, temporary, pins=pins)
        plans, ctx = open_plans(project, environ, pins=pins, all_images=True)
        with with_members(project, plans, ctx) as full_project:
            if before is None:
                check(plans, full_project, ctx)
                return
            changes, written = lock(before, plans, full_project, ctx)
    print_lines([*changes, f"{before.path.name}: {'written' if written else 'nothing changes'}"])
