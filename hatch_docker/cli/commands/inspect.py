"""`hatch-docker inspect`: show the contents of an image as text, as JSON or as an HTML page."""

import argparse
from pathlib import Path

from hatch_docker.cli.common import IMAGE, Commands, add_json, declare, print_json, print_lines, stderr_context


def add(commands: Commands) -> None:
    """Declare the command."""
    inspect = declare(commands, "inspect", "show what is in an image: layers, packages, files, settings", run)
    inspect.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    inspect.add_argument("--platform", default="", help="of an image for several; default: this machine's")
    form = inspect.add_mutually_exclusive_group()
    add_json(form, "docs/inspect.md")
    form.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page that needs no other file")
    inspect.add_argument("--files", action="store_true", help="show the largest files, too")
    inspect.add_argument("--all", action="store_true", help="show every package and file, not only the largest")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.cli.inspect.document import document
    from hatch_docker.cli.inspect.named_image import open_image, read_image
    from hatch_docker.cli.inspect.text import inspect_lines

    with open_image(options.image, options.platform, stderr_context()) as (existing, image):
        named = read_image(options.image, existing, image)
        if options.html:
            from hatch_docker.cli.inspect.html.page import page
            from hatch_docker.core.files import atomic_write

            with atomic_write(options.html) as stream:
                stream.write(page(named, existing.receipt))
            print_lines([str(options.html)])
        elif options.json:
            print_json(document(named, files=options.files))
        else:
            print_lines(inspect_lines(named, files=options.files, every=options.all))
