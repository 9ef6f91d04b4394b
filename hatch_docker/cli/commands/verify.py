"""`hatch-docker verify` and `verify-signature`: rebuild an image and compare the digests; check its signature."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.cli.common import Commands, add_project, declare, print_lines, project_root, set_verbosity
from hatch_docker.core.context import open_context
from hatch_docker.core.errors import BuildError, ConfigError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.progress import silent

if TYPE_CHECKING:
    from hatch_docker.project.model import Project

EXAMPLES = {
    "verify": (
        ("hatch-docker verify", "rebuild the archive in dist/, and compare"),
        ("hatch-docker verify dist/shop-1.2-py3-none-any.whl", "an image that was built from a wheel"),
    ),
    "verify-signature": (("hatch-docker verify-signature registry.example/shop:1.2 --key cosign.pub", "with a key"),),
}


def add(commands: Commands) -> None:
    """Declare the commands."""
    summary = "rebuild an image from the lock and compare the digests"
    verify = declare(commands, "verify", summary, run_verify, verbosity=True, examples=EXAMPLES["verify"])
    verify.add_argument(
        "files", nargs="*", metavar="FILE",
        help="the archive, and the wheels that it was built from, if any; default: the archive in dist/",
    )
    add_project(verify, option=True)
    verify.add_argument("--keep-downloads", action="store_true", help="use downloads of the cache, by their hashes")

    summary = "check who signed an image, and for which repository (with cosign)"
    signed = declare(commands, "verify-signature", summary, run_verify_signature, examples=EXAMPLES["verify-signature"])
    signed.add_argument("reference", metavar="IMAGE", help="registry/repository:tag, or by @digest")
    signed.add_argument("--key", default="", help="the public key, in any form that cosign accepts")
    signed.add_argument("--identity", default="", help="without a key: the identity that the certificate must name")
    signed.add_argument("--issuer", default="", help="the URL of the issuer of that identity")
    signed.add_argument("--transparency-log", action="store_true", help="with --key: require it in the public log")
    signed.add_argument(
        "--signed-as", default="", metavar="REPOSITORY",
        help="for a copy in a mirror: the repository that it was signed for",
    )


def run_verify(options: argparse.Namespace) -> None:
    """Run `verify`: rebuild an image and compare the digests."""
    from hatch_docker.build.api import archives_of, rebuild
    from hatch_docker.build.given_wheels import open_wheels
    from hatch_docker.build.project import open_project
    from hatch_docker.build.verify import Rebuilt, verify

    set_verbosity(options)
    root = project_root(options)
    wheels = [Path(name).absolute() for name in options.files if name.endswith(".whl")]
    archives = [Path(name) for name in options.files if not name.endswith(".whl")]

    def open_source(environ: Mapping[str, str], temporary: Path) -> Project:
        return open_wheels(wheels, root, "pyproject.toml") if wheels else open_project(root, environ, temporary)

    if not archives:
        with temporary_directory() as temporary:
            archives = archives_of(open_source(os.environ, temporary), os.environ)
    for archive in archives:
        if not archive.is_file():
            raise ConfigError(f"there is no archive {archive}: build it, or give another path")

        def build_again(environ: Mapping[str, str], archive: Path = archive) -> Rebuilt:
            with temporary_directory() as temporary:
                return rebuild(open_source(environ, temporary), archive, environ)

        try:
            digest, created = verify(archive, build_again, os.environ, keep_downloads=options.keep_downloads)
        except BuildError as error:
            raise BuildError(f"{error}{'' if wheels else _wheel_hint(archive)}") from error
        reused = "downloads of the cache, by their hashes" if options.keep_downloads else "nothing"
        print_lines([
            f"{archive}: yes, {digest}", f"  rebuilt as of {created} from the lock; taken from before: {reused}",
        ])  # fmt: skip


def _wheel_hint(archive: Path) -> str:
    """Return a line for a different archive, if it may have been built from the wheel beside it; otherwise ""."""
    from hatch_docker.build.receipt import receipt_beside

    receipt = receipt_beside(archive)
    wheel = archive.parent / receipt.wheel.filename if receipt and receipt.wheel else None
    if wheel is None or not wheel.is_file():
        return ""
    return f"\nif it was built from the wheel, give the wheel, too: hatch-docker verify {archive} {wheel}"


def run_verify_signature(options: argparse.Namespace) -> None:
    """Run `verify-signature`: check the signature of an image."""
    from hatch_docker.oci.pull import resolve
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote
    from hatch_docker.release.cosign import Cosign
    from hatch_docker.release.sign import Trust, verify_image

    if bool(options.key) == bool(options.identity) or bool(options.identity) != bool(options.issuer):
        raise ConfigError("verify-signature: set whose signature is accepted: --key, or --identity and --issuer")
    ctx = open_context(os.environ, silent())
    reference = parse_reference(options.reference)
    digest = reference.digest or resolve(Remote(ctx.client, ctx.environ), reference, ctx.store)[0].digest
    trust = Trust(options.key, options.identity, options.issuer, options.transparency_log)
    signed = verify_image(Cosign(Path(), ctx), reference.pinned(digest), trust, signed_as=options.signed_as)
    documents = f", and so are its documents: {', '.join(signed)}" if signed else "; its documents are not signed"
    print_lines([f"{reference.pinned(digest)} is signed{documents}"])
