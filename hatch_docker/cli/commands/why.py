"""`hatch-docker why`: show what requires a package of an image, and how much space it takes."""

from __future__ import annotations

import argparse

from hatch_docker.cli.common import IMAGE, Commands, add_image_options, declare, print_json, print_lines, stderr_context


def add(commands: Commands) -> None:
    """Declare the command."""
    why = declare(commands, "why", "show what requires a package of an image, and how much space it takes", run)
    why.add_argument("package", metavar="PACKAGE", help="of Python or of the system")
    why.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    add_image_options(why)
    why.add_argument("--all", action="store_true", help="show every chain and package, not only the first")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.cli.inspect.subject import open_subject, read_subject
    from hatch_docker.cli.inspect.why import document, told, why

    with open_subject(options.image, options.platform, stderr_context()) as (existing, image):
        contents = read_subject(options.image, existing, image).contents
        reasons = why(contents, options.package)
    if options.json:
        print_json(document(contents, reasons))
    else:
        print_lines(told(contents, reasons, every=options.all))
