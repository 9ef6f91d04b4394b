"""Images from and to a registry: the verbs of the distribution-spec 1.1, each by the retry policy.

    resolve      a name -> the manifest or index behind it
    pull         a name and a platform -> Image, whose layers are downloaded when they are opened
    pull_index   a name -> Index, all its platforms
    push         Image or Index -> a registry, under some names

Plain http is spoken with this very machine and with the registries of HATCH_DOCKER_INSECURE_REGISTRIES only.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hatch_docker import urls
from hatch_docker.answers import Refused, explain
from hatch_docker.errors import RegistryError, TransientError
from hatch_docker.oci.compression import LAYER_LIMIT
from hatch_docker.oci.documents import (
    CONFIG_LIMIT,
    DOCUMENT_LIMIT,
    assemble,
    check_platform,
    choose,
    media_type_of,
    parse_index,
    parse_manifest,
)
from hatch_docker.oci.model import (
    DIGEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Image,
    Index,
    Opener,
    Platform,
    digest_of,
)
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.remote import BlobCache, Remote, refuse
from hatch_docker.retry import Retryable

if TYPE_CHECKING:
    from typing import BinaryIO

ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
UPLOADS = 4  # blobs on their way at a time
__all__ = ["BlobCache", "Pushed", "Remote", "fetch_blob", "pull", "pull_index", "push", "resolve"]


def resolve(remote: Remote, reference: Reference, blobs: BlobCache) -> tuple[Descriptor, bytes]:
    """The descriptor and the exact bytes of a manifest or index.

    By digest the cache is asked first; by tag the registry is asked for the digest, and for the bytes where the
    cache lacks them. Raises RegistryError, and ImageError for a document that breaks the image-spec.
    """
    digest = reference.digest or remote.client.retry(f"{reference}: ask", lambda: _head(remote, reference))
    if not digest or not (path := blobs.get(digest)):
        return remote.client.retry(f"{reference}: get manifest", lambda: _manifest(remote, reference, blobs))
    data = path.read_bytes()
    media_type = media_type_of(data, "", str(reference))
    return Descriptor(media_type, digest, len(data)), data


def _head(remote: Remote, reference: Reference) -> str:
    """The digest behind a tag, or nothing where the registry does not tell: a HEAD is not counted as a pull."""
    url = remote.url(reference, f"manifests/{reference.tag}")
    scopes = (f"repository:{reference.repository}:pull",)
    response = remote.send(reference, "HEAD", url, scopes, headers={"accept": ACCEPT})
    digest = response.headers.get("docker-content-digest", "")
    return digest if response.status == 200 and DIGEST.fullmatch(digest) else ""


def _manifest(remote: Remote, reference: Reference, blobs: BlobCache) -> tuple[Descriptor, bytes]:
    url = remote.url(reference, f"manifests/{reference.digest or reference.tag}")
    scopes = (f"repository:{reference.repository}:pull",)
    response = remote.send(reference, "GET", url, scopes, headers={"accept": ACCEPT}, limit=DOCUMENT_LIMIT)
    if response.status != 200:
        raise refuse(reference, response)
    found = digest_of(response.body)
    told = response.headers.get("docker-content-digest", "")
    promised = reference.digest or (told if DIGEST.fullmatch(told) else found)
    if found != promised:
        raise Retryable(f"the manifest's digest is {found} instead of {promised}", tries=2, lasting=True)
    media_type = media_type_of(response.body, response.headers.get("content-type", ""), str(reference))
    with blobs.writer() as writer:
        writer.write(response.body)
        writer.commit()
    return Descriptor(media_type, found, len(response.body)), response.body


def pull(remote: Remote, reference: Reference, platform: Platform, blobs: BlobCache) -> Image:
    """An image for a platform, from an index or alone; a layer is downloaded when it is opened first.

    Raises RegistryError when it cannot be had, ImageError when there is none for the platform or it breaks the
    image-spec.
    """
    descriptor, data = resolve(remote, reference, blobs)
    for _depth in range(2):
        if descriptor.media_type in INDEX_TYPES:
            child = choose(parse_index(data, str(reference)), platform, str(reference))
            descriptor, data = resolve(remote, reference.pinned(child.digest), blobs)
    image = _image(remote, reference, descriptor, data, blobs)
    check_platform(image, platform, str(reference))
    return image


def pull_index(remote: Remote, reference: Reference, blobs: BlobCache) -> Index:
    """An index with the images of all its platforms; attestations among its children are left out."""
    descriptor, data = resolve(remote, reference, blobs)
    if descriptor.media_type not in INDEX_TYPES:
        raise RegistryError(f"{reference} is an image of one platform, not an index")
    images = []
    for child in parse_index(data, str(reference)):
        if child.media_type in MANIFEST_TYPES and child.platform != Platform("unknown", "unknown"):
            found, manifest = resolve(remote, reference.pinned(child.digest), blobs)
            images.append(_image(remote, reference, found, manifest, blobs))
    return Index(descriptor, data, tuple(images))


def _image(
    remote: Remote, reference: Reference, descriptor: Descriptor, manifest: bytes, blobs: BlobCache
) -> Image:
    what = str(reference.pinned(descriptor.digest))
    config = parse_manifest(manifest, what).config
    if config.size > CONFIG_LIMIT:
        raise RegistryError(f"{what}: its config has {config.size} bytes, more than {CONFIG_LIMIT}")
    for layer in parse_manifest(manifest, what).layers:
        if layer.size > LAYER_LIMIT:
            raise RegistryError(f"{what}: its layer {layer.digest} has {layer.size} bytes, more than {LAYER_LIMIT}")
    data = fetch_blob(remote, reference, config, blobs).read_bytes()
    return assemble(
        descriptor, manifest, data, lambda layer: _opener(remote, reference, layer, blobs), what
    )


def _opener(remote: Remote, reference: Reference, layer: Descriptor, blobs: BlobCache) -> Opener:
    def open_blob() -> BinaryIO:
        return fetch_blob(remote, reference, layer, blobs).open("rb")

    return open_blob


def fetch_blob(remote: Remote, reference: Reference, descriptor: Descriptor, blobs: BlobCache) -> Path:
    """The path of a blob's verified bytes, downloaded where the cache lacks them, once per machine.

    Only the registry is asked: the `urls` of a foreign layer are never followed.
    """
    found = blobs.get(descriptor.digest)
    if found:
        return found
    url = remote.url(reference, f"blobs/{descriptor.digest}")

    def attempt() -> None:
        with blobs.writer() as writer:
            try:
                remote.download(reference, url, writer, descriptor.size)
            except Refused as error:
                raise refuse(reference, error.response) from error
            if writer.digest != descriptor.digest:
                raise Retryable(f"its digest is {writer.digest}", tries=2, lasting=True)
            writer.commit()

    with blobs.lock(descriptor.digest):
        if not blobs.get(descriptor.digest):
            what = f"{reference.name}: get blob {descriptor.digest} ({descriptor.size} bytes)"
            remote.client.retry(what, attempt, size=descriptor.size)
    found = blobs.get(descriptor.digest)
    if found is None:
        raise RegistryError(f"{reference.name}: blob {descriptor.digest} is gone from the cache; build again")
    return found


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. `sent` is in bytes of blobs; `present` counts the blobs that were there or were mounted."""

    digest: str
    references: tuple[Reference, ...]
    sent: int
    present: int


def push(
    remote: Remote, item: Image | Index, references: Sequence[Reference], *, mount_from: Reference | None = None
) -> Pushed:
    """Bring an image or index under some names: blobs first, four at a time, then manifests, the tags last.

    What the registry has is not sent; what the repository `mount_from` (the base's) has on the same registry is
    mounted. Raises RegistryError or TransientError, which say what is already there: a push that is run again
    goes on from that.
    """
    sent, present = 0, 0
    groups: dict[str, list[Reference]] = {}
    for reference in references:
        groups.setdefault(reference.name, []).append(reference)
    document = item.index if isinstance(item, Index) else item.manifest
    for target, *others in groups.values():
        same = mount_from is not None and mount_from.registry == target.registry
        source = mount_from.repository if mount_from and same and mount_from.name != target.name else ""
        scopes = _push_scopes(target.repository, source)
        if not _has(remote, target, item.digest, item.digest, scopes):
            counts = _push_blobs(remote, _blobs(item), target, source, scopes)
            sent, present = sent + sum(counts), present + counts.count(0)
            for image in item.images if isinstance(item, Index) else ():
                _put_manifest(remote, target.pinned(image.digest), image.descriptor, image.manifest, scopes)
            _put_manifest(remote, target.pinned(item.digest), item.descriptor, document, scopes)
        for one in (target, *others):
            if one.tag and not _has(remote, one, one.tag, item.digest, scopes):
                _put_manifest(remote, replace(one, digest=""), item.descriptor, document, scopes)
    return Pushed(item.digest, tuple(references), sent, present)


def _push_scopes(repository: str, source: str) -> tuple[str, ...]:
    scopes = (f"repository:{repository}:pull,push",)
    return (*scopes, f"repository:{source}:pull") if source else scopes


def _has(remote: Remote, target: Reference, name: str, digest: str, scopes: tuple[str, ...]) -> bool:
    """Whether a tag or digest of the target's repository already means `digest`."""
    url = remote.url(target, f"manifests/{name}")

    def attempt() -> bool:
        response = remote.send(target, "HEAD", url, scopes, headers={"accept": ACCEPT})
        if response.status in (401, 403):
            raise refuse(target, response)
        return response.status == 200 and digest in (name, response.headers.get("docker-content-digest"))

    return remote.client.retry(f"{target.name}: look for {name}", attempt)


def _blobs(item: Image | Index) -> list[tuple[Descriptor, Opener]]:
    """Every blob once, the largest first, so that none is left for the end alone."""
    found: dict[str, tuple[Descriptor, Opener]] = {}
    for image in item.images if isinstance(item, Index) else (item,):
        config = parse_manifest(image.manifest, image.digest).config
        found[config.digest] = (config, partial(io.BytesIO, image.config))
        found.update({layer.descriptor.digest: (layer.descriptor, layer.open) for layer in image.layers})
    return sorted(found.values(), key=lambda pair: (-pair[0].size, pair[0].digest))


def _push_blobs(
    remote: Remote, blobs: Sequence[tuple[Descriptor, Opener]], target: Reference, source: str,
    scopes: tuple[str, ...],
) -> list[int]:
    """The bytes sent for each blob, 0 where the registry had it."""
    from concurrent.futures import ThreadPoolExecutor

    done: list[int] = []

    def work(blob: tuple[Descriptor, Opener]) -> None:
        descriptor, opener = blob
        what = f"{target.name}: push blob {descriptor.digest} ({descriptor.size} bytes)"
        attempt = partial(_push_blob, remote, descriptor, opener, target, source, scopes)
        done.append(remote.client.retry(what, attempt, size=descriptor.size))

    with ThreadPoolExecutor(UPLOADS) as pool:
        futures = [pool.submit(work, blob) for blob in blobs]
        try:
            for future in futures:
                future.result()
        except RegistryError as error:
            pool.shutdown(cancel_futures=True)
            kind = TransientError if isinstance(error, TransientError) else RegistryError
            raise kind(f"{error} ({len(done)} of {len(blobs)} blobs are there; nothing is tagged)") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return done


def _push_blob(
    remote: Remote, descriptor: Descriptor, opener: Opener, target: Reference, source: str, scopes: tuple[str, ...]
) -> int:
    """One attempt, with an upload session of its own: a registry appends what is sent into an old one."""
    digest = descriptor.digest
    found = remote.send(target, "HEAD", remote.url(target, f"blobs/{digest}"), scopes)
    if found.status == 200:
        return 0
    if found.status in (401, 403):
        raise refuse(target, found)
    query = f"?mount={quote(digest, safe='')}&from={quote(source, safe='')}" if source else ""
    opened = remote.send(target, "POST", remote.url(target, "blobs/uploads/") + query, scopes)
    if opened.status == 201:
        return 0
    location = opened.headers.get("location")
    if opened.status != 202 or not location:
        raise refuse(target, opened)
    url = urls.follow(opened.url, location)
    answer = remote.send(
        target, "PUT", f"{url}{'&' if '?' in url else '?'}digest={quote(digest, safe='')}", scopes, replay=False,
        headers={"content-type": "application/octet-stream"}, body=opener, body_size=descriptor.size,
    )
    if answer.status in (404, 416):
        raise Retryable(f"the upload session is gone: {explain(answer)}")
    if answer.status == 400:
        raise Retryable(explain(answer), tries=2, lasting=True)
    if answer.status not in (201, 204):
        raise refuse(target, answer)
    return descriptor.size


def _put_manifest(
    remote: Remote, name: Reference, descriptor: Descriptor, document: bytes, scopes: tuple[str, ...]
) -> None:
    url = remote.url(name, f"manifests/{name.tag or name.digest}")

    def attempt() -> None:
        headers = {"content-type": descriptor.media_type}
        answer = remote.send(name, "PUT", url, scopes, headers=headers, body=document)
        if answer.status not in (200, 201, 202):
            raise refuse(name, answer)
        told = answer.headers.get("docker-content-digest", descriptor.digest)
        if told != descriptor.digest:
            raise RegistryError(f"it keeps the manifest as {told} instead of {descriptor.digest}")

    remote.client.retry(f"{name}: put manifest (all blobs are there)", attempt)
