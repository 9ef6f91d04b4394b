"""`hatch-docker why`: who asks for a package, and what it costs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare
from hatch_docker.verbs.inspect import IMAGE, as_json, open_quietly

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    why = declare(commands, "why", "tell who asks for a package in an image, and what it costs")
    why.add_argument("package", metavar="PACKAGE", help="of Python or of the system")
    why.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    why.add_argument("--platform", default="", help="of an image for several; default: this machine's")
    why.add_argument("--json", action="store_true", help="for programs, see docs/inspect.md")
    why.add_argument("--all", action="store_true", help="every chain and package, not only the first")
    why.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.contents.subject import open_subject, read_subject
    from hatch_docker.contents.why import document, told, why
    from hatch_docker.progress import plain

    with open_subject(options.image, options.platform, open_quietly()) as (existing, image):
        contents = read_subject(options.image, existing, image).contents
        reasons = why(contents, options.package)
    if options.json:
        print(as_json(document(contents, reasons)))
        return
    for line in told(contents, reasons, every=options.all):
        print(plain(line))
