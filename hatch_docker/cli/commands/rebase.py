"""`hatch-docker rebase`: replace the base of an image with a newer one."""

import argparse
import os

from hatch_docker.build.failures import naming_typed_options
from hatch_docker.cli.common import (
    Commands,
    add_project,
    declare,
    output_directory,
    print_lines,
    project_root,
    set_verbosity,
)
from hatch_docker.core.files import temporary_directory

EXAMPLES = (
    ("hatch-docker rebase", "the archive in dist/"),
    ("hatch-docker rebase registry.example/shop:1.2 --push", "an image in a registry"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "move a built image to a newer base, without a new build"
    rebase = declare(commands, "rebase", summary, run, verbosity=True, examples=EXAMPLES)
    rebase.add_argument(
        "image", nargs="?", metavar="IMAGE",
        help="an archive, or the name of an image in a registry; default: the archive in dist/",
    )
    rebase.add_argument("--base", default="", help="the new base; default: the project's base, as pinned by the lock")
    rebase.add_argument("--push", action="store_true", help="also push the result, to the repository of the image")
    rebase.add_argument("-o", "--output", type=output_directory, metavar="DIRECTORY",
                        help="the directory for the archive; default: dist")  # fmt: skip
    add_project(rebase, option=True)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.build.api import archives_of, rebase_image
    from hatch_docker.build.project import open_project

    set_verbosity(options)
    variables = {"HATCH_DOCKER_BASE": options.base, "HATCH_DOCKER_PINS": "none"} if options.base else {}
    environ = {**os.environ, **variables, **({"HATCH_DOCKER_PUSH": "1"} if options.push else {})}
    spellings = {"HATCH_DOCKER_BASE": "--base"} if options.base else {}
    with naming_typed_options(spellings), temporary_directory() as temporary:
        project = open_project(project_root(options), environ, temporary)
        directory = options.output or project.output()
        for image in [options.image] if options.image else archives_of(project, os.environ):
            receipt = rebase_image(project, str(image), directory, environ)
            print_lines(receipt.pushed or [os.path.relpath(directory / receipt.archive)])
