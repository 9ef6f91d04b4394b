"""OCI image layouts (image-layout.md): reading and writing images in a directory."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.core.errors import ImageError
from hatch_docker.core.files import atomic_write, write_file
from hatch_docker.core.streams import HashingStream, Writable, copy_file, drain, pieces
from hatch_docker.oci.manifest import LARGEST, assemble, choose, media_type_of, parse_index, parse_json, parse_manifest
from hatch_docker.oci.media_types import INDEX_TYPES, OCI
from hatch_docker.oci.model import (
    UNKNOWN,
    Descriptor,
    Image,
    Index,
    Layer,
    Platform,
    canonical_json,
    digest_of,
    images_of,
)

CHUNK = 1 << 20
LAYOUT = canonical_json({"imageLayoutVersion": "1.0.0"})
REF_NAME = "org.opencontainers.image.ref.name"

OpenBlob = Callable[[str], BinaryIO]
"""Function that opens the blob of a digest. Raises ImageError if it does not exist."""


def blob_path(digest: str) -> str:
    """Return the path of a blob, relative to the layout's directory."""
    return "blobs/" + digest.replace(":", "/")


def blobs_of(item: Image | Index) -> Iterator[tuple[Descriptor, bytes | Layer]]:
    """Yield every blob of an image or index once: configurations, manifests, the index, then layers."""
    images = images_of(item)
    documents: dict[str, tuple[Descriptor, bytes]] = {}
    for image in images:
        config = parse_manifest(image.manifest, "the manifest").config
        documents[config.digest] = (config, image.config)
        documents[image.digest] = (image.descriptor, image.manifest)
    if isinstance(item, Index):
        documents[item.digest] = (item.descriptor, item.index)
    yield from documents.values()
    layers = {layer.descriptor.digest: layer for image in images for layer in image.layers}
    for layer in layers.values():
        yield layer.descriptor, layer


def copy_layer(layer: Layer, out: Writable) -> None:
    """Copy a layer's compressed bytes. Raises ImageError if their size or digest is wrong.

    A `VerifiedFile` of the store is not hashed again.
    """
    with contextlib.closing(layer.open()) as stream:
        known = getattr(stream, "verified", "") == layer.descriptor.digest
        if known and os.fstat(stream.fileno()).st_size == layer.descriptor.size:
            copy_file(stream, out)
            return
        hashed = HashingStream(stream)
        for piece in pieces(hashed, CHUNK):
            if hashed.size > layer.descriptor.size:
                break
            out.write(piece)
    if (hashed.digest, hashed.size) != (layer.descriptor.digest, layer.descriptor.size):
        raise ImageError(
            f"the layer {layer.descriptor.digest} of {layer.descriptor.size} bytes is {hashed.digest} "
            f"of {hashed.size} bytes: its copy is damaged; build again"
        )


def index_json(descriptor: Descriptor, annotations: Sequence[dict[str, str]]) -> bytes:
    """Return an index.json with one entry of `descriptor` for each set of annotations."""
    entries: list[dict[str, Any]] = []
    for added in annotations or [{}]:
        entry = descriptor.to_json()
        entry.pop("annotations", None)
        entries.append({**entry, "annotations": added} if added else entry)
    return canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries})


def write_layout(item: Image | Index, directory: Path, references: Sequence[str] = ()) -> None:
    """Write an image or index into a layout directory, which is created if it is missing; index.json comes last.

    An old index.json is replaced. Undamaged blobs are not written again. Raises ImageError for a damaged layer,
    StoreError if the directory cannot be written.
    """
    for descriptor, content in blobs_of(item):
        path = directory / blob_path(descriptor.digest)
        if not _is_intact(path, descriptor):
            with atomic_write(path) as out:
                out.write(content) if isinstance(content, bytes) else copy_layer(content, out)
    write_file(directory / "oci-layout", LAYOUT)
    annotations = [{REF_NAME: reference} for reference in references]
    write_file(directory / "index.json", index_json(item.descriptor, annotations))


def _is_intact(path: Path, descriptor: Descriptor) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != descriptor.size:
        return False
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == descriptor.digest


def open_blob_of(directory: Path, source: str) -> OpenBlob:
    """Return the function that opens the blobs of a layout directory. `source`: its name in error messages."""

    def open_blob(digest: str) -> BinaryIO:
        try:
            return (directory / blob_path(digest)).open("rb")
        except OSError as error:
            raise ImageError(f"{source} has no blob {digest}: {error.strerror}") from error

    return open_blob


def read_layout(directory: Path, platform: Platform | None = None) -> Image | Index:
    """Return the image of a layout directory: from an index the image for `platform`, or the index without `platform`.

    Layers are opened when they are read. Raises ImageError if the layout is damaged or contains several images.
    """
    try:
        index, layout = ((directory / name).read_bytes() for name in ("index.json", "oci-layout"))
    except OSError as error:
        raise ImageError(f"{directory} is not an OCI layout: cannot read {error.filename}: {error.strerror}") from error
    source = f"the layout {directory}"
    return read_item(index, layout, open_blob_of(directory, source), platform, source)


def read_item(
    index: bytes, layout: bytes, open_blob: OpenBlob, platform: Platform | None, source: str
) -> Image | Index:
    """Return the image or index of an index.json; its documents are verified. Raises ImageError."""
    version = parse_json(layout, f"{source}: oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise ImageError(f"{source} has the layout version {version!r}; only 1.0.0 can be read")
    named = {child.digest: child for child in parse_index(index, source)}  # an image has one entry for each name
    if not named:
        raise ImageError(f"{source} holds no image")
    if len(named) == 1:
        descriptor = next(iter(named.values()))
    elif platform is not None:
        descriptor = choose(list(named.values()), platform, source)
    else:
        raise ImageError(f"{source} holds {len(named)} images: only one can be read")
    data = read_document(descriptor, open_blob, source)
    media_type = media_type_of(data, descriptor.media_type, source)
    if media_type not in INDEX_TYPES:
        return _read_image(descriptor, data, open_blob, source)
    children = parse_index(data, source)
    if platform is not None:
        child = choose(children, platform, source)
        return _read_image(child, read_document(child, open_blob, source), open_blob, source)
    images = tuple(
        _read_image(child, read_document(child, open_blob, source), open_blob, source)
        for child in children
        if child.platform != UNKNOWN
    )
    return Index(Descriptor(media_type, descriptor.digest, descriptor.size), data, images)


def read_document(descriptor: Descriptor, open_blob: OpenBlob, source: str) -> bytes:
    """Return the bytes of a manifest, index or configuration. Raises ImageError if size or digest are wrong."""
    if descriptor.size > LARGEST:
        raise ImageError(f"{source}: {descriptor.digest} has {descriptor.size} bytes, too many for a document")
    with contextlib.closing(open_blob(descriptor.digest)) as stream:
        data = stream.read(descriptor.size + 1)
    if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
        raise ImageError(f"{source}: the blob {descriptor.digest} is damaged; copy it again, or build it again")
    return data


def _verify_first(open_blob: OpenBlob, source: str) -> OpenBlob:
    """Return a function that opens a blob, and verifies its digest when it is opened for the first time."""
    sound: set[str] = set()

    def open_verified(digest: str) -> BinaryIO:
        if digest not in sound:
            with HashingStream(open_blob(digest)) as stream:
                drain(stream)
            if stream.digest != digest:
                raise ImageError(f"{source}: the blob {digest} is damaged; copy it again, or build it again")
            sound.add(digest)
        return open_blob(digest)

    return open_verified


def _read_image(descriptor: Descriptor, manifest: bytes, open_blob: OpenBlob, source: str) -> Image:
    media_type = media_type_of(manifest, descriptor.media_type, source)
    if media_type in INDEX_TYPES:
        raise ImageError(f"{source}: an index within an index cannot be read")
    config = read_document(parse_manifest(manifest, source).config, open_blob, source)
    open_verified = _verify_first(open_blob, source)
    image = assemble(descriptor, manifest, config, lambda layer: partial(open_verified, layer.digest), source)
    bare = Descriptor(media_type, descriptor.digest, descriptor.size, image.platform)
    return Image(bare, manifest, config, image.layers)
