"""Image archives: a tar that is an OCI layout and a docker-archive with the same blobs, so that every daemon loads it.

`docker load` without the containerd store needs a manifest.json (moby's image/spec v1.2). Its paths of layers are
those of the layout (blobs/sha256).
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import PartReader, Writable
from hatch_docker.oci.layout import (
    LAYOUT,
    REF_NAME,
    OpenBlob,
    blob_path,
    blobs_of,
    copy_layer,
    index_json,
    read_document,
    read_item,
)
from hatch_docker.oci.manifest import LARGEST, media_type_of, parse_index, parse_json, parse_manifest, parse_value
from hatch_docker.oci.media_types import INDEX_TYPES
from hatch_docker.oci.model import UNKNOWN, Descriptor, Image, Index, Layer, Platform, canonical_json, images_of
from hatch_docker.oci.paths import quote
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.tar import BLOCK, END, Entry, pack_header, read_tar

if TYPE_CHECKING:
    from concurrent.futures import Future

OPEN_AHEAD = 3  # layers that are opened in advance, because opening a layer of the cache hashes it
CONTAINERD_NAME = "io.containerd.image.name"
_MEMBER = re.compile(r"oci-layout|(?:index|manifest)\.json|repositories|blobs(?:/sha256(?:/[a-f0-9]{64})?)?")
_KEYS = {"Config", "RepoTags", "Layers", "Parent", "LayerSources"}  # keys of manifest.json, in exact case unlike in Go


def write_archive(item: Image | Index, references: Sequence[str], out: Writable, *, host: Platform) -> None:
    """Write an image or index with its names as a deterministic tar, and verify the layers.

    The docker-archive part contains one platform: the index's image for `host`, otherwise the first (`child_for`).
    Raises ImageError for a damaged layer, or a name that is not a reference.
    """
    members = list(_members(item, references, host))
    with contextlib.ExitStack() as stack:
        layers = _open_ahead((content for _, content, _ in members if isinstance(content, Layer)), stack)
        for header, content, size in members:
            out.write(header)
            if isinstance(content, Layer):
                copy_layer(next(layers), out)
            else:
                out.write(content)
            out.write(bytes(-size % BLOCK))
        out.write(END)


def _open_ahead(layers: Iterable[Layer], stack: contextlib.ExitStack) -> Iterator[Layer]:
    """Yield the layers in their order, with OPEN_AHEAD of them opened in advance by threads."""
    from concurrent.futures import ThreadPoolExecutor

    pool = stack.enter_context(ThreadPoolExecutor(OPEN_AHEAD))
    waiting: deque[tuple[Layer, Future[BinaryIO]]] = deque()
    for layer in layers:
        waiting.append((layer, pool.submit(lambda item: stack.enter_context(item.open()), layer)))
        if len(waiting) > OPEN_AHEAD:
            first, stream = waiting.popleft()
            yield replace(first, open=stream.result)
    for first, stream in waiting:
        yield replace(first, open=stream.result)


def write_partial(image: Image, references: Sequence[str], present: int, out: Writable) -> None:
    """Write a docker-archive without the `present` lowest layers, which Docker already has.

    Docker does not document that it loads such archives. Its own image store looks up a layer's chain ID before it
    reads the file. The containerd store and Podman need all layers.
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
    """Return the image of an index for a platform, otherwise for its architecture, otherwise the first image."""
    fitting = [image for image in index.images if image.platform == host]
    same = [image for image in index.images if image.platform.architecture == host.architecture]
    return (fitting or same or list(index.images))[0]


def archive_matches(path: Path, item: Image | Index, references: Sequence[str], *, host: Platform) -> bool:
    """Return whether the archive at `path` is equal to the result of `write_archive`.

    Headers, documents and the total length are compared, but not the contents of layers. This takes a millisecond for
    layers of any size.
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


def docker_names(references: Iterable[str]) -> list[str]:
    """Return the names of a docker-archive: the references that have a tag, in full form, without duplicates."""
    full = [parse_reference(reference) for reference in references]
    return list(dict.fromkeys(f"{name.name}:{name.tag}" for name in full if name.tag))


def docker_manifest(image: Image, references: Sequence[str]) -> bytes:
    """Return the manifest.json of a docker-archive, with paths of the layout's blobs."""
    config = parse_manifest(image.manifest, "the manifest").config
    paths = [blob_path(layer.descriptor.digest) for layer in image.layers]
    value = {"Config": blob_path(config.digest), "RepoTags": docker_names(references), "Layers": paths}
    return canonical_json([value])


def _members(
    item: Image | Index, references: Sequence[str], host: Platform
) -> Iterator[tuple[bytes, bytes | Layer, int]]:
    """Yield header, content and size of every member: documents before layers."""
    names = docker_names(references)
    annotations = [{REF_NAME: name, CONTAINERD_NAME: name} for name in names]
    loaded = item if isinstance(item, Image) else child_for(item, host)
    yield _directory("blobs"), b"", 0
    yield _directory("blobs/sha256"), b"", 0
    for name, data in (
        ("oci-layout", LAYOUT),
        ("index.json", index_json(item.descriptor, annotations)),
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


def read_archive(path: Path, platform: Platform | None = None, *, foreign: bool = False) -> Image | Index:
    """Return the image of an archive: from an index the image for `platform`, or the whole index without `platform`.

    The archive must be equal to the result of `write_archive` for that image and the archive's names. A `foreign`
    archive may be written by another program, but its OCI layout and its docker-archive must describe the same image.
    Layers are read at their offset in the archive. Raises ImageError, also for archives of Docker before 25, which
    contain no OCI layout.
    """
    members, source = _locate(path), f"the archive {path}"

    def open_blob(digest: str) -> BinaryIO:
        found = members.get(blob_path(digest))
        if found is None:
            raise ImageError(f"the archive {path} has no blob {digest}")
        return io.BufferedReader(_part(path, *found))

    index, layout = (_read(path, members, name) for name in ("index.json", "oci-layout"))
    if foreign:
        _check_foreign(path, members, open_blob)
        return read_item(index, layout, open_blob, platform, source)
    item = read_item(index, layout, open_blob, None, source)
    names = archive_names(path)
    if len({name.rpartition(":")[0] for name in names}) > 1:
        raise ImageError(f"the archive {path} has names of several repositories: refused")
    if not any(archive_matches(path, item, names, host=image.platform) for image in images_of(item)):
        why = _first_difference(path, members, item, names)
        raise ImageError(f"the archive {path} is not as hatch-docker writes it: {why}; build it again")
    return item if platform is None else read_item(index, layout, open_blob, platform, source)


def _first_difference(path: Path, members: dict[str, tuple[int, int]], item: Image | Index, names: list[str]) -> str:
    """Return the first difference between an archive and the result of `write_archive`, as a clause."""
    expected_members = list(_members(item, names, images_of(item)[0].platform))
    expected = {next(read_tar(io.BytesIO(header)))[0].path: content for header, content, _ in expected_members}
    if missing := [name for name in expected if name not in members]:
        return f"it has no {missing[0]}"
    for name, content in expected.items():
        if isinstance(content, bytes) and content and content != _read(path, members, name):
            return f"{name} describes another image, or other names"
    if others := [name for name in members if name not in expected]:
        return f"{quote(others[0])} does not belong to the image"
    return "the order, the headers or the end of its members differ"


def _check_foreign(path: Path, members: dict[str, tuple[int, int]], open_blob: OpenBlob) -> None:
    """Raise ImageError if an archive has an unknown member, or if its two parts describe different images.

    `docker load` and podman read manifest.json if it exists, other programs index.json. Both must contain the same
    image with the same names. Blobs that no document names are accepted: no program reads them.
    """
    source = f"the archive {path}"
    if strange := [name for name in members if not _MEMBER.fullmatch(name)]:
        raise ImageError(f"{source} has the member {quote(strange[0])}, which is no part of an image: refused")
    entries = parse_index(_read(path, members, "index.json"), source)
    if len({entry.digest for entry in entries}) > 1:
        raise ImageError(f"{source} holds {len({entry.digest for entry in entries})} images: only one can be read")
    for entry in entries:
        full, short = (entry.annotations.get(key, "") for key in (CONTAINERD_NAME, REF_NAME))
        if full and short not in ("", full, full.rpartition(":")[2]):
            raise ImageError(f"{source} has two names for one entry of index.json: {quote(full)} and {quote(short)}")
    if "manifest.json" not in members:
        if "repositories" in members:
            raise ImageError(f"{source} has repositories and no manifest.json: refused")
        return
    names = set(archive_names(path))
    docker_entry = _docker_entry(_read(path, members, "manifest.json"), source)
    expected = []
    for data in _manifests(entries[0], members, open_blob, source) if entries else ():
        found = parse_manifest(data, source)
        expected.append((blob_path(found.config.digest), [blob_path(layer.digest) for layer in found.layers]))
    if (docker_entry.get("Config"), docker_entry.get("Layers")) not in expected:
        raise ImageError(f"{source} has another image in manifest.json than in index.json: refused")
    tagged = [docker_entry.get("RepoTags") or []]
    if "repositories" in members:
        value = parse_json(_read(path, members, "repositories"), f"{source}: repositories")
        tagged.append([f"{name}:{tag}" for name, tags in value.items() for tag in tags])
    if any(set(docker_names(texts)) != names for texts in tagged):
        raise ImageError(f"{source} has other names in manifest.json or repositories than in index.json: refused")


def _docker_entry(data: bytes, source: str) -> dict[str, Any]:
    """Return the only object in a manifest.json. Raises ImageError for several objects or an unknown key."""
    value = parse_value(data, f"{source}: manifest.json")
    entry = value[0] if isinstance(value, list) and len(value) == 1 else None
    names = (entry.get("RepoTags") or []) if isinstance(entry, dict) and entry.keys() <= _KEYS else None
    if not isinstance(entry, dict) or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ImageError(f"{source}: manifest.json does not describe one image")
    return entry


def _manifests(
    entry: Descriptor, members: dict[str, tuple[int, int]], open_blob: OpenBlob, source: str
) -> Iterator[bytes]:
    """Yield the manifest of an entry of index.json, or the manifests of its index that the archive contains."""
    data = read_document(entry, open_blob, source)
    if media_type_of(data, entry.media_type, source) not in INDEX_TYPES:
        yield data
        return
    for child in parse_index(data, source):
        if child.platform != UNKNOWN and blob_path(child.digest) in members:
            yield read_document(child, open_blob, source)


def archive_names(path: Path) -> list[str]:
    """Return the full names (with tags) of an archive's image. Raises ImageError if the archive has no index.json."""
    children = parse_index(_read(path, _locate(path), "index.json"), f"the archive {path}")
    names = [child.annotations.get(CONTAINERD_NAME, "") for child in children]
    return list(dict.fromkeys(name for name in names if name))


def _read(path: Path, members: dict[str, tuple[int, int]], name: str) -> bytes:
    """Return the bytes of a document in an archive."""
    if name not in members:
        raise ImageError(f"the archive {path} has no {name}: not an OCI layout")
    offset, size = members[name]
    with _part(path, offset, min(size, LARGEST)) as stream:
        return stream.read() or b""


def _locate(path: Path) -> dict[str, tuple[int, int]]:
    """Return offset and size of each member of a tar by its path. Raises ImageError for links and duplicates."""
    members: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as stream:
            end = path.stat().st_size
            for entry, _content in read_tar(stream, lambda count: stream.seek(count, io.SEEK_CUR)):
                if entry.path in members or entry.kind not in ("file", "directory"):
                    raise ImageError(f"the archive {path} has {quote(entry.path)} twice, or as a {entry.kind}: refused")
                members[entry.path] = (stream.tell(), entry.size)
                if stream.tell() + entry.size > end:
                    raise ImageError(f"the archive {path} is cut short inside {entry.path}")
    except FileNotFoundError as error:
        raise ImageError(f"there is no archive {path}: build it, or give another path") from error
    except OSError as error:
        raise ImageError(f"cannot read the archive {path}: {error.strerror}") from error
    except ImageError as error:
        raise error if str(path) in str(error) else ImageError(f"cannot read the archive {path}: {error}") from error
    return members
