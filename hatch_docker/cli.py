"""`hatch-docker`, the same as `python -m hatch_docker`: what stands beside the hatch target."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker import __version__
from hatch_docker.doors import archives_of, hatchling_errors, open_plans, rebase_image, rebuild
from hatch_docker.ending import stoppable
from hatch_docker.errors import ConfigError, HatchDockerError
from hatch_docker.progress import plain
from hatch_docker.prune import MAX_AGE, MAX_BYTES

if TYPE_CHECKING:
    from hatch_docker.oci.model import Image, Index

DAY = 24 * 3600
VERBS = {
    "build": "make the image, as `hatch build -t docker` does",
    "plan": "write everything that decides the image as JSON",
    "dockerfile": "write a Dockerfile and its context",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; a HatchDockerError is one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        with stoppable(), hatchling_errors():
            options.run(options)
    except HatchDockerError as error:
        sys.stderr.write(plain(f"hatch-docker: {error}\n"))
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hatch-docker", description="Images of Python projects: `hatch build -t docker`.")
    parser.add_argument("--version", action="version", version=f"hatch-docker {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, what in VERBS.items():
        made = commands.add_parser(verb, help=what)
        made.add_argument("project", nargs="?", default=".", help="the project's directory, of any build backend")
        made.add_argument("-o", "--output", metavar="DIRECTORY", help="where to write; default: the project's dist")
        made.add_argument("-v", "--verbose", action="count", default=0, help="tell every guess and its reason")
        made.add_argument("-q", "--quiet", action="count", default=0, help="tell less")
        if verb == "build":
            made.add_argument("--push", action="store_true", help="push it, and write no archive")
        made.set_defaults(run=_make, verb=verb)
    lock = commands.add_parser("lock", help="pin what builds would ask registries, mirrors and indexes for")
    lock.add_argument("--upgrade", action="store_true", help="take the newest of everything")
    lock.add_argument("--check", action="store_true", help="only tell whether the lock does, by the exit status")
    lock.set_defaults(run=_lock)
    rebase = commands.add_parser("rebase", help="put an image that was built on a newer base; builds nothing")
    rebase.add_argument("image", nargs="?", metavar="IMAGE", help="an archive or a reference; default: that in dist/")
    rebase.add_argument("--base", default="", help="instead of the project's base, as the lock pins it")
    rebase.add_argument("--push", action="store_true", help="push it, too: back to where it came from, if to anywhere")
    rebase.add_argument("-d", "--directory", type=Path, help="where the archive goes; default: dist")
    rebase.set_defaults(run=_rebase)
    push = commands.add_parser("push", help="push an archive that was built; builds nothing")
    push.add_argument("archive", type=Path, nargs="?", default=Path("dist"), help="default: the only one in dist/")
    push.add_argument("--registry", action="append", default=[], help="a registry or a repository; several times")
    push.add_argument("--tag", action="append", default=[], help="a tag instead of those of the build; several times")
    push.add_argument("--allow-dirty", action="store_true", help="push what no commit has, too")
    push.add_argument("-q", "--quiet", action="store_true", help="tell nothing but the image's names by digest")
    push.set_defaults(run=_push)
    verify = commands.add_parser("verify", help="rebuild an image from the lock and compare the digests")
    verify.add_argument("archive", nargs="?", type=Path, metavar="ARCHIVE", help="default: the one in dist/")
    verify.add_argument("--keep-downloads", action="store_true", help="take downloads from the cache, by hash")
    verify.set_defaults(run=_verify)
    _add_verify_signature(commands)
    clean = commands.add_parser("clean", help="bound the cache by age and size, or empty it")
    clean.add_argument("--max-age", type=float, default=MAX_AGE / DAY, metavar="DAYS", help="default: %(default)s")
    clean.add_argument("--max-size", type=float, default=MAX_BYTES / 1e9, metavar="GB", help="default: %(default)s")
    clean.add_argument("--all", action="store_true", help="remove everything that no build has used just now")
    clean.set_defaults(run=_clean)
    schema = commands.add_parser("schema", help="print the JSON Schema of [tool.hatch-docker]")
    schema.set_defaults(run=_schema)
    return parser


def _make(options: argparse.Namespace) -> None:
    """What `hatch build -t docker:VERB` does, for a project of any build backend."""
    from hatch_docker.backend import open_project

    # hatchling's own way to be told, which also reaches what it starts.
    os.environ["HATCH_VERBOSE"] = str(options.verbose + int(os.environ.get("HATCH_VERBOSE", "0")))
    os.environ["HATCH_QUIET"] = str(options.quiet + int(os.environ.get("HATCH_QUIET", "0")))
    root = Path(options.project).resolve()
    output = Path(options.output).resolve() if options.output else root / "dist"
    verb = options.verb
    if verb == "build":
        verb = "push" if options.push else "image"
    builder = open_project(root, os.environ)
    for artifact in builder.build(directory=str(output), versions=[verb]):
        if sys.stdout.isatty() and builder.app.verbosity >= 0:  # elsewhere the target has said it already
            print(artifact if verb == "push" else os.path.relpath(artifact))  # noqa: T201


def _lock(options: argparse.Namespace) -> None:
    from hatch_docker.backend import open_project, read_pyproject
    from hatch_docker.lock import check, lock, open_lock
    from hatch_docker.members import with_members

    root = Path.cwd()
    if options.check:
        builder = open_project(root, os.environ)
        plans, ctx = open_plans(builder, os.environ, every=True)
        with (
            tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary,
            with_members(builder.source(Path(temporary)), plans, builder.metadata.config, ctx) as source,
        ):
            check(plans, source, ctx)
        return
    environ = {**os.environ, "HATCH_DOCKER_REFRESH": "1"}  # what is asked is asked now
    was = open_lock(root, read_pyproject(root), environ, upgrade=options.upgrade)
    builder = open_project(root, environ, pins=was.pins)
    plans, ctx = open_plans(builder, environ, pins=was.pins, every=True)
    with (
        tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary,
        with_members(builder.source(Path(temporary)), plans, builder.metadata.config, ctx) as source,
    ):
        done = lock(was, plans, source, ctx)
    for line in done.changes:
        print(line)  # noqa: T201
    print(f"{was.path.name}: {'written' if done.written else 'nothing changes'}")  # noqa: T201


def _rebase(options: argparse.Namespace) -> None:
    from hatch_docker.backend import open_project

    given = {"HATCH_DOCKER_BASE": options.base, "HATCH_DOCKER_PINS": "none"} if options.base else {}
    given |= {"HATCH_DOCKER_PUSH": "1"} if options.push else {}
    builder = open_project(Path.cwd(), {**os.environ, **given})
    directory = options.directory or Path(builder.config.directory)
    for image in [options.image] if options.image else archives_of(builder, os.environ):
        receipt = rebase_image(builder, str(image), directory, {**os.environ, **given})
        print(*(receipt.pushed or [os.path.relpath(directory / receipt.archive)]), sep="\n")  # noqa: T201


def _push(options: argparse.Namespace) -> None:
    from hatch_docker.context import open_context
    from hatch_docker.progress import Progress
    from hatch_docker.publish import push_archives

    given = {"registries": ",".join(options.registry), "tags": ",".join(options.tag)}
    given |= {"allow-dirty": "1"} if options.allow_dirty else {}
    progress = Progress(lambda line: print(line, file=sys.stderr), -1 if options.quiet else 0)  # noqa: T201
    for name in push_archives([options.archive], Path(), {}, given, open_context(os.environ, progress)):
        print(name)  # noqa: T201


def _verify(options: argparse.Namespace) -> None:
    from hatch_docker.backend import open_project
    from hatch_docker.verify import verify

    builder = open_project(Path.cwd(), os.environ)
    archives = [options.archive] if options.archive else archives_of(builder, os.environ)
    for archive in archives:
        if not archive.is_file():
            raise ConfigError(f"there is no archive {archive}: build it, or name another")

        def remade(variables: Mapping[str, str], archive: Path = archive) -> Image | Index:
            again = open_project(Path.cwd(), variables)
            return rebuild(again, again.source, archive, variables)

        done = verify(archive, remade, os.environ, keep_downloads=options.keep_downloads)
        print(f"{archive}: yes, {done.digest}")  # noqa: T201
        print(f"  rebuilt as of {done.created} from the lock; taken from before: {done.reused}")  # noqa: T201


def _add_verify_signature(commands: Any) -> None:
    verify = commands.add_parser(
        "verify-signature", help="check who signed an image, for which repository (with cosign)"
    )
    verify.add_argument("reference", help="registry/repository:tag, or by @digest")
    verify.add_argument("--key", default="", help="the public key, as cosign takes it")
    verify.add_argument("--identity", default="", help="whom the certificate must name, without a key")
    verify.add_argument("--issuer", default="", help="who vouches for that identity: a URL")
    verify.add_argument("--transparency-log", action="store_true", help="with --key: it must be in the public log")
    verify.add_argument("--signed-as", default="", metavar="REPOSITORY", help="of a mirror: what it is a copy of")
    verify.set_defaults(run=_verify_signature)


def _verify_signature(options: argparse.Namespace) -> None:
    from hatch_docker.context import open_context
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote, resolve
    from hatch_docker.progress import silent
    from hatch_docker.release.cosign import Cosign
    from hatch_docker.release.sign import Trust, verify_image

    if bool(options.key) == bool(options.identity and options.issuer):
        raise ConfigError("verify-signature: say whose signature it must be, with --key, or --identity and --issuer")
    ctx = open_context(os.environ, silent())
    reference = parse_reference(options.reference)
    digest = reference.digest or resolve(Remote(ctx.client, ctx.environ), reference, ctx.store)[0].digest
    trust = Trust(options.key, options.identity, options.issuer, options.transparency_log)
    signed = verify_image(Cosign(Path(), ctx), reference.pinned(digest), trust, signed_as=options.signed_as)
    also = f", and so are its documents: {', '.join(signed)}" if signed else "; none of its documents is"
    print(f"{reference.pinned(digest)} is signed{also}")  # noqa: T201


def _clean(options: argparse.Namespace) -> None:
    from hatch_docker.context import open_context
    from hatch_docker.progress import silent
    from hatch_docker.prune import prune

    store = open_context(os.environ, silent()).store
    if options.all:
        done = prune(store, max_age=0, max_bytes=0, grace=60)
    else:
        done = prune(store, max_age=options.max_age * DAY, max_bytes=int(options.max_size * 1e9))
    print(  # noqa: T201
        f"{store.root}: removed {done.removed} entries, {done.removed_bytes / 1e6:.1f} MB; "
        f"{done.kept_bytes / 1e6:.1f} MB stay"
    )


def _schema(_options: argparse.Namespace) -> None:
    from hatch_docker.config_docs import schema

    print(json.dumps(schema(), indent=2))  # noqa: T201
