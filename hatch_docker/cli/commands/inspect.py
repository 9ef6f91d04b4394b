"""`hatch-docker inspect`, `why` and `diff`: the contents of images as text, as JSON or as an HTML page."""

import argparse
from pathlib import Path

from hatch_docker.cli.common import Commands, add_json, declare, print_json, print_lines, stderr_context
from hatch_docker.core.files import write_file

IMAGE = (
    "an archive (default: the only one in dist/), oci:DIRECTORY (a layout), docker:NAME or podman:NAME (an image of a "
    "daemon), or else a name in a registry"
)

EXAMPLES = {
    "inspect": (
        ("hatch-docker inspect", "the archive in dist/"),
        ("hatch-docker inspect docker:shop:1.2 --html shop.html", "an image of Docker, as a page"),
    ),
    "why": (("hatch-docker why numpy", "in the image of dist/"), ("hatch-docker why libssl3t64", "a Debian package")),
    "diff": (("hatch-docker diff registry.example/shop:1.2 dist", "the last release, and this build"),),
}


def add(commands: Commands) -> None:
    """Declare the commands."""
    inspect = declare(commands, "inspect", "show what is in an image: layers, packages, files, settings", run_inspect,
                      examples=EXAMPLES["inspect"])  # fmt: skip
    inspect.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    form = inspect.add_mutually_exclusive_group()
    _add_image_options(inspect, form)
    form.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page that needs no other file")
    inspect.add_argument("--files", action="store_true", help="show the largest files, too")
    inspect.add_argument("--all", action="store_true", help="show every package and file, not only the largest")

    summary = "show what requires a package, and how much space it takes"
    why = declare(commands, "why", summary, run_why, examples=EXAMPLES["why"])
    why.add_argument("package", metavar="PACKAGE", help="the name of a package, of Python or Debian")
    why.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    _add_image_options(why, why)
    why.add_argument("--all", action="store_true", help="show every chain and package, not only the first")

    diff = declare(commands, "diff", "show what differs between two images", run_diff, examples=EXAMPLES["diff"])
    diff.add_argument("old", metavar="A", help=IMAGE)
    diff.add_argument("new", metavar="B", help="the other image, named in the same ways")
    _add_image_options(diff, diff)
    diff.add_argument("--files", action="store_true", help="list every file, those of changed packages too")
    diff.add_argument("--exit-code", action="store_true", help="exit with status 1 if the images differ")


def _add_image_options(command: argparse.ArgumentParser, form: argparse._ActionsContainer) -> None:
    command.add_argument("--platform", default="", help="the platform of the image; default: that of this machine")
    add_json(form, "docs/inspect.md")


def run_inspect(options: argparse.Namespace) -> None:
    """Run `inspect`: print the contents of an image."""
    from hatch_docker.cli.inspect.document import document
    from hatch_docker.cli.inspect.reader import open_image
    from hatch_docker.cli.inspect.text import inspect_lines

    with open_image(options.image, options.platform, stderr_context()) as named:
        if options.html:
            from hatch_docker.cli.inspect.html.page import page

            write_file(options.html, page(named))
            print_lines([str(options.html)])
        elif options.json:
            print_json(document(named, files=options.files))
        else:
            print_lines(inspect_lines(named, files=options.files, show_all=options.all))


def run_why(options: argparse.Namespace) -> None:
    """Run `why`: print the packages that require a package."""
    from hatch_docker.cli.inspect.reader import open_image
    from hatch_docker.cli.inspect.why import find_reasons, why_document, why_lines

    with open_image(options.image, options.platform, stderr_context()) as named:
        reasons = find_reasons(named.contents, options.package)
    if options.json:
        print_json(why_document(named.contents, reasons))
    else:
        print_lines(why_lines(named.contents, reasons, show_all=options.all))


def run_diff(options: argparse.Namespace) -> int:
    """Run `diff`: print the differences between two images; with --exit-code return 1 if there are any."""
    from hatch_docker.cli.inspect.diff import compare, diff_document, diff_lines
    from hatch_docker.cli.inspect.reader import open_image
    from hatch_docker.oci.diff import differences

    ctx = stderr_context()
    with (
        open_image(options.old, options.platform, ctx, hashed=True) as old,
        open_image(options.new, options.platform, ctx, hashed=True) as new,
    ):
        found = compare(old.contents, new.contents)
        if options.json:
            print_json(diff_document(old, new, found))
        else:
            print_lines(diff_lines(old, new, found, files=options.files))
            if not found:  # other differences: times, order of tar members, compression
                print_lines(f"  but {line}" for line in differences(old.contents.image, new.contents.image))
    return int(options.exit_code and old.contents.image.digest != new.contents.image.digest)
