"""`hatch-docker rebase`: put an image that was built on a newer base; builds nothing."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.doors import archives_of, rebase_image
from hatch_docker.errors import ConfigError
from hatch_docker.verbs.common import PROJECT, declare, root_of, verbosity

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    rebase = declare(commands, "rebase", "put an image that was built on a newer base; builds nothing", speaks=True)
    rebase.add_argument("image", nargs="?", metavar="IMAGE", help="an archive or a reference; default: that in dist/")
    rebase.add_argument("--base", default="", help="instead of the project's base, as the lock pins it")
    rebase.add_argument("--push", action="store_true", help="push it, too: back to where it came from, if to anywhere")
    rebase.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="where the archive goes; default: dist")
    rebase.add_argument("--project", default=".", metavar="DIRECTORY", help=PROJECT)
    rebase.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.backend import open_project

    verbosity(options)
    given = {"HATCH_DOCKER_BASE": options.base, "HATCH_DOCKER_PINS": "none"} if options.base else {}
    given |= {"HATCH_DOCKER_PUSH": "1"} if options.push else {}
    try:
        builder = open_project(root_of(options), {**os.environ, **given})
        directory = options.output or Path(builder.config.directory)
        for image in [options.image] if options.image else archives_of(builder, os.environ):
            receipt = rebase_image(builder, str(image), directory, {**os.environ, **given})
            print(*(receipt.pushed or [os.path.relpath(directory / receipt.archive)]), sep="\n")
    except ConfigError as error:
        if not options.base:
            raise
        raise ConfigError(str(error).replace("HATCH_DOCKER_BASE:", "--base:")) from error
