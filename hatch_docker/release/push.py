"""Pushing an image to all its registries in parallel, with a result for each repository."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.at_once import at_once
from hatch_docker.core.beside import start_thread
from hatch_docker.core.cache.store import DamagedBlobError, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, HatchDockerError, RegistryError, TransientError
from hatch_docker.core.secrets import fingerprint
from hatch_docker.core.text import abbreviate, megabytes, plural
from hatch_docker.core.validation import Line
from hatch_docker.oci.model import Image, Index, digest_of, images_of
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.plan.model import SignPlan

if TYPE_CHECKING:
    from hatch_docker.oci.push import FindRepository, Target, UploadResult
    from hatch_docker.oci.registry import Remote

KIND = "pushed"    # facts: a repository to which a blob was pushed, by registry and digest
PRESENT = "there"  # facts: the digests of the blobs that earlier pushes left in a repository, the newest first
MOST = 1000        # the most digests in such a fact


@dataclass(frozen=True, slots=True)
class PushResult:
    """The result of a push to one repository.

    `sent`: bytes, without the uploads of cosign. `mounted`: number of blobs. `attached`: number of new documents.
    `error`: empty if the repository has the image with all its tags and documents. `transient`: a retry may succeed.
    """

    reference: Line                           # registry/repository@digest
    tags: tuple[Line, ...]
    sent: int = 0
    mounted: int = 0
    seconds: float = 0.0
    attached: int = 0
    error: str = ""
    transient: bool = False


Later = dict[str, list[Callable[[], object]]]
"""The deferred calls of each push, by its reference. `end_pushes` makes them."""

OnPushed = Callable[["Target"], Sequence[int]]
"""Function that adds documents and signatures to a repository with the image, and returns the bytes sent for each."""


def check_destinations(repositories: Sequence[str], image: str, dirty: Sequence[str], *, allow_dirty: bool) -> None:
    """Raise ConfigError if an image has no registry, or has uncommitted changes: the paths `dirty`."""
    if not repositories:
        raise ConfigError(
            f"tool.hatch-docker.registries: a push needs a registry, and image {image!r} has none; "
            f'set registries = ["registry.example"], or image = "registry.example/{image}"'
        )
    if dirty and not allow_dirty:
        raise ConfigError(
            f"the image is not pushed, because it contains uncommitted changes: {abbreviate(dirty)}; commit or ignore "
            "these files, or set allow-dirty = true (HATCH_DOCKER_ALLOW_DIRTY=1)"
        )


def check_push(
    repositories: Sequence[str], image: str, dirty: Sequence[str], sign: SignPlan | None, root: Path, ctx: Context, *,
    allow_dirty: bool,
) -> None:  # fmt: skip
    """Raise the errors of a push and of signing (with a key below `root`) that can be found before the image is built.

    Also register the passwords of the push as secrets that must not be in the image.
    """
    check_destinations(repositories, image, dirty, allow_dirty=allow_dirty)
    if sign is not None:
        from hatch_docker.release.cosign import check_signing

        check_signing(sign, root, ctx.environ)
    add_push_secrets(repositories, sign, ctx)


def add_push_secrets(repositories: Sequence[str], sign: SignPlan | None, ctx: Context) -> None:
    """Register the passwords of a push and the secrets for signing as secrets that must not be in the image."""
    from hatch_docker.oci.auth import credential_for, login_files

    if sign is not None:
        from hatch_docker.release.cosign import signing_secrets

        for what, value in signing_secrets(sign, ctx.environ):
            ctx.secrets.add(what, value)
    # The name of the source changes with the login files, so that the image is searched again after a new login.
    files = []
    for path in login_files(ctx.environ):
        with contextlib.suppress(OSError):
            files.append(f"{path} {fingerprint(path.read_bytes())}")

    def logins() -> Iterator[tuple[str, str]]:
        for name in map(parse_reference, repositories):
            if credential := credential_for(name.registry, ctx.environ, name.repository):
                yield f"the password of {name.registry}", credential.password or credential.identity_token

    ctx.secrets.add_source(f"pushing to {', '.join(repositories)} by {files}", logins)


def push_to_all(
    item: Image | Index, repositories: Sequence[str], tags: Sequence[str], ctx: Context, *,
    mount: Mapping[str, str] = {}, on_pushed: OnPushed = lambda _target: (), made: frozenset[str] | None = None,
    remote: Remote | None = None, later: Later | None = None,
) -> tuple[PushResult, ...]:
    """Push an image to some repositories with some tags: to registries in parallel, in one registry in sequence.

    A registry receives each blob once; its other repositories mount it. `mount`: digest -> reference of an image with
    this blob, for the blobs of the base. `on_pushed` adds documents and signatures. `made`: the digests of layers made
    in this build; if there are any, `on_pushed` runs in parallel with the push. `remote`: has the sessions from
    `release.sessions`. `later`: gets calls that the caller makes with `end_pushes`. Errors of one registry do not stop
    the others: see the `error` of each result, or call `push_error`.
    """
    from hatch_docker.oci.registry import Remote
    from hatch_docker.release.sessions import close_sessions

    remote = remote or Remote(ctx.client, ctx.environ)
    names = [[parse_reference(f"{repository}:{tag}") for tag in tags] for repository in repositories]
    registries: dict[str, list[list[Reference]]] = {}
    for references in names:
        registries.setdefault(references[0].registry, []).append(references)
    ctx.progress.info(pushing_line(repositories))
    results = at_once(*(
        partial(_to_registry, remote, item, group, ctx, mount, on_pushed, made, later) for group in registries.values()
    ))  # fmt: skip
    unused = replace(remote, sessions=dict(remote.sessions))
    remote.sessions.clear()  # deferred pushes must not use sessions that are being cancelled
    closing = start_thread(partial(close_sessions, unused))
    if later is None or any(result.error for group in results for result in group):
        closing.result()
    else:
        for waiting in later.values():
            waiting.append(closing.result)
    by_name = {result.reference: result for group in results for result in group}
    ordered = tuple(by_name[str(references[0].pinned(item.digest))] for references in names)
    for result in ordered:
        ctx.progress.info(pushed_line(result))
    return ordered


def end_pushes(results: Sequence[PushResult], later: Later) -> tuple[PushResult, ...]:
    """Make the deferred calls of successful pushes, and return the results, with an error if a call failed."""

    def end(result: PushResult) -> PushResult:
        try:
            for function in () if result.error else later.get(result.reference, ()):
                function()
        except HatchDockerError as error:
            return _failed(result, error)
        return result

    return tuple(at_once(*(partial(end, result) for result in results)))


def _failed(result: PushResult, error: HatchDockerError) -> PushResult:
    return replace(result, error=str(error), transient=error.exit_status == TransientError.exit_status)


def pushing_line(repositories: Sequence[str]) -> str:
    """Return the log line before a push."""
    return f"pushing to {', '.join(repositories)}"


def pushed_line(result: PushResult) -> str:
    """Return the log line about the result of a push."""
    mounted = f", {plural(result.mounted, 'blob')} mounted" if result.mounted else ""
    attached = f", {plural(result.attached, 'document')} attached" if result.attached else ""
    moved = f"{megabytes(result.sent)} sent{mounted}{attached}, {result.seconds:.1f} s"
    done = f"{', '.join(result.tags)} ({moved if result.sent or result.mounted else 'already there'})"
    return f"{result.reference.partition('@')[0]}: {'not pushed' if result.error else done}"


def push_error(results: Iterable[PushResult]) -> HatchDockerError | None:
    """Return one error for all failed pushes, which also names the successful ones; None if none failed.

    The error is a TransientError only if all failures are transient.
    """
    failed = [result for result in results if result.error]
    if not failed:
        return None
    kind = TransientError if all(result.transient for result in failed) else RegistryError
    pushed = [result.reference for result in results if not result.error]
    text = "\n".join(result.error for result in failed)
    return kind(f"{text}\npushed to the other registries: {', '.join(pushed)}" if pushed else text)


def _to_registry(
    remote: Remote, item: Image | Index, group: Sequence[Sequence[Reference]], ctx: Context,
    mount: Mapping[str, str], on_pushed: OnPushed, made: frozenset[str] | None, later: Later | None,
) -> list[PushResult]:
    """Push to the repositories of one registry in sequence, so that later ones can mount blobs of earlier ones."""
    registry = group[0][0].registry
    complete: list[str] = []  # repositories with the whole image

    def find(digest: str) -> str:
        """Return a repository with a blob: one with the whole image, the base's, or one of an earlier push; else ""."""
        if complete:
            return complete[0]
        base = parse_reference(mount[digest]) if digest in mount else None
        if base and base.registry == registry:
            return base.repository
        return str(ctx.store.recall(KIND, key_of(registry, digest)) or "")

    results = []
    for references in group:
        results.append(_to_repository(remote, item, references, ctx, find, on_pushed, made, later))
        if not results[-1].error:
            complete.append(references[0].repository)
    return results


def _to_repository(
    remote: Remote, item: Image | Index, references: Sequence[Reference], ctx: Context, find: FindRepository,
    on_pushed: OnPushed, made: frozenset[str] | None, later: Later | None,
) -> PushResult:
    from hatch_docker.oci.push import Target
    from hatch_docker.release.sessions import note_accepted

    started = time.perf_counter()
    first = references[0]
    name, tags = str(first.pinned(item.digest)), tuple(reference.tag for reference in references)
    blobs, config = _blobs(item)
    key = key_of(first.name)
    present: list[str] = ctx.store.recall(PRESENT, key) or []
    waiting = later.setdefault(name, []) if later is not None else None
    target = Target(remote, replace(first, tag="", digest=""), find, frozenset(present), later=waiting)
    if made and config and config not in present:
        target = replace(target, is_new=True, new_blobs=made | {config})
    try:
        try:
            pushed, attached, tagged = _deliver(target, item, tags, ctx, on_pushed, together=bool(made))
        except RegistryError:
            if not present:
                raise
            # The registry may have removed blobs: try again, and check for each blob whether it exists.
            target = replace(target, existing_blobs=frozenset(), new_blobs=frozenset(), is_new=False)
            pushed, attached, tagged = _deliver(target, item, tags, ctx, on_pushed, together=False)
    except DamagedBlobError:
        raise  # the caller makes the blob again, and then pushes again
    except HatchDockerError as error:
        return _failed(PushResult(name, tags, seconds=round(time.perf_counter() - started, 3)), error)
    note_accepted(first, ctx)
    if not blobs <= set(present):
        older = [digest for digest in present if digest not in blobs]
        ctx.store.remember(PRESENT, key, [*sorted(blobs), *older][:MOST])
    for digest in pushed.added:
        ctx.store.remember(KIND, key_of(first.registry, digest), first.repository)
    sent = pushed.sent + sum(attached) + tagged
    return PushResult(name, tags, sent, pushed.mounted, round(time.perf_counter() - started, 3), len(attached))


def _deliver(
    target: Target, item: Image | Index, tags: Sequence[str], ctx: Context, on_pushed: OnPushed, *, together: bool
) -> tuple[UploadResult, Sequence[int], int]:
    """Push an item, add its documents, and tag it. Return the push, the bytes sent for each document, and for tags.

    `together`: push blobs and documents in parallel. The tags always come last, so that an image which is pulled by a
    tag has its documents and signatures.
    """
    from hatch_docker.oci.push import push_blobs, put_tags

    with ctx.progress.task(f"pushing to {target.name.name}", part=True) as task:
        if together and target.is_new:
            work: list[Callable[[], Any]] = [
                partial(push_blobs, target, item, task, manifest=False), partial(on_pushed, target),
            ]  # fmt: skip
            pushed, attached = at_once(*work)
        else:
            pushed = push_blobs(target, item, task)
            attached = on_pushed(target)
        return pushed, attached, put_tags(target, item, tags)


def _blobs(item: Image | Index) -> tuple[set[str], str]:
    """Return the digests of an item's blobs, and the digest of an image's configuration, "" for an index."""
    from hatch_docker.oci.manifest import parse_manifest
    from hatch_docker.oci.referrers import EMPTY

    blobs, config = {digest_of(EMPTY)}, ""
    for image in images_of(item):
        config = parse_manifest(image.manifest, image.digest).config.digest
        blobs |= {config, *(layer.descriptor.digest for layer in image.layers)}
    return blobs, config if isinstance(item, Image) else ""
