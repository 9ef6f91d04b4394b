"""Pulling images from a registry (distribution-spec 1.1, Pull), with retries.

Plain HTTP is used only for registries in HATCH_DOCKER_INSECURE_REGISTRIES, and for registries on loopback without TLS.
"""

from pathlib import Path

from hatch_docker.core.cache.store import Store, VerifiedFile
from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http.responses import StatusError
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.progress import Advance, undo_on_failure
from hatch_docker.oci.compression import LAYER_LIMIT
from hatch_docker.oci.manifest import (
    CONFIG_LIMIT,
    assemble,
    check_platform,
    choose,
    media_type_of,
    parse_index,
    parse_manifest,
)
from hatch_docker.oci.media_types import INDEX_TYPES, MANIFEST_TYPES
from hatch_docker.oci.model import DIGEST, UNKNOWN, Descriptor, Image, Index, Platform, digest_of
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import Remote, response_error

SMALL = 1_000_000  # bytes; the download of a smaller blob writes no line
IMAGES = 100  # most images of an index: each needs a request, and there are fewer than 50 platforms


def resolve(remote: Remote, reference: Reference, blobs: Store) -> tuple[Descriptor, bytes]:
    """Return the descriptor and the exact bytes of a manifest or index, from the cache if it has the digest.

    The digest of a tag is requested from the registry. Raises RegistryError, and ImageError for a document that does
    not follow the image-spec.
    """
    digest = reference.digest or remote.client.retry(f"{reference}: ask", lambda: _head(remote, reference))
    if not digest or not (path := blobs.get(digest)):
        return remote.client.retry(f"{reference}: get manifest", lambda: _manifest(remote, reference, blobs))
    data = path.read_bytes()
    media_type = media_type_of(data, "", str(reference))
    return Descriptor(media_type, digest, len(data)), data


def _head(remote: Remote, reference: Reference) -> str:
    """Return the digest of a tag by a HEAD request (which rate limits do not count), "" if the header is missing."""
    response = remote.request_manifest(reference, "HEAD")
    digest = response.headers.get("docker-content-digest", "")
    return digest if response.status == 200 and DIGEST.fullmatch(digest) else ""


def _manifest(remote: Remote, reference: Reference, blobs: Store) -> tuple[Descriptor, bytes]:
    response = remote.request_manifest(reference)
    if response.status != 200:
        raise response_error(reference, response)
    found = digest_of(response.body)
    header = response.headers.get("docker-content-digest", "")
    promised = reference.digest or (header if DIGEST.fullmatch(header) else found)
    if found != promised:
        raise Retryable(f"the manifest's digest is {found} instead of {promised}", tries=2, permanent=True)
    media_type = media_type_of(response.body, response.headers.get("content-type", ""), str(reference))
    with blobs.writer() as writer:
        writer.write(response.body)
        writer.commit()
    return Descriptor(media_type, found, len(response.body)), response.body


def pull(remote: Remote, reference: Reference, platform: Platform, blobs: Store) -> Image:
    """Return the image for a platform; `reference` may be an index. Layers are downloaded when they are opened.

    Raises RegistryError if the pull fails, ImageError if there is no image for the platform, or if the image does not
    follow the image-spec.
    """
    descriptor, data = resolve(remote, reference, blobs)
    for _depth in range(2):
        if descriptor.media_type in INDEX_TYPES:
            child = choose(parse_index(data, str(reference)), platform, str(reference))
            descriptor, data = resolve(remote, reference.pinned(child.digest), blobs)
    image = _image(remote, reference, descriptor, data, blobs)
    check_platform(image, platform, str(reference))
    return image


def pull_item(remote: Remote, reference: Reference, blobs: Store) -> Image | Index:
    """Return the index of a reference with the images of all platforms, or the image of a single platform."""
    descriptor, data = resolve(remote, reference, blobs)
    if descriptor.media_type in INDEX_TYPES:
        return pull_index(remote, reference, blobs)
    return _image(remote, reference, descriptor, data, blobs)


def pull_index(remote: Remote, reference: Reference, blobs: Store) -> Index:
    """Return an index with the images of all its platforms, without attestations."""
    descriptor, data = resolve(remote, reference, blobs)
    if descriptor.media_type not in INDEX_TYPES:
        raise RegistryError(f"{reference} is an image of one platform, not an index")
    images = []
    children = [child for child in parse_index(data, str(reference)) if child.media_type in MANIFEST_TYPES]
    children = [child for child in children if child.platform != UNKNOWN]
    if len(children) > IMAGES:
        raise RegistryError(f"{reference} has {len(children)} images, more than {IMAGES}: name one by its digest")
    for child in children:
        found, manifest = resolve(remote, reference.pinned(child.digest), blobs)
        images.append(_image(remote, reference, found, manifest, blobs))
    return Index(descriptor, data, tuple(images))


def _image(remote: Remote, reference: Reference, descriptor: Descriptor, manifest: bytes, blobs: Store) -> Image:
    source = str(reference.pinned(descriptor.digest))
    parsed = parse_manifest(manifest, source)
    config = parsed.config
    if config.size > CONFIG_LIMIT:
        raise RegistryError(f"{source}: its config has {config.size} bytes, more than {CONFIG_LIMIT}")
    for layer in parsed.layers:
        if layer.size > LAYER_LIMIT:
            raise RegistryError(f"{source}: its layer {layer.digest} has {layer.size} bytes, more than {LAYER_LIMIT}")
    data = fetch_blob(remote, reference, config, blobs).read_bytes()
    return assemble(
        descriptor, manifest, data,
        lambda layer: lambda: VerifiedFile(fetch_blob(remote, reference, layer, blobs), layer.digest), source,
    )  # fmt: skip


def fetch_blob(remote: Remote, reference: Reference, descriptor: Descriptor, blobs: Store) -> Path:
    """Return the path of a verified blob. It is downloaded if the cache does not have it.

    Concurrent builds download a blob once. The `urls` of a foreign layer are never used.
    """
    found = blobs.get(descriptor.digest)
    if found:
        return found
    url = remote.url(reference, f"blobs/{descriptor.digest}")

    def attempt(advance: Advance) -> None:
        with blobs.writer() as writer, undo_on_failure(advance) as report:

            def write(data: bytes) -> None:
                writer.write(data)
                report(len(data))

            try:
                remote.download(reference, url, write, descriptor.size)
            except StatusError as error:
                raise response_error(reference, error.response) from error
            if writer.digest != descriptor.digest:
                raise Retryable(f"its digest is {writer.digest}", tries=2, permanent=True)
            writer.commit()

    with blobs.lock(descriptor.digest):
        found = blobs.get(descriptor.digest)
        if not found:
            operation = f"{reference.name}: get blob {descriptor.digest} ({descriptor.size} bytes)"
            title = f"downloading {descriptor.digest[7:19]} of {reference.name}"
            small = descriptor.size < SMALL  # shown with -v only
            with remote.client.progress.task(title, descriptor.size, part=small) as task:
                remote.client.retry(operation, lambda: attempt(task.advance), size=descriptor.size)
            found = blobs.blob_path(descriptor.digest)  # verified during the download
    return found
