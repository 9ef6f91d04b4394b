"""`hatch-docker verify-signature`: check who signed an image, and for which repository."""

import argparse
import os
from pathlib import Path

from hatch_docker.cli.common import Commands, declare, print_lines
from hatch_docker.core.errors import ConfigError


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "check who signed an image, and for which repository (with cosign)"
    verify = declare(commands, "verify-signature", summary, run)
    verify.add_argument("reference", metavar="IMAGE", help="registry/repository:tag, or by @digest")
    verify.add_argument("--key", default="", help="the public key, in any form that cosign accepts")
    verify.add_argument("--identity", default="", help="without a key: the identity that the certificate must name")
    verify.add_argument("--issuer", default="", help="the URL of the issuer of that identity")
    verify.add_argument("--transparency-log", action="store_true", help="with --key: require it in the public log")
    verify.add_argument("--signed-as", default="", metavar="REPOSITORY", help="of a mirror: the repository it copies")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.core.context import open_context
    from hatch_docker.core.progress import silent
    from hatch_docker.oci.pull import resolve
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote
    from hatch_docker.release.cosign import Cosign
    from hatch_docker.release.sign import Trust, verify_image

    if bool(options.key) == bool(options.identity) or bool(options.identity) != bool(options.issuer):
        raise ConfigError("verify-signature: say whose signature is accepted, by --key, or by --identity and --issuer")
    ctx = open_context(os.environ, silent())
    reference = parse_reference(options.reference)
    digest = reference.digest or resolve(Remote(ctx.client, ctx.environ), reference, ctx.store)[0].digest
    trust = Trust(options.key, options.identity, options.issuer, options.transparency_log)
    signed = verify_image(Cosign(Path(), ctx), reference.pinned(digest), trust, signed_as=options.signed_as)
    documents = f", and so are its documents: {', '.join(signed)}" if signed else "; none of its documents is"
    print_lines([f"{reference.pinned(digest)} is signed{documents}"])
