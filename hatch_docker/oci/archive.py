"""Image archives that every engine loads: one tar that is an OCI layout and a docker-archive with the same blobs.

`docker load` without the containerd store needs a manifest.json (moby's image/spec v1.2), and reads the layers at the
paths in it: here those of blobs/sha256.
"""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import PartReader, Writable
from hatch_docker.oci.layout import (
    LAYOUT,
    REF_NAME,
    blob_path,
    blobs_of,
    copy_layer,
    index_json,
    read_item,
)
from hatch_docker.oci.manifest import LARGEST, parse_index, parse_manifest
from hatch_docker.oci.model import Image, Index, Layer, Platform, canonical_json
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.tar import BLOCK, END, Entry, pack_header, read_tar

if TYPE_CHECKING:
    from concurrent.futures import Future

OPENED = 3  # layers that are opened ahead of the one that is written, because opening hashes them
CONTAINERD_NAME = "io.containerd.image.name"


def write_archive(item: Image | Index, references: Sequence[str], out: Writable, *, host: Platform) -> None:
    """Write an item and its names as one deterministic tar, and check the layers.

    The docker-archive part has one platform: of an index the child for `host`, else the first. Raises ImageError for
    a damaged layer or a name that is not a reference.
    """
    members = list(_members(item, references, host))
    with contextlib.ExitStack() as stack:
        layers = _opened((content for _, content, _ in members if isinstance(content, Layer)), stack)
        for header, content, size in members:
            out.write(header)
            if isinstance(content, Layer):
                copy_layer(next(layers), out)
            else:
                out.write(content)
            out.write(bytes(-size % BLOCK))
        out.write(END)


def _opened(layers: Iterable[Layer], stack: contextlib.ExitStack) -> Iterator[Layer]:
    """Yield the layers in their order, some opened ahead: opening one of the cache hashes it, which takes time."""
    from concurrent.futures import ThreadPoolExecutor

    pool = stack.enter_context(ThreadPoolExecutor(OPENED))
    waiting: deque[tuple[Layer, Future[BinaryIO]]] = deque()
    for layer in layers:
        waiting.append((layer, pool.submit(lambda item: stack.enter_context(item.open()), layer)))
        if len(waiting) > OPENED:
            first, stream = waiting.popleft()
            yield replace(first, open=stream.result)
    for first, stream in waiting:
        yield replace(first, open=stream.result)


def write_partial(image: Image, references: Sequence[str], present: int, out: Writable) -> None:
    """Write a docker-archive without the `present` lowest layers, which Docker has already.

    Docker does not document this. It works with its own store, which looks for a layer's chain id before its file.
    The containerd store and Podman need every layer.
    """
    config = parse_manifest(image.manifest, "the manifest").config
    for name, data in (("manifest.json", docker_manifest(image, references)), (blob_path(config.digest), image.config)):
        out.write(_file(name, len(data)) + data + bytes(-len(data) % BLOCK))
    sent: set[str] = set()
    for layer in image.layers[present:]:
        if layer.descriptor.digest not in sent:
            sent.add(layer.descriptor.digest)
            out.write(_file(blob_path(layer.descriptor.digest), layer.descriptor.size))
            copy_layer(layer, out)
            out.write(bytes(-layer.descriptor.size % BLOCK))
    out.write(END)


def child_for(index: Index, host: Platform) -> Image:
    """Return the image of an index for a platform, else for its architecture, else the first."""
    fitting = [image for image in index.images if image.platform == host]
    same = [image for image in index.images if image.platform.architecture == host.architecture]
    return (fitting or same or list(index.images))[0]


def archive_matches(path: Path, item: Image | Index, references: Sequence[str], *, host: Platform) -> bool:
    """Tell whether the archive at `path` is what `write_archive` would write.

    Compares every header and document and the length; of layers only the name, which is their digest, and the size.
    Takes a millisecond, whatever the size of the layers.
    """
    try:
        with path.open("rb") as stream:
            for header, content, size in _members(item, references, host):
                if stream.read(len(header)) != header:
                    return False
                if isinstance(content, Layer):
                    stream.seek(size + -size % BLOCK, io.SEEK_CUR)
                elif stream.read(size + -size % BLOCK) != content + bytes(-size % BLOCK):
                    return False
            return stream.read() == END
    except OSError:
        return False


def docker_names(references: Sequence[str]) -> list[str]:
    """Return the references that a docker-archive can have: those with a tag, in full, each once."""
    full = [parse_reference(reference) for reference in references]
    return list(dict.fromkeys(f"{name.name}:{name.tag}" for name in full if name.tag))


def docker_manifest(image: Image, references: Sequence[str]) -> bytes:
    """Return a docker-archive's manifest.json, with the paths of a layout's blobs."""
    config = parse_manifest(image.manifest, "the manifest").config
    paths = [blob_path(layer.descriptor.digest) for layer in image.layers]
    value = {"Config": blob_path(config.digest), "RepoTags": docker_names(references), "Layers": paths}
    return canonical_json([value])


def _members(
    item: Image | Index, references: Sequence[str], host: Platform
) -> Iterator[tuple[bytes, bytes | Layer, int]]:
    """Yield header, content and size of every member, the small ones first."""
    names = docker_names(references)
    annotations = [{REF_NAME: name, CONTAINERD_NAME: name} for name in names]
    loaded = item if isinstance(item, Image) else child_for(item, host)
    yield _directory("blobs"), b"", 0
    yield _directory("blobs/sha256"), b"", 0
    for name, data in (
        ("oci-layout", LAYOUT),
        ("index.json", index_json(item, annotations)),
        ("manifest.json", docker_manifest(loaded, references)),
    ):
        yield _file(name, len(data)), data, len(data)
    for descriptor, content in blobs_of(item):
        yield _file(blob_path(descriptor.digest), descriptor.size), content, descriptor.size


def _directory(path: str) -> bytes:
    return pack_header(Entry(path, "directory", 0o755, 0), 0)


def _file(path: str, size: int) -> bytes:
    return pack_header(Entry(path, "file", 0o644, 0), size)


def _part(path: Path, offset: int, size: int) -> PartReader:
    """Open a part of a file."""
    file = path.open("rb", buffering=0)
    file.seek(offset)
    return PartReader(file, size, owned=True)


def read_archive(path: Path, platform: Platform | None = None) -> Image | Index:
    """Return the image of an OCI archive (a layout in an uncompressed tar), as `read_layout` does for a directory.

    Layers are read in place, at their offset. Raises ImageError, also for archives of Docker before 25, which have
    no layout.
    """
    members = _locate(path)

    def open_blob(digest: str) -> BinaryIO:
        found = members.get(blob_path(digest))
        if found is None:
            raise ImageError(f"the archive {path} has no blob {digest}")
        return io.BufferedReader(_part(path, *found))

    index, layout = (_read(path, members, name) for name in ("index.json", "oci-layout"))
    return read_item(index, layout, open_blob, platform, f"the archive {path}")


def archive_names(path: Path) -> list[str]:
    """Return the full names, with tags, that an archive gives its image; raises ImageError if it has no index."""
    children = parse_index(_read(path, _locate(path), "index.json"), f"the archive {path}")
    names = [child.annotations.get(CONTAINERD_NAME, "") for child in children]
    return list(dict.fromkeys(name for name in names if name))


def _read(path: Path, members: dict[str, tuple[int, int]], name: str) -> bytes:
    """Return a document of an archive."""
    if name not in members:
        raise ImageError(f"the archive {path} has no {name}: not an OCI layout")
    offset, size = members[name]
    with _part(path, offset, min(size, LARGEST)) as stream:
        return stream.read() or b""


def _locate(path: Path) -> dict[str, tuple[int, int]]:
    """Return offset and size of every file of a tar, by its path."""
    members: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as stream:
            end = path.stat().st_size
            for entry, content in read_tar(stream, lambda count: stream.seek(count, io.SEEK_CUR)):
                if content is not None:
                    members[entry.path] = (stream.tell(), entry.size)
                    if stream.tell() + entry.size > end:
                        raise ImageError(f"the archive {path} is cut short inside {entry.path}")
    except OSError as error:
        raise ImageError(f"cannot read the archive {path}: {error.strerror}") from error
    except ImageError as error:
        raise error if str(path) in str(error) else ImageError(f"cannot read the archive {path}: {error}") from error
    return members
