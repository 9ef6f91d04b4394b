"""`hatch-docker diff`: what is different in one image from another."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare
from hatch_docker.verbs.inspect import IMAGE, as_json, open_quietly

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    diff = declare(commands, "diff", "tell what is different in one image from another")
    diff.add_argument("old", metavar="A", help=IMAGE)
    diff.add_argument("new", metavar="B", help="another, named in the same ways")
    diff.add_argument("--platform", default="", help="of images for several; default: this machine's")
    diff.add_argument("--json", action="store_true", help="for programs, see docs/inspect.md")
    diff.add_argument("--files", action="store_true", help="every file, those of changed packages too")
    diff.add_argument("--exit-code", action="store_true", help="end with status 1 where the images differ")
    diff.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; the status is 1 where the images differ and that was asked for."""
    from hatch_docker.contents.difference import compare, document, told
    from hatch_docker.contents.subject import open_subject, read_subject
    from hatch_docker.oci.difference import differences
    from hatch_docker.progress import plain

    ctx = open_quietly()
    with (
        open_subject(options.old, options.platform, ctx) as (old, left),
        open_subject(options.new, options.platform, ctx) as (new, right),
    ):
        one = read_subject(options.old, old, left, hashed=True)
        other = read_subject(options.new, new, right, hashed=True)
        found = compare(one.contents, other.contents)
        if options.json:
            print(as_json(document(one, other, found)))
        else:
            for line in told(one, other, found, files=options.files):
                print(plain(line))
            # What nobody sees who runs it: times, the order of members, compression.
            for line in () if found else differences(left, right):
                print(plain(f"  but {line}"))
    return int(options.exit_code and left.digest != right.digest)
