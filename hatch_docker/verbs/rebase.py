"""`hatch-docker rebase`: put an image that was built on a newer base; builds nothing."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.doors import archives_of, rebase_image

if TYPE_CHECKING:
    from hatch_docker.verbs import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    rebase = commands.add_parser("rebase", help="put an image that was built on a newer base; builds nothing")
    rebase.add_argument("image", nargs="?", metavar="IMAGE", help="an archive or a reference; default: that in dist/")
    rebase.add_argument("--base", default="", help="instead of the project's base, as the lock pins it")
    rebase.add_argument("--push", action="store_true", help="push it, too: back to where it came from, if to anywhere")
    rebase.add_argument("-d", "--directory", type=Path, help="where the archive goes; default: dist")
    rebase.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.backend import open_project

    given = {"HATCH_DOCKER_BASE": options.base, "HATCH_DOCKER_PINS": "none"} if options.base else {}
    given |= {"HATCH_DOCKER_PUSH": "1"} if options.push else {}
    builder = open_project(Path.cwd(), {**os.environ, **given})
    directory = options.directory or Path(builder.config.directory)
    for image in [options.image] if options.image else archives_of(builder, os.environ):
        receipt = rebase_image(builder, str(image), directory, {**os.environ, **given})
        print(*(receipt.pushed or [os.path.relpath(directory / receipt.archive)]), sep="\n")  # noqa: T201
