"""`hatch-docker why`: show what requires a package of an image, and how much space it takes."""

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
    from hatch_docker.cli.inspect.named_image import open_image, read_image
    from hatch_docker.cli.inspect.why import find_reasons, why_document, why_lines

    with open_image(options.image, options.platform, stderr_context()) as (existing, image):
        contents = read_image(options.image, existing, image).contents
        reasons = find_reasons(contents, options.package)
    if options.json:
        print_json(why_document(contents, reasons))
    else:
        print_lines(why_lines(contents, reasons, every=options.all))
