"""`hatch-docker inspect`: what an image consists of, as text, as JSON, or as a page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.verbs.common import Verbs

IMAGE = (
    "an archive (default: the only one in dist/), oci:DIRECTORY (a layout), docker:NAME or podman:NAME (a daemon's), "
    "else a name in a registry"
)


def add(commands: Verbs) -> None:
    """Declare the command."""
    inspect = declare(commands, "inspect", "tell what an image consists of: layers, packages, files, settings")
    inspect.add_argument("image", nargs="?", default="dist", metavar="IMAGE", help=IMAGE)
    inspect.add_argument("--platform", default="", help="of an image for several; default: this machine's")
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs, see docs/inspect.md")
    form.add_argument("--html", type=Path, metavar="FILE", help="write it as a page that needs nothing but itself")
    inspect.add_argument("--files", action="store_true", help="the largest files, too")
    inspect.add_argument("--all", action="store_true", help="every package and file, not only the largest")
    inspect.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.contents.document import document
    from hatch_docker.contents.subject import open_subject, read_subject
    from hatch_docker.contents.told import told
    from hatch_docker.progress import plain

    ctx = open_quietly()
    with open_subject(options.image, options.platform, ctx) as (existing, image):
        subject = read_subject(options.image, existing, image)
        if options.html:
            from hatch_docker.contents.page import page
            from hatch_docker.outputs import replacing

            with replacing(options.html) as stream:
                stream.write(page(subject, existing.receipt))
            print(plain(str(options.html)))
            return
        if options.json:
            print(as_json(document(subject, files=options.files)))
            return
        for line in told(subject, files=options.files, every=options.all):
            print(plain(line))


def open_quietly() -> Context:
    """A context whose words go to standard error, where they are not in the way of what is asked for."""
    from hatch_docker.context import open_context
    from hatch_docker.progress import Progress

    return open_context(os.environ, Progress(lambda line: print(line, file=sys.stderr)))


def as_json(value: object) -> str:
    """JSON in ASCII: a name that is no text, or orders to a terminal, is escaped."""
    return json.dumps(value, indent=2)
