"""`hatch-docker diff`: what differs between two images."""

import argparse

from hatch_docker.cli.common import IMAGE, Commands, add_image_options, declare, print_json, print_lines, stderr_context


def add(commands: Commands) -> None:
    """Declare the command."""
    diff = declare(commands, "diff", "show what differs between two images", run)
    diff.add_argument("old", metavar="A", help=IMAGE)
    diff.add_argument("new", metavar="B", help="the other image, named in the same ways")
    add_image_options(diff)
    diff.add_argument("--files", action="store_true", help="list every file, those of changed packages too")
    diff.add_argument("--exit-code", action="store_true", help="exit with status 1 if the images differ")


def run(options: argparse.Namespace) -> int:
    """Run the command; return 1 if the images differ and --exit-code is given."""
    from hatch_docker.cli.inspect.diff import compare, diff_document, diff_lines
    from hatch_docker.cli.inspect.named_image import open_image, read_image
    from hatch_docker.oci.diff import differences

    ctx = stderr_context()
    with (
        open_image(options.old, options.platform, ctx) as (old, old_image),
        open_image(options.new, options.platform, ctx) as (new, new_image),
    ):
        one = read_image(options.old, old, old_image, hashed=True)
        other = read_image(options.new, new, new_image, hashed=True)
        found = compare(one.contents, other.contents)
        if options.json:
            print_json(diff_document(one, other, found))
        else:
            print_lines(diff_lines(one, other, found, files=options.files))
            if not found:  # times, the order of members, compression: nothing that a user of the image sees
                print_lines(f"  but {line}" for line in differences(old_image, new_image))
    return int(options.exit_code and old_image.digest != new_image.digest)
