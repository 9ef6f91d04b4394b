"""An image to its registries, all of them at once: what each got, and what to say where one failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hatch_docker.core.cache.store import DamagedBlobError, key_of
from hatch_docker.core.errors import ConfigError, HatchDockerError, RegistryError, TransientError
from hatch_docker.core.progress import counted, megabytes, some
from hatch_docker.core.records import Line

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.oci.model import Image, Index
    from hatch_docker.oci.push import Find, Target
    from hatch_docker.oci.reference import Reference
    from hatch_docker.oci.registry import Remote
    from hatch_docker.plan.model import SignPlan

Result = TypeVar("Result")

KIND = "pushed"  # which repository of a registry got a blob, by registry and digest


@dataclass(frozen=True, slots=True)
class PushResult:
    """What became of one repository. `sent` is in bytes, without what cosign sent; `mounted` counts blobs, `seconds`
    is what it took.

    `attached` counts the documents that were not there. `error` is empty where the image is there under all its tags,
    with all that goes with it; `transient` errors may pass.
    """

    reference: Line                           # registry/repository@digest
    tags: tuple[Line, ...]
    sent: int = 0
    mounted: int = 0
    seconds: float = 0.0
    attached: int = 0
    error: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class MountSource:
    """Blobs that a repository is known to have: those of the base. `reference` may be empty, if none is known."""

    reference: str = ""
    digests: frozenset[str] = frozenset()


NO_MOUNT = MountSource()
OnPushed = Callable[["Target"], Sequence[int]]
"""Brings what goes with an image into a repository that has it by then; returns the bytes sent for all that is new."""


def nothing_attached(_target: Target) -> Sequence[int]:
    """Nothing goes with the image."""
    return ()


def check_destinations(repositories: Sequence[str], image: str, dirty: Sequence[str], *, allow_dirty: bool) -> None:
    """Raise ConfigError where an image cannot or may not be pushed; `dirty` are paths that no commit has."""
    if not repositories:
        raise ConfigError(
            f"tool.hatch-docker.registries: a push needs a registry, and image {image!r} names none; "
            f'set registries = ["registry.example"], or image = "registry.example/{image}"'
        )
    if dirty and not allow_dirty:
        raise ConfigError(
            f"the image is not pushed, since no commit has what is in it: {some(dirty)}; commit or ignore that, or set "
            "allow-dirty = true (HATCH_DOCKER_ALLOW_DIRTY=1)"
        )


def add_push_secrets(repositories: Sequence[str], sign: SignPlan | None, ctx: Context) -> None:
    """Let what is pushed be searched for what a push is let in with, and signs with."""
    from hatch_docker.core.secrets import mark
    from hatch_docker.oci.auth import login_files

    if sign is not None:
        from hatch_docker.release.cosign import signing_secrets

        for what, value in signing_secrets(sign, ctx.environ):
            ctx.secrets.add(what, value)
    # Who logged in after the image was made and searched has a file more, or another password in it.
    files = []
    for path in login_files(ctx.environ):
        with contextlib.suppress(OSError):
            files.append(f"{path} {mark(path.read_bytes())}")
    ctx.secrets.later(f"pushing to {', '.join(repositories)} by {files}", lambda: _logins(repositories, ctx))


def _logins(repositories: Sequence[str], ctx: Context) -> Iterator[tuple[str, str]]:
    from hatch_docker.oci.auth import credential_for
    from hatch_docker.oci.reference import parse_reference

    for name in map(parse_reference, repositories):
        if credential := credential_for(name.registry, ctx.environ, name.repository):
            yield f"the password of {name.registry}", credential.password or credential.identity_token


def push_to_all(
    item: Image | Index, repositories: Sequence[str], tags: Sequence[str], ctx: Context, *,
    mount: MountSource = NO_MOUNT, on_pushed: OnPushed = nothing_attached,
) -> tuple[PushResult, ...]:
    """Push an image to some repositories under some tags: registries side by side, those of one in their order.

    A registry is sent a blob once; its other repositories mount it. `follow` brings along what goes with the image.
    What fails stops no other registry: look at each delivery's `error`, or call `failure`.
    """
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote

    remote = Remote(ctx.client, ctx.environ)
    names = [[parse_reference(f"{repository}:{tag}") for tag in tags] for repository in repositories]
    groups: dict[str, list[list[Reference]]] = {}
    for references in names:
        groups.setdefault(references[0].registry, []).append(references)
    ctx.progress.info(f"pushing to {', '.join(repositories)}")
    work = [partial(_to_registry, remote, item, group, ctx, mount, on_pushed) for group in groups.values()]
    done = {delivery.reference: delivery for one in run_concurrently(work) for delivery in one}
    deliveries = tuple(done[str(references[0].pinned(item.digest))] for references in names)
    for delivery in deliveries:
        ctx.progress.info(_line(delivery))
    return deliveries


def run_concurrently(work: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each piece of work returns, in this order; all are done at once, and the first failure is raised."""
    if len(work) < 2:
        return [one() for one in work]  # a push that sends nothing takes less time than the import of the pool
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(lambda one: one(), work))


def push_error(deliveries: Iterable[PushResult]) -> HatchDockerError | None:
    """The error for what failed, with what did not; transient only where nothing else went wrong."""
    failed = [delivery for delivery in deliveries if delivery.error]
    if not failed:
        return None
    kind = TransientError if all(delivery.transient for delivery in failed) else RegistryError
    there = [delivery.reference for delivery in deliveries if not delivery.error]
    text = "\n".join(delivery.error for delivery in failed)
    return kind(f"{text}\npushed in spite of that: {', '.join(there)}" if there else text)


def _to_registry(
    remote: Remote, item: Image | Index, group: Sequence[Sequence[Reference]], ctx: Context, mount: MountSource,
    on_pushed: OnPushed,
) -> list[PushResult]:
    """The repositories of one registry, one after the other: each may mount what the one before it has got."""
    whole: list[str] = []
    deliveries = []
    for references in group:
        find = _finder(references[0].registry, whole, ctx, mount)
        delivery = _to_repository(remote, item, references, ctx, find, on_pushed)
        if not delivery.error:
            whole.append(references[0].repository)
        deliveries.append(delivery)
    return deliveries


def _finder(registry: str, whole: Sequence[str], ctx: Context, mount: MountSource) -> Find:
    """Who has a blob: a repository that has the whole image, the base's, or one that an earlier build pushed to."""
    from hatch_docker.oci.reference import parse_reference

    base = parse_reference(mount.reference) if mount.reference else None

    def find(digest: str) -> str:
        if whole:
            return whole[0]
        if base and base.registry == registry and digest in mount.digests:
            return base.repository
        return str(ctx.store.recall(KIND, key_of(registry, digest)) or "")

    return find


def _to_repository(
    remote: Remote, item: Image | Index, references: Sequence[Reference], ctx: Context, find: Find, on_pushed: OnPushed
) -> PushResult:
    from hatch_docker.oci.push import Target, push, put_tags

    started = time.perf_counter()
    first = references[0]
    name, tags = str(first.pinned(item.digest)), tuple(reference.tag for reference in references)
    target = Target(remote, replace(first, tag="", digest=""), find)
    try:
        # The tags last: who pulls by one finds all that goes with the image.
        with ctx.progress.task(f"pushing to {first.name}", part=True) as task:
            pushed = push(remote, item, [first.pinned(item.digest)], find=find, task=task)
            attached = on_pushed(target)
            tagged = put_tags(target, item, tags)
    except DamagedBlobError:
        raise  # it is made anew, and then pushed
    except HatchDockerError as error:
        took = time.perf_counter() - started
        transient = error.exit_status == TransientError.exit_status
        return PushResult(name, tags, seconds=round(took, 3), error=str(error), transient=transient)
    for digest in pushed.arrived:
        ctx.store.remember(KIND, key_of(first.registry, digest), first.repository)
    sent = pushed.sent + sum(attached) + tagged
    return PushResult(name, tags, sent, pushed.mounted, round(time.perf_counter() - started, 3), len(attached))


def _line(delivery: PushResult) -> str:
    name = delivery.reference.partition("@")[0]
    if delivery.error:
        return f"{name}: not pushed"
    sent = f"{megabytes(delivery.sent)} sent" if delivery.sent or delivery.mounted else "it was there"
    mounted = f", {counted(delivery.mounted, 'blob')} mounted" if delivery.mounted else ""
    attached = f", {counted(delivery.attached, 'document')} attached" if delivery.attached else ""
    return f"{name}: {', '.join(delivery.tags)} ({sent}{mounted}{attached}, {delivery.seconds:.1f} s)"
