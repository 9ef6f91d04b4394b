"""Images and indexes to a registry: ask first, mount what it has elsewhere, send the rest, tags last.

Implements the push of the distribution-spec 1.1 (Pushing manifests, Pushing blobs, Mounting a blob).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import BinaryIO, cast
from urllib.parse import quote

from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import Response, explain
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.progress import Advance, Task, no_progress, undone_on_failure
from hatch_docker.core.streams import CountingStream
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Descriptor, Image, Index, Opener, images_of
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import ACCEPT, Remote, refuse

UPLOADS = 4  # blobs on their way at a time
# What a registry says of a manifest whose blobs it does not see yet: docker-registry while somebody else pushes one of
# them (it reads the half-written link to it), others where one of their machines lags behind.
_BEHIND = (b"DIGEST_INVALID", b"MANIFEST_BLOB_UNKNOWN")
_NONE: Mapping[str, str] = MappingProxyType({})

Find = Callable[[str], str]
"""The repository, of the target's registry, that has the blob of a digest; "" where none is known."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What one repository got. `sent` is in bytes, of blobs and of manifests; `arrived` are the digests of the
    blobs that were not there before, `mounted` counts those of them that came from another repository.
    """

    digest: str
    sent: int
    arrived: tuple[str, ...]
    mounted: int


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that is pushed to; `find` tells from where its registry may take a blob instead of from us."""

    remote: Remote
    name: Reference
    find: Find

    def scopes(self, source: str = "") -> tuple[str, ...]:
        """What a token must allow."""
        own = f"repository:{self.name.repository}:pull,push"
        return (own, f"repository:{source}:pull") if source else (own,)


def push(
    remote: Remote, item: Image | Index, references: Sequence[Reference], *, find: Find = lambda _digest: "",
    task: Task | None = None,
) -> Pushed:
    """Bring an image or index into the repository of some references: blobs, four at a time, then manifests, and
    the tags last.

    What the repository has is not sent, and a layer that need not be sent is never opened; what the registry has
    in another repository that `find` knows is mounted. `task` is told of the bytes that are sent. Raises RegistryError
    or TransientError, which say what is already there: a push that is run again goes on from that.
    """
    (name,) = {replace(reference, tag="", digest="") for reference in references}
    target = Target(remote, name, find)
    # Of an index that is there as well: registries' clean-up jobs take the images of its platforms, which have no tag.
    images = [image for image in images_of(item) if not has_manifest(target, image.digest, image.digest)]
    task = task or remote.client.progress.task("")
    moved = _push_blobs(target, _blobs(images), task) if images else []
    sent = sum(size for _digest, size in moved)
    sent += sum(put_manifest(target, image.digest, image.descriptor, image.manifest) for image in images)
    if isinstance(item, Index) and not has_manifest(target, item.digest, item.digest):
        sent += put_manifest(target, item.digest, item.descriptor, item.index)
    sent += put_tags(target, item, [reference.tag for reference in references if reference.tag])
    return Pushed(item.digest, sent, tuple(digest for digest, _size in moved), sum(not size for _digest, size in moved))


def put_tags(target: Target, item: Image | Index, tags: Sequence[str]) -> int:
    """Let some tags mean an image or index that the repository has; returns the bytes sent.

    Raises RegistryError or TransientError, which say which of them do.
    """
    document = item.index if isinstance(item, Index) else item.manifest
    missing = [tag for tag in dict.fromkeys(tags) if not has_manifest(target, tag, item.digest)]
    for number, tag in enumerate(missing):
        try:
            put_manifest(target, tag, item.descriptor, document)
        except RegistryError as error:
            there = ", ".join(one for one in dict.fromkeys(tags) if one not in missing[number:])
            told = f"tagged {there}" if there else "and not tagged"
            raise error.with_message(f"{error}; the image is there, {told}") from error
    return len(missing) * len(document)


def has_manifest(target: Target, name: str, digest: str) -> bool:
    """Whether a tag or digest of the target's repository already means `digest`."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> bool:
        response = remote.send(target.name, "HEAD", url, target.scopes(), headers={"accept": ACCEPT})
        if response.status in (401, 403):
            raise refuse(target.name, response)
        return response.status == 200 and digest in (name, response.headers.get("docker-content-digest"))

    return remote.client.retry(f"{target.name.name}: look for {name}", attempt)


def put_manifest(target: Target, name: str, descriptor: Descriptor, document: bytes) -> int:
    """Put a manifest or index under a tag or its digest, once all that it names is there; returns the bytes sent."""
    send_manifest(target, name, descriptor, document)
    return len(document)


def send_manifest(
    target: Target, name: str, descriptor: Descriptor, document: bytes, condition: Mapping[str, str] = _NONE
) -> Response:
    """As `put_manifest`, on a condition (a header such as If-Match); returns what the registry says to it."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> Response:
        headers = {"content-type": descriptor.media_type, **condition}
        answer = remote.send(target.name, "PUT", url, target.scopes(), headers=headers, body=document)
        if answer.status in (400, 404) and any(code in answer.body for code in _BEHIND):
            raise Retryable(explain(answer), tries=4, lasting=True)
        if answer.status not in (200, 201, 202):
            raise refuse(target.name, answer)
        told = answer.headers.get("docker-content-digest", descriptor.digest)
        if told != descriptor.digest:
            raise RegistryError(f"it keeps the manifest as {told} instead of {descriptor.digest}")
        return answer

    what = f"{target.name.name}{'@' if name == descriptor.digest else ':'}{name}"
    return remote.client.retry(f"{what}: put manifest (all blobs are there)", attempt)


def push_blob(target: Target, descriptor: Descriptor, opener: Opener, advance: Advance = no_progress) -> int | None:
    """Bring one blob into the repository; returns the bytes sent, 0 where it was mounted, None where it was there."""
    what = f"{target.name.name}: push blob {descriptor.digest} ({descriptor.size} bytes)"

    def attempt() -> int | None:
        with undone_on_failure(advance) as tell:
            told = partial(_counted, opener, tell)
            return _push_blob(target, descriptor, told)

    return target.remote.client.retry(what, attempt, size=descriptor.size)


def _counted(opener: Opener, advance: Advance) -> BinaryIO:
    return cast("BinaryIO", CountingStream(opener(), advance))


def _blobs(images: Sequence[Image]) -> list[tuple[Descriptor, Opener]]:
    """Every blob once, the largest first, so that none is left for the end alone."""
    found: dict[str, tuple[Descriptor, Opener]] = {}
    for image in images:
        config = parse_manifest(image.manifest, image.digest).config
        found[config.digest] = (config, partial(io.BytesIO, image.config))
        found.update({layer.descriptor.digest: (layer.descriptor, layer.open) for layer in image.layers})
    return sorted(found.values(), key=lambda pair: (-pair[0].size, pair[0].digest))


def _push_blobs(
    target: Target, blobs: Sequence[tuple[Descriptor, Opener]], task: Task
) -> list[tuple[str, int]]:
    """The digests of what was not there, and the bytes sent for each: 0 where it was mounted."""
    from concurrent.futures import ThreadPoolExecutor

    done: dict[str, int | None] = {}

    task.expect(sum(descriptor.size for descriptor, _ in blobs))

    def work(blob: tuple[Descriptor, Opener]) -> None:
        sent = push_blob(target, *blob, task.advance)
        done[blob[0].digest] = sent
        if not sent:
            task.expect(-blob[0].size)

    with ThreadPoolExecutor(UPLOADS) as pool:
        futures = [pool.submit(work, blob) for blob in blobs]
        try:
            for future in futures:
                future.result()
        except RegistryError as error:
            pool.shutdown(cancel_futures=True)
            message = f"{error} ({len(done)} of {len(blobs)} blobs are there; nothing is tagged)"
            raise error.with_message(message) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [(digest, size) for digest, size in done.items() if size is not None]


def _push_blob(target: Target, descriptor: Descriptor, opener: Opener) -> int | None:
    """One attempt, with an upload session of its own: a registry appends what is sent into an old one."""
    remote, digest = target.remote, descriptor.digest
    found = remote.send(target.name, "HEAD", remote.url(target.name, f"blobs/{digest}"), target.scopes())
    if found.status == 200:
        return None
    if found.status in (401, 403):
        raise refuse(target.name, found)
    source = target.find(digest)
    opened = _open_session(target, digest, source if source != target.name.repository else "")
    if opened is None:
        return 0
    answer = remote.send(
        target.name, "PUT", f"{opened}{'&' if '?' in opened else '?'}digest={quote(digest, safe='')}",
        target.scopes(), replay=False, headers={"content-type": "application/octet-stream"}, body=opener,
        body_size=descriptor.size,
    )  # fmt: skip
    if answer.status in (404, 416):
        raise Retryable(f"the upload session is gone: {explain(answer)}")
    if answer.status == 400:
        raise Retryable(explain(answer), tries=2, lasting=True)
    if answer.status not in (201, 204):
        raise refuse(target.name, answer)
    return descriptor.size


def _open_session(target: Target, digest: str, source: str) -> str | None:
    """The URL of a fresh upload session; None where the blob was mounted from `source` instead."""
    remote = target.remote
    url = remote.url(target.name, "blobs/uploads/")
    answer = _mount(target, url, digest, source) if source else None
    if answer is None or answer.status not in (201, 202):
        answer = remote.send(target.name, "POST", url, target.scopes())
    if answer.status == 201:
        return None
    location = answer.headers.get("location")
    if answer.status != 202 or not location:
        raise refuse(target.name, answer)
    return urls.follow(answer.url, location)


def _mount(target: Target, url: str, digest: str, source: str) -> Response | None:
    """What the registry says to a mount. Who may not read the source gets no token, and sends the blob."""
    query = f"?mount={quote(digest, safe='')}&from={quote(source, safe='')}"
    try:
        return target.remote.send(target.name, "POST", url + query, target.scopes(source))
    except TransientError:
        raise
    except RegistryError:
        return None
