"""`hatch-docker load`: load an archive into Docker or Podman."""

import argparse
from pathlib import Path

from hatch_docker.cli.common import Commands, declare, print_lines, stderr_context
from hatch_docker.core.text import megabytes

EXAMPLES = (
    ("hatch-docker load", "the archive in dist/"),
    ("hatch-docker load --tag shop:test --into podman", "under another name, into Podman"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "load a built archive into Docker or Podman"
    load = declare(commands, "load", summary, run, verbosity=True, examples=EXAMPLES)
    load.add_argument(
        "archive", type=Path, nargs="?", default=Path("dist"), metavar="ARCHIVE",
        help="the archive; default: the only one in dist/",
    )
    load.add_argument("--into", choices=("docker", "podman"), default="", help="default: the first that runs")
    load.add_argument(
        "--tag", action="append", default=[], metavar="NAME:TAG",
        help="a name to replace those of the build; may be repeated",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.build.publish import load_archive, resolve_archive
    from hatch_docker.oci.model import host_platform

    ctx = stderr_context(options)
    loaded = load_archive(resolve_archive(options.archive), options.into, options.tag, host_platform(), ctx)
    sent = megabytes(loaded.sent) + " sent" if loaded.sent else "it was there"
    ctx.progress.info(f"{loaded.daemon}: {loaded.image_id}, {sent}")
    print_lines(loaded.references)
