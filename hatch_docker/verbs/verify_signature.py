"""`hatch-docker verify-signature`: who signed an image, for which repository."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import ConfigError
from hatch_docker.verbs.common import declare

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    verify = declare(commands, "verify-signature", "check who signed an image, for which repository (with cosign)")
    verify.add_argument("reference", metavar="IMAGE", help="registry/repository:tag, or by @digest")
    verify.add_argument("--key", default="", help="the public key, as cosign takes it")
    verify.add_argument("--identity", default="", help="whom the certificate must name, without a key")
    verify.add_argument("--issuer", default="", help="who vouches for that identity: a URL")
    verify.add_argument("--transparency-log", action="store_true", help="with --key: it must be in the public log")
    verify.add_argument("--signed-as", default="", metavar="REPOSITORY", help="of a mirror: what it is a copy of")
    verify.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.context import open_context
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote, resolve
    from hatch_docker.progress import silent
    from hatch_docker.release.cosign import Cosign
    from hatch_docker.release.sign import Trust, verify_image

    if bool(options.key) == bool(options.identity) or bool(options.identity) != bool(options.issuer):
        raise ConfigError("verify-signature: say whose signature it must be, with --key, or --identity and --issuer")
    ctx = open_context(os.environ, silent())
    reference = parse_reference(options.reference)
    digest = reference.digest or resolve(Remote(ctx.client, ctx.environ), reference, ctx.store)[0].digest
    trust = Trust(options.key, options.identity, options.issuer, options.transparency_log)
    signed = verify_image(Cosign(Path(), ctx), reference.pinned(digest), trust, signed_as=options.signed_as)
    also = f", and so are its documents: {', '.join(signed)}" if signed else "; none of its documents is"
    print(f"{reference.pinned(digest)} is signed{also}")
