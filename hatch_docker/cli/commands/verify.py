"""`hatch-docker verify`: rebuild an image from the lock and compare the digests."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from hatch_docker.build.api import archives_of, rebuild
from hatch_docker.cli.common import Commands, add_project, declare, print_lines, project_root, set_verbosity
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import temporary_directory


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "rebuild an image from the lock and compare the digests"
    verify = declare(commands, "verify", summary, run, verbosity=True)
    verify.add_argument("archive", nargs="?", type=Path, metavar="ARCHIVE", help="default: the one in dist/")
    add_project(verify, option=True)
    verify.add_argument("--keep-downloads", action="store_true", help="take downloads from the cache, by their hashes")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.build.project import open_project
    from hatch_docker.build.verify import verify
    from hatch_docker.oci.model import Image, Index

    set_verbosity(options)
    root = project_root(options)
    archives = [options.archive]
    if options.archive is None:
        with temporary_directory() as temporary:
            archives = archives_of(open_project(root, os.environ, temporary), os.environ)
    for archive in archives:
        if not archive.is_file():
            raise ConfigError(f"there is no archive {archive}: build it, or name another")

        def build_again(environ: Mapping[str, str], archive: Path = archive) -> Image | Index:
            with temporary_directory() as temporary:
                return rebuild(open_project(root, environ, temporary), archive, environ)

        digest, created = verify(archive, build_again, os.environ, keep_downloads=options.keep_downloads)
        reused = "downloads of the cache, by their hashes" if options.keep_downloads else "nothing"
        print_lines([
            f"{archive}: yes, {digest}", f"  rebuilt as of {created} from the lock; taken from before: {reused}",
        ])  # fmt: skip
