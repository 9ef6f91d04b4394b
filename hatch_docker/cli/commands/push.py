"""`hatch-docker push`: push built archives."""

import argparse
from pathlib import Path

from hatch_docker.cli.common import Commands, declare, print_lines, stderr_context

SPELLINGS = {"registries": "--registry", "tags": "--tag", "allow-dirty": "--allow-dirty"}
EXAMPLES = (
    ("hatch-docker push", "the archive in dist/, to its registry"),
    ("hatch-docker push --registry registry.example/team/shop --tag 1.2", "to another repository"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    push = declare(commands, "push", "push a built archive to its registries", run, verbosity=True, examples=EXAMPLES)
    push.add_argument("archives", type=Path, nargs="*", metavar="ARCHIVE", help="an archive; default: those in dist/")
    push.add_argument("--registry", action="append", default=[], help="a registry or a repository; may be repeated")
    push.add_argument("--tag", action="append", default=[], help="a tag to replace those of the build; may be repeated")
    push.add_argument("--allow-dirty", action="store_true", help="push even if it was built from uncommitted changes")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.build.publish import push_archives, table_for_archives

    overrides = {"registries": ",".join(options.registry), "tags": ",".join(options.tag)}
    overrides |= {"allow-dirty": "1"} if options.allow_dirty else {}
    ctx = stderr_context(options)
    names: dict[str, Path] = {}
    for archive in options.archives or [Path("dist")]:
        table = table_for_archives(Path(), archive)
        print_lines(push_archives([archive], Path(), table, overrides, SPELLINGS, names, ctx))
