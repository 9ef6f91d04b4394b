"""Pushing images and indexes to a registry. Existing blobs are skipped or mounted; tags are put last.

Implements the distribution-spec 1.1 (Pushing manifests, Pushing blobs, Mounting a blob).
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
from hatch_docker.core.progress import Advance, Task, no_progress, undo_on_failure
from hatch_docker.core.streams import CountingStream
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Descriptor, Image, Index, Opener, images_of
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import ACCEPT, Remote, push_scope, response_error, session_url

UPLOADS = 4  # concurrent uploads of blobs
# Error codes for a manifest whose blobs the registry does not find yet. docker-registry returns them while another
# client pushes one of the blobs (it reads an incomplete link), others when their machines are not synchronised yet.
_NOT_YET = (b"DIGEST_INVALID", b"MANIFEST_BLOB_UNKNOWN")

FindRepository = Callable[[str], str]
"""Function that returns a repository of the target's registry that contains the blob of a digest, or ""."""


@dataclass(frozen=True, slots=True)
class UploadResult:
    """Result of a push to one repository: `sent` is the number of bytes of blobs and manifests.

    `added`: digests of the blobs that the repository did not have before. `mounted`: how many of them were mounted
    from another repository.
    """

    digest: str
    sent: int
    added: tuple[str, ...]
    mounted: int


@dataclass(frozen=True, slots=True)
class Target:
    """A repository to push to. `find` returns the repository from which a blob can be mounted.

    `existing_blobs`: digests of blobs that the repository has. `new_blobs`: digests of blobs that this build has just
    made, so that no registry can have them. No request looks for either. `is_new`: True if no registry can have the
    image. `later`: if it is not None, `attach` appends functions that must be called at the end of the push; they check
    the lists of referrers, which other clients may overwrite.
    """

    remote: Remote
    name: Reference
    find: FindRepository
    existing_blobs: frozenset[str] = frozenset()
    new_blobs: frozenset[str] = frozenset()
    is_new: bool = False
    later: list[Callable[[], object]] | None = None

    def scopes(self, source: str = "") -> tuple[str, ...]:
        """Return the scopes of the token for a push, with a mount from `source` if it is not ""."""
        return (push_scope(self.name), *([f"repository:{source}:pull"] if source else []))


def push_blobs(target: Target, item: Image | Index, task: Task, *, manifest: bool = True) -> UploadResult:
    """Push the blobs of an image or index, then its manifests; `put_tags` must follow.

    If `manifest` is False, the manifest of a single image is not pushed. Existing blobs are not sent, and layers that
    are not sent are not opened; blobs that `find` finds in another repository are mounted. `task` counts the bytes
    sent. Raises RegistryError or TransientError; the message says what the repository has already. The next push
    continues from there.
    """
    # Checked also if the index exists: clean-up jobs of registries delete its images, because they have no tag.
    images = images_of(item)
    if not target.is_new:
        images = tuple(image for image in images if not has_manifest(target, image.digest, image.digest))
    blobs: dict[str, tuple[Descriptor, Opener]] = {}
    for image in images:
        config = parse_manifest(image.manifest, image.digest).config
        blobs[config.digest] = (config, partial(io.BytesIO, image.config))
        blobs.update({layer.descriptor.digest: (layer.descriptor, layer.open) for layer in image.layers})
    # The largest blob first, so that the others are sent at the same time.
    ordered = sorted(blobs.values(), key=lambda blob: (-blob[0].size, blob[0].digest))
    moved = _push_blobs(target, ordered, task) if images else []
    sent = sum(size for _digest, size in moved)
    for image in images if manifest or isinstance(item, Index) else ():
        sent += put_manifest(target, image.digest, image.descriptor, image.manifest)
    if isinstance(item, Index) and not has_manifest(target, item.digest, item.digest):
        sent += put_manifest(target, item.digest, item.descriptor, item.index)
    return UploadResult(item.digest, sent, tuple(dict(moved)), sum(not size for _digest, size in moved))


def put_tags(target: Target, item: Image | Index, tags: Sequence[str]) -> int:
    """Tag an image or index that the repository has; return the bytes sent.

    Raises RegistryError or TransientError; the message names the finished tags.
    """
    document = item.index if isinstance(item, Index) else item.manifest
    missing = [tag for tag in dict.fromkeys(tags) if target.is_new or not has_manifest(target, tag, item.digest)]
    for number, tag in enumerate(missing):
        try:
            put_manifest(target, tag, item.descriptor, document)
        except RegistryError as error:
            done = ", ".join(name for name in dict.fromkeys(tags) if name not in missing[number:])
            state = f"tagged {done}" if done else "and not tagged"
            raise error.with_message(f"{error}; the image is there, {state}") from error
    return len(missing) * len(document)


def has_manifest(target: Target, name: str, digest: str) -> bool:
    """Return whether a tag or digest (`name`) of the target's repository refers to the manifest `digest`."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> bool:
        response = remote.send(target.name, "HEAD", url, target.scopes(), headers={"accept": ACCEPT})
        if response.status in (401, 403):
            raise response_error(target.name, response)
        return response.status == 200 and digest in (name, response.headers.get("docker-content-digest"))

    return remote.client.retry(f"{target.name.name}: look for {name}", attempt)


def put_manifest(target: Target, name: str, descriptor: Descriptor, document: bytes) -> int:
    """Put a manifest or index under a tag or its digest; return the bytes sent. Its blobs must have been pushed."""
    send_manifest(target, name, descriptor, document)
    return len(document)


def send_manifest(
    target: Target, name: str, descriptor: Descriptor, document: bytes, condition: Mapping[str, str] | None = None
) -> Response:
    """Put a manifest or index, with the headers `condition` (such as If-Match); return the response."""
    remote = target.remote
    url = remote.url(target.name, f"manifests/{name}")

    def attempt() -> Response:
        headers = {"content-type": descriptor.media_type, **(condition or {})}
        response = remote.send(target.name, "PUT", url, target.scopes(), headers=headers, body=document)
        if response.status in (400, 404) and any(code in response.body for code in _NOT_YET):
            raise Retryable(explain(response), tries=4, permanent=True)
        if response.status not in (200, 201, 202):
            raise response_error(target.name, response)
        stored = response.headers.get("docker-content-digest", descriptor.digest)
        if stored != descriptor.digest:
            raise RegistryError(f"it stores the manifest as {stored} instead of {descriptor.digest}")
        return response

    operation = f"{target.name.name}{'@' if name == descriptor.digest else ':'}{name}"
    return remote.client.retry(f"{operation}: put manifest (all blobs are there)", attempt)


def push_blob(target: Target, descriptor: Descriptor, opener: Opener, advance: Advance = no_progress) -> int | None:
    """Push one blob; return the bytes sent, 0 if it was mounted, None if the repository had it."""
    operation = f"{target.name.name}: push blob {descriptor.digest} ({descriptor.size} bytes)"

    def attempt() -> int | None:
        with undo_on_failure(advance) as report:
            return _push_blob(target, descriptor, lambda: cast("BinaryIO", CountingStream(opener(), report)))

    return target.remote.client.retry(operation, attempt, size=descriptor.size)


def _push_blobs(target: Target, blobs: Sequence[tuple[Descriptor, Opener]], task: Task) -> list[tuple[str, int]]:
    """Push blobs; return the digest and the bytes sent (0 if mounted) of each that the repository did not have."""
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
    """Make one attempt to push a blob. It needs a new upload session: in an old one the registry would append data."""
    remote, digest = target.remote, descriptor.digest
    if digest in target.existing_blobs:
        return None
    if digest not in target.new_blobs:
        check = remote.send(target.name, "HEAD", remote.url(target.name, f"blobs/{digest}"), target.scopes())
        if check.status == 200:
            return None
        if check.status in (401, 403):
            raise response_error(target.name, check)
    source = target.find(digest)
    session = _open_session(target, digest, source if source != target.name.repository else "")
    if session is None:
        return 0
    response = remote.send(
        target.name, "PUT", f"{session}{'&' if '?' in session else '?'}digest={quote(digest, safe='')}",
        target.scopes(), replay=False, headers={"content-type": "application/octet-stream"}, body=opener,
        body_size=descriptor.size,
    )  # fmt: skip
    if response.status in (404, 416):
        raise Retryable(f"the upload session is gone: {explain(response)}")
    if response.status == 400:
        raise Retryable(explain(response), tries=2, permanent=True)
    if response.status not in (201, 204):
        raise response_error(target.name, response)
    return descriptor.size


def _open_session(target: Target, digest: str, source: str) -> str | None:
    """Return the URL of a new upload session; None if the blob was mounted from `source`."""
    remote = target.remote
    url = remote.url(target.name, "blobs/uploads/")
    response = None
    if source:
        query = f"?mount={quote(digest, safe='')}&from={quote(source, safe='')}"
        try:
            response = remote.send(target.name, "POST", url + query, target.scopes(source))
        except TransientError:
            raise
        except RegistryError:  # such as for users without read access to the source
            pass
    if response is None or response.status not in (201, 202):
        if session := remote.sessions.pop(target.name.name, ""):
            return session
        response = remote.send(target.name, "POST", url, target.scopes())
    return None if response.status == 201 else session_url(target.name, response)
