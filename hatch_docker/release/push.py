"""An image pushed to its registries, all at once: what each of them got, and an error that names those that failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.at_once import at_once
from hatch_docker.core.beside import started
from hatch_docker.core.cache.store import DamagedBlobError, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, HatchDockerError, RegistryError, TransientError
from hatch_docker.core.secrets import mark
from hatch_docker.core.text import abbreviate, counted, megabytes
from hatch_docker.core.validation import Line
from hatch_docker.oci.model import Image, Index, digest_of, images_of
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.plan.model import SignPlan

if TYPE_CHECKING:
    from hatch_docker.oci.push import FindRepository, Pushed, Target
    from hatch_docker.oci.registry import Remote

KIND = "pushed"  # the repository of a registry that got a blob, by registry and digest
THERE = "there"  # the digests of blobs that a repository has since an earlier push, the newest first
MOST = 1000      # of them


@dataclass(frozen=True, slots=True)
class PushResult:
    """The push to one repository. `sent` is in bytes, without those that cosign sent; `mounted` counts blobs.

    `attached` counts the documents that were new there. `error` is empty if the repository has the image under all
    its tags, and its documents; a `transient` error may not happen again.
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
"""Functions to be called when everything else is done, by the references of the pushes that they belong to."""

OnPushed = Callable[["Target"], Sequence[int]]
"""A function that adds documents and signatures to a repository that has the image. Returns the bytes sent for each."""


def check_destinations(repositories: Sequence[str], image: str, dirty: Sequence[str], *, allow_dirty: bool) -> None:
    """Raise ConfigError if an image has no registry, or must not be pushed; `dirty` are paths that no commit has."""
    if not repositories:
        raise ConfigError(
            f"tool.hatch-docker.registries: a push needs a registry, and image {image!r} names none; "
            f'set registries = ["registry.example"], or image = "registry.example/{image}"'
        )
    if dirty and not allow_dirty:
        raise ConfigError(
            f"the image is not pushed, because it holds uncommitted changes: {abbreviate(dirty)}; commit or ignore "
            "that, or set allow-dirty = true (HATCH_DOCKER_ALLOW_DIRTY=1)"
        )


def check_push(
    repositories: Sequence[str], image: str, dirty: Sequence[str], sign: SignPlan | None, root: Path, ctx: Context, *,
    allow_dirty: bool,
) -> None:  # fmt: skip
    """Raise what a push would end with, or its signing with a key below `root`, as far as that can be known before.

    The passwords that it takes become secrets that the image must not hold.
    """
    check_destinations(repositories, image, dirty, allow_dirty=allow_dirty)
    if sign is not None:
        from hatch_docker.release.cosign import check_signing

        check_signing(sign, root, ctx.environ)
    add_push_secrets(repositories, sign, ctx)


def add_push_secrets(repositories: Sequence[str], sign: SignPlan | None, ctx: Context) -> None:
    """Add the passwords of a push and the secrets of its signatures to those that the image must not hold."""
    from hatch_docker.oci.auth import credential_for, login_files

    if sign is not None:
        from hatch_docker.release.cosign import signing_secrets

        for what, value in signing_secrets(sign, ctx.environ):
            ctx.secrets.add(what, value)
    # A login after the image was made and searched adds a file, or changes the password in it.
    files = []
    for path in login_files(ctx.environ):
        with contextlib.suppress(OSError):
            files.append(f"{path} {mark(path.read_bytes())}")

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
    """Push an image to some repositories under some tags: registries side by side, those of one registry in order.

    A registry receives a blob once; its other repositories mount it. `mount` are references to images that are known
    to have some blobs, by their digests: the base's. `on_pushed` adds documents and signatures; with `made`, the
    digests of layers that were just made, it runs while the image is pushed. `remote` has the sessions that were opened
    before (`release.sessions`). With `later` the caller calls `end_pushes`, after other work. A failure stops no other
    registry: look at each result's `error`, or call `push_error`.
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
    remote.sessions.clear()  # what is pushed while these are cancelled opens sessions of its own
    closing = started(partial(close_sessions, unused))
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
    """Do what was left for the end of some pushes, and return their results, with an error where it failed."""

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
    """Return the line that says where an image is pushed to."""
    return f"pushing to {', '.join(repositories)}"


def pushed_line(result: PushResult) -> str:
    """Return the line that says what a repository got, and in how many seconds if it got anything."""
    mounted = f", {counted(result.mounted, 'blob')} mounted" if result.mounted else ""
    attached = f", {counted(result.attached, 'document')} attached" if result.attached else ""
    moved = f"{megabytes(result.sent)} sent{mounted}{attached}, {result.seconds:.1f} s"
    done = f"{', '.join(result.tags)} ({moved if result.sent or result.mounted else 'already there'})"
    return f"{result.reference.partition('@')[0]}: {'not pushed' if result.error else done}"


def push_error(results: Iterable[PushResult]) -> HatchDockerError | None:
    """Return the error for the pushes that failed, which names those that did not; None if none failed.

    It is a TransientError only if all failures are transient.
    """
    failed = [result for result in results if result.error]
    if not failed:
        return None
    kind = TransientError if all(result.transient for result in failed) else RegistryError
    pushed = [result.reference for result in results if not result.error]
    text = "\n".join(result.error for result in failed)
    return kind(f"{text}\npushed in spite of that: {', '.join(pushed)}" if pushed else text)


def _to_registry(
    remote: Remote, item: Image | Index, group: Sequence[Sequence[Reference]], ctx: Context,
    mount: Mapping[str, str], on_pushed: OnPushed, made: frozenset[str] | None, later: Later | None,
) -> list[PushResult]:
    """Push to the repositories of one registry, one after the other: each mounts blobs of those before it."""
    registry = group[0][0].registry
    complete: list[str] = []  # repositories that have the whole image

    def find(digest: str) -> str:
        """Return a repository that has a blob: with the whole image, the base's, or of an earlier build; else ""."""
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
    there: list[str] = ctx.store.recall(THERE, key) or []
    waiting = later.setdefault(name, []) if later is not None else None
    target = Target(remote, replace(first, tag="", digest=""), find, frozenset(there), later=waiting)
    if made and config and config not in there:
        target = replace(target, new=True, made=made | {config})
    try:
        try:
            pushed, attached, tagged = _deliver(target, item, tags, ctx, on_pushed, together=bool(made))
        except RegistryError:
            if not there:
                raise
            # The registry may have removed what it had: now it is asked for everything.
            target = replace(target, known=frozenset(), made=frozenset(), new=False)
            pushed, attached, tagged = _deliver(target, item, tags, ctx, on_pushed, together=False)
    except DamagedBlobError:
        raise  # the build makes the blob again, and then pushes again
    except HatchDockerError as error:
        return _failed(PushResult(name, tags, seconds=round(time.perf_counter() - started, 3)), error)
    note_accepted(first, ctx)
    if not blobs <= set(there):
        ctx.store.remember(THERE, key, [*sorted(blobs), *(digest for digest in there if digest not in blobs)][:MOST])
    for digest in pushed.arrived:
        ctx.store.remember(KIND, key_of(first.registry, digest), first.repository)
    sent = pushed.sent + sum(attached) + tagged
    return PushResult(name, tags, sent, pushed.mounted, round(time.perf_counter() - started, 3), len(attached))


def _deliver(
    target: Target, item: Image | Index, tags: Sequence[str], ctx: Context, on_pushed: OnPushed, *, together: bool
) -> tuple[Pushed, Sequence[int], int]:
    """Push an item, add its documents, and tag it; return what was pushed, and the bytes sent for documents and tags.

    `together` adds the documents while the blobs are pushed. The tags come last in any case: an image that is pulled by
    a tag then has its documents and signatures.
    """
    from hatch_docker.oci.push import push_blobs, put_tags

    with ctx.progress.task(f"pushing to {target.name.name}", part=True) as task:
        if together and target.new:
            work: list[Callable[[], Any]] = [
                partial(push_blobs, target, item, task, manifest=False), partial(on_pushed, target),
            ]  # fmt: skip
            pushed, attached = at_once(*work)
        else:
            pushed = push_blobs(target, item, task)
            attached = on_pushed(target)
        return pushed, attached, put_tags(target, item, tags)


def _blobs(item: Image | Index) -> tuple[set[str], str]:
    """Return the digests of the blobs of an item, and that of an image's configuration, "" for an index."""
    from hatch_docker.oci.manifest import parse_manifest
    from hatch_docker.oci.referrers import EMPTY

    blobs, config = {digest_of(EMPTY)}, ""
    for image in images_of(item):
        config = parse_manifest(image.manifest, image.digest).config.digest
        blobs |= {config, *(layer.descriptor.digest for layer in image.layers)}
    return blobs, config if isinstance(item, Image) else ""
