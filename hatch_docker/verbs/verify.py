"""`hatch-docker verify`: rebuild an image from the lock and compare the digests."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.doors import archives_of, rebuild
from hatch_docker.errors import ConfigError
from hatch_docker.verbs.common import PROJECT, declare, root_of, verbosity

if TYPE_CHECKING:
    from hatch_docker.oci.model import Image, Index
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    verify = declare(commands, "verify", "rebuild an image from the lock and compare the digests", speaks=True)
    verify.add_argument("archive", nargs="?", type=Path, metavar="ARCHIVE", help="default: the one in dist/")
    verify.add_argument("--project", default=".", metavar="DIRECTORY", help=PROJECT)
    verify.add_argument("--keep-downloads", action="store_true", help="take downloads from the cache, by hash")
    verify.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.backend import open_project
    from hatch_docker.verify import verify

    verbosity(options)
    root = root_of(options)
    builder = open_project(root, os.environ)
    archives = [options.archive] if options.archive else archives_of(builder, os.environ)
    for archive in archives:
        if not archive.is_file():
            raise ConfigError(f"there is no archive {archive}: build it, or name another")

        def remade(variables: Mapping[str, str], archive: Path = archive) -> Image | Index:
            again = open_project(root, variables)
            return rebuild(again, again.source, archive, variables)

        done = verify(archive, remade, os.environ, keep_downloads=options.keep_downloads)
        print(f"{archive}: yes, {done.digest}")
        print(f"  rebuilt as of {done.created} from the lock; taken from before: {done.reused}")
