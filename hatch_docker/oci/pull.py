"""Images pulled from a registry (distribution-spec 1.1, Pull), with retries.

Plain http is used only for registries on this machine that speak no TLS, and for those of
HATCH_DOCKER_INSECURE_REGISTRIES.
"""

from pathlib import Path

from hatch_docker.core.cache.store import Store, VerifiedFile
from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http.responses import StatusError
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.progress import Advance, undone_on_failure
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
from hatch_docker.oci.registry import Remote, refuse

SMALL = 1_000_000  # bytes of a blob that is downloaded too quickly to be shown
IMAGES = 100  # of an index; there are not half as many platforms, and each takes a request


def resolve(remote: Remote, reference: Reference, blobs: Store) -> tuple[Descriptor, bytes]:
    """Return the descriptor and the exact bytes of a manifest or index.

    By digest it may come from the cache; for a tag the registry is asked for the digest, and for the bytes if the
    cache does not have them. Raises RegistryError, and ImageError for a document that breaks the image-spec.
    """
    digest = reference.digest or remote.client.retry(f"{reference}: ask", lambda: _head(remote, reference))
    if not digest or not (path := blobs.get(digest)):
        return remote.client.retry(f"{reference}: get manifest", lambda: _manifest(remote, reference, blobs))
    data = path.read_bytes()
    media_type = media_type_of(data, "", str(reference))
    return Descriptor(media_type, digest, len(data)), data


def _head(remote: Remote, reference: Reference) -> str:
    """Return the digest of a tag, "" if the registry does not say; registries do not count a HEAD as a pull."""
    response = remote.ask_manifest(reference, "HEAD")
    digest = response.headers.get("docker-content-digest", "")
    return digest if response.status == 200 and DIGEST.fullmatch(digest) else ""


def _manifest(remote: Remote, reference: Reference, blobs: Store) -> tuple[Descriptor, bytes]:
    response = remote.ask_manifest(reference)
    if response.status != 200:
        raise refuse(reference, response)
    found = digest_of(response.body)
    header = response.headers.get("docker-content-digest", "")
    promised = reference.digest or (header if DIGEST.fullmatch(header) else found)
    if found != promised:
        raise Retryable(f"the manifest's digest is {found} instead of {promised}", tries=2, lasting=True)
    media_type = media_type_of(response.body, response.headers.get("content-type", ""), str(reference))
    with blobs.writer() as writer:
        writer.write(response.body)
        writer.commit()
    return Descriptor(media_type, found, len(response.body)), response.body


def pull(remote: Remote, reference: Reference, platform: Platform, blobs: Store) -> Image:
    """Return the image for a platform, from an index or alone; its layers are downloaded when they are opened.

    Raises RegistryError when it cannot be pulled, ImageError when there is none for the platform or it breaks the
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


def pull_item(remote: Remote, reference: Reference, blobs: Store) -> Image | Index:
    """Return what a name means: an index with all its platforms, or the image of one; see `pull`."""
    descriptor, data = resolve(remote, reference, blobs)
    if descriptor.media_type in INDEX_TYPES:
        return pull_index(remote, reference, blobs)
    return _image(remote, reference, descriptor, data, blobs)


def pull_index(remote: Remote, reference: Reference, blobs: Store) -> Index:
    """Return an index with the images of all its platforms, without the attestations among its children."""
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
    what = str(reference.pinned(descriptor.digest))
    parsed = parse_manifest(manifest, what)
    config = parsed.config
    if config.size > CONFIG_LIMIT:
        raise RegistryError(f"{what}: its config has {config.size} bytes, more than {CONFIG_LIMIT}")
    for layer in parsed.layers:
        if layer.size > LAYER_LIMIT:
            raise RegistryError(f"{what}: its layer {layer.digest} has {layer.size} bytes, more than {LAYER_LIMIT}")
    data = fetch_blob(remote, reference, config, blobs).read_bytes()
    return assemble(
        descriptor, manifest, data,
        lambda layer: lambda: VerifiedFile(fetch_blob(remote, reference, layer, blobs), layer.digest), what,
    )  # fmt: skip


def fetch_blob(remote: Remote, reference: Reference, descriptor: Descriptor, blobs: Store) -> Path:
    """Return the path of a blob's verified bytes; they are downloaded if the cache does not have them.

    Builds that run at once download a blob once. The `urls` of a foreign layer are never used.
    """
    found = blobs.get(descriptor.digest)
    if found:
        return found
    url = remote.url(reference, f"blobs/{descriptor.digest}")

    def attempt(advance: Advance) -> None:
        with blobs.writer() as writer, undone_on_failure(advance) as report:

            def write(data: bytes) -> None:
                writer.write(data)
                report(len(data))

            try:
                remote.download(reference, url, write, descriptor.size)
            except StatusError as error:
                raise refuse(reference, error.response) from error
            if writer.digest != descriptor.digest:
                raise Retryable(f"its digest is {writer.digest}", tries=2, lasting=True)
            writer.commit()

    with blobs.lock(descriptor.digest):
        found = blobs.get(descriptor.digest)
        if not found:
            what = f"{reference.name}: get blob {descriptor.digest} ({descriptor.size} bytes)"
            title = f"downloading {descriptor.digest[7:19]} of {reference.name}"
            small = descriptor.size < SMALL  # shown with -v only
            with remote.client.progress.task(title, descriptor.size, part=small) as task:
                remote.client.retry(what, lambda: attempt(task.advance), size=descriptor.size)
            found = blobs.blob_path(descriptor.digest)  # its bytes were verified while they arrived
    return found
