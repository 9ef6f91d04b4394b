"""`hatch-docker load`: load an archive that was built into Docker or Podman; builds nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare, verbosity

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    what = "load an archive that was built into Docker or Podman; builds nothing"
    load = declare(commands, "load", what, speaks=True)
    load.add_argument(
        "archive", type=Path, nargs="?", default=Path("dist"), metavar="ARCHIVE", help="default: the only one in dist/"
    )
    load.add_argument("--into", choices=("docker", "podman"), default="", help="default: whichever answers")
    load.add_argument("--tag", action="append", default=[], metavar="NAME:TAG", help="instead of the archive's names")
    load.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.context import open_context
    from hatch_docker.oci.model import host_platform
    from hatch_docker.progress import megabytes, open_progress, plain
    from hatch_docker.publish import given_archive, load_archive

    told = verbosity(options)
    progress = open_progress(lambda line: print(line, file=sys.stderr), told, os.environ)
    ctx = open_context(os.environ, progress)
    loaded = load_archive(given_archive(options.archive), options.into, options.tag, host_platform(), ctx)
    sent = megabytes(loaded.sent) + " sent" if loaded.sent else "it was there"
    progress.info(f"{loaded.daemon}: {loaded.image_id}, {sent}")
    print(*map(plain, loaded.references), sep="\n")
