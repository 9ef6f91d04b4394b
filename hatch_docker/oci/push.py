"""Images and indexes pushed to a registry: blobs that it has are skipped or mounted, the tags come last.

Implements the push of the distribution-spec 1.1 (Pushing manifests, Pushing blobs, Mounting a blob).
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast
from urllib.parse import quote

from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.http.responses import Response, explain
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.progress import Advance, Task, no_progress, undone_on_failure
from hatch_docker.core.streams import CountingStream
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Descriptor, Image, Index, Opener, images_of
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import ACCEPT, Remote, push_scope, refuse, session_url

UPLOADS = 4  # blobs that are sent at the same time
# Errors for a manifest whose blobs the registry does not see yet: docker-registry while another client pushes one of
# them (it reads the half-written link to it), others if one of their machines lags behind.
_NOT_YET = (b"DIGEST_INVALID", b"MANIFEST_BLOB_UNKNOWN")

FindRepository = Callable[[str], str]
"""Function that returns a repository of the target's registry that has a blob, given its digest, or ""."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """Result of a push to one repository: `sent` is in bytes, of blobs and of manifests.

    `arrived` are the digests of the blobs that were not there before, `mounted` is the number of those that came from
    another repository.
    """

    digest: str
    sent: int
    arrived: tuple[str, ...]
    mounted: int


@dataclass(frozen=True, slots=True)
class Target:
    """A repository to push to; `find` returns the repository that a blob can be mounted from.

    `known` are digests of blobs that it is known to have, `made` those of blobs that were just made, which nobody can
    have: neither is asked for. `new` says that nobody can have the image. `later`, if there is one, gets functions to
    be called when everything else is done: they see to what other clients may have overwritten.
    """

    remote: Remote
    name: Reference
    find: FindRepository
    known: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    new: bool = False
    later: list[Callable[[], object]] | None = None

    def scopes(self, source: str = "") -> tuple[str, ...]:
        """Return the scopes that a token must allow."""
        return (push_scope(self.name), *([f"repository:{source}:pull"] if source else []))




def push_blobs(target: Target, item: Image | Index, task: Task, *, manifest: bool = True) -> Pushed:
    """Push the blobs of an image or index, then its manifests, for `put_tags`; without `manifest` not the item's own.

    Blobs that the repository has are not sent, and layers that are not sent are not opened; blobs that are in another
    repository, by `find`, are mounted. `task` counts the bytes sent. Raises RegistryError or TransientError, which say
    what is there already: the next push goes on from that.
    """
    # Also of an index that is there: registries' clean-up jobs delete the images of its platforms, which have no tag.
    images = [image for image in images_of(item) if target.new or not has_manifest(target, image.digest, image.digest)]
    blobs: dict[str, tuple[Descriptor, Opener]] = {}
    for image in images:
        config = parse_manifest(image.manifest, image.digest).config
        blobs[config.digest] = (config, partial(io.BytesIO, image.config))
        blobs.update({layer.descriptor.digest: (layer.descriptor, layer.open) for layer in image.layers})
    # The largest first: sent last, it would be sent alone.
    ordered = sorted(blobs.values(), key=lambda blob: (-blob[0].size, blob[0].digest))
    moved = _push_blobs(target, ordered, task) if images else []
    sent = sum(size for _digest, size in moved)
    for image in images if manifest or isinstance(item, Index) else ():
        sent += put_manifest(target, image.digest, image.descriptor, image.manifest)
    if isinstance(item, Index) and not has_manifest(target, item.digest, item.digest):
        sent += put_manifest(target, item.digest, item.descriptor, item.index)
    return Pushed(item.digest, sent, tuple(digest for digest, _size in moved), sum(not size for _digest, size in moved))


def put_tags(target: Target, item: Image | Index, tags: Sequence[str]) -> int:
    """Tag an image or index that the repository has; return the bytes sent.

    Raises RegistryError or TransientError, which name the tags that are done.
    """
    document = item.index if isinstance(item, Index) else item.manifest
    missing = [tag for tag in dict.fromkeys(tags) if target.new or not has_manifest(target, tag, item.digest)]
    for number, tag in enumerate(missing):
        try:
            put_manifest(target, tag, item.descriptor, document)
        except RegistryError as error:
            done = ", ".join(name for name in dict.fromkeys(tags) if name not in missing[number:])
            state = f"tagged {done}" if done else "and not tagged"
            raise error.with_message(f"{error}; the image is there, {state}") from error
    return len(missing) * len(document)


def has_manifest(target: Target, name: str, digest: str) -> bool:
    """Tell whether a tag or digest of the target's repository refers to `digest` already."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> bool:
        response = remote.send(target.name, "HEAD", url, target.scopes(), headers={"accept": ACCEPT})
        if response.status in (401, 403):
            raise refuse(target.name, response)
        return response.status == 200 and digest in (name, response.headers.get("docker-content-digest"))

    return remote.client.retry(f"{target.name.name}: look for {name}", attempt)


def put_manifest(target: Target, name: str, descriptor: Descriptor, document: bytes) -> int:
    """Put a manifest or index under a tag or its digest, after all that it names; return the bytes sent."""
    send_manifest(target, name, descriptor, document)
    return len(document)


def send_manifest(
    target: Target, name: str, descriptor: Descriptor, document: bytes, condition: Mapping[str, str] | None = None
) -> Response:
    """As `put_manifest`, on a condition (a header such as If-Match); return the answer."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> Response:
        headers = {"content-type": descriptor.media_type, **(condition or {})}
        answer = remote.send(target.name, "PUT", url, target.scopes(), headers=headers, body=document)
        if answer.status in (400, 404) and any(code in answer.body for code in _NOT_YET):
            raise Retryable(explain(answer), tries=4, lasting=True)
        if answer.status not in (200, 201, 202):
            raise refuse(target.name, answer)
        stored = answer.headers.get("docker-content-digest", descriptor.digest)
        if stored != descriptor.digest:
            raise RegistryError(f"it stores the manifest as {stored} instead of {descriptor.digest}")
        return answer

    what = f"{target.name.name}{'@' if name == descriptor.digest else ':'}{name}"
    return remote.client.retry(f"{what}: put manifest (all blobs are there)", attempt)


def push_blob(target: Target, descriptor: Descriptor, opener: Opener, advance: Advance = no_progress) -> int | None:
    """Push one blob; return the bytes sent, 0 if it was mounted, None if it was there already."""
    what = f"{target.name.name}: push blob {descriptor.digest} ({descriptor.size} bytes)"

    def attempt() -> int | None:
        with undone_on_failure(advance) as report:
            return _push_blob(target, descriptor, lambda: cast("BinaryIO", CountingStream(opener(), report)))

    return target.remote.client.retry(what, attempt, size=descriptor.size)


def _push_blobs(target: Target, blobs: Sequence[tuple[Descriptor, Opener]], task: Task) -> list[tuple[str, int]]:
    """Push blobs; return the digests of those that were not there, and the bytes sent for each: 0 if mounted."""
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
    """Make one attempt in a new upload session: in an old one the registry would append to what it has."""
    remote, digest = target.remote, descriptor.digest
    if digest in target.known:
        return None
    if digest not in target.made:
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
    """Return the URL of a new upload session; None if the blob was mounted from `source`."""
    remote = target.remote
    url = remote.url(target.name, "blobs/uploads/")
    answer = None
    if source:
        query = f"?mount={quote(digest, safe='')}&from={quote(source, safe='')}"
        try:
            answer = remote.send(target.name, "POST", url + query, target.scopes(source))
        except TransientError:
            raise
        except RegistryError:  # as for users who may not read the source
            pass
    if answer is None or answer.status not in (201, 202):
        if opened := remote.sessions.pop(target.name.name, ""):
            return opened
        answer = remote.send(target.name, "POST", url, target.scopes())
    return None if answer.status == 201 else session_url(target.name, answer)
