"""Layers (layer.md): writing entries as a deterministic compressed tar, and reading them."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from hatch_docker.core.cache.store import Store
from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import CHUNK, HashingStream, Writable, drain
from hatch_docker.oci.compression import LAYER_LIMIT, Compression, Decompressed
from hatch_docker.oci.media_types import LAYER_TYPES, OCI
from hatch_docker.oci.model import Descriptor, Layer, Opener, open_content
from hatch_docker.oci.paths import WHITEOUT, safe_path
from hatch_docker.oci.tar import BLOCK, END, Entry, Kind, pack_header, read_tar

__all__ = [
    "Compression", "Entry", "Kind", "LayerFacts", "LayerReader", "layer_entries", "make_layer", "without_setid",
    "write_layer",
]  # fmt: skip

OPAQUE = ".wh..wh..opq"


Watch = Callable[[str], Callable[[bytes], None]]
"""Function that gets the path of an entry and returns a function that gets its content in pieces."""


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Digests and sizes of a layer. Sizes are in bytes; `unpacked_size` is the size of the tar."""

    digest: str
    size: int
    diff_id: str
    unpacked_size: int


def make_layer(facts: LayerFacts, compression: Compression, opener: Opener) -> Layer:
    """Return a Layer with an OCI media type. `opener` opens its compressed bytes."""
    media_type = OCI.layer_type(compression.name)
    return Layer(Descriptor(media_type, facts.digest, facts.size), facts.diff_id, facts.unpacked_size, opener)


class _LayerWriter:
    """A stream that compresses a tar in pieces of CHUNK bytes, and hashes the tar and the compressed bytes."""

    def __init__(self, out: Writable, compression: Compression) -> None:
        self._compressor = compression.compressor()
        self._buffer = bytearray()
        self._plain = hashlib.sha256()
        self._plain_size = 0
        self._packed = HashingStream(out)

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            whole = len(self._buffer) - len(self._buffer) % CHUNK
            with memoryview(self._buffer) as view:
                for start in range(0, whole, CHUNK):
                    self._piece(bytes(view[start : start + CHUNK]))
            del self._buffer[:whole]

    def _piece(self, piece: bytes) -> None:
        self._plain.update(piece)
        self._plain_size += len(piece)
        self._packed.write(self._compressor.compress(piece))

    def finish(self) -> LayerFacts:
        if self._buffer:
            self._piece(bytes(self._buffer))
        self._packed.write(self._compressor.flush())
        return LayerFacts(self._packed.digest, self._packed.size, "sha256:" + self._plain.hexdigest(), self._plain_size)


def write_layer(
    entries: Iterable[Entry], out: Writable, compression: Compression, watch: Watch | None = None
) -> LayerFacts:
    """Write entries as one layer, sorted by path with hard links last; return its digests and sizes.

    The order of `entries` does not change the bytes. Contents are streamed. `watch` gets path and target, then the
    content of each entry, and may raise an error. Raises ImageError for a duplicate path, an entry below a file, a path
    that `safe_path` would change, and a file whose content does not have the entry's size.
    """
    # NUL sorts before every character of a name: the same order as by lists of names, with less memory.
    ordered = sorted(entries, key=lambda entry: entry.path.replace("/", "\0"))
    ordered.sort(key=lambda entry: entry.kind == "hardlink")  # a hard link must come after its file
    _check_paths(ordered)
    sink = _LayerWriter(out, compression)
    for entry in ordered:
        feed = watch(entry.path) if watch else lambda _piece: None
        feed(f"{entry.path}\0{entry.target}\0".encode(errors="surrogateescape"))
        if entry.kind != "file":
            sink.write(pack_header(entry, 0))
        elif isinstance(entry.content, bytes):
            size = len(entry.content)
            feed(entry.content)
            sink.write(pack_header(entry, size) + entry.content + bytes(-size % BLOCK))
        else:
            _write_file(sink, entry, entry.content, feed)
    sink.write(END)
    return sink.finish()


def _check_paths(entries: list[Entry]) -> None:
    kinds: dict[str, Kind] = {}
    for entry in entries:
        path = entry.path
        if safe_path(path) != path:
            raise ImageError(f"the path {path!r} of a layer's entry is not normalised")
        if path in kinds:
            raise ImageError(f"two entries of one layer have the path {path}")
        kinds[path] = entry.kind
    for path in kinds:
        parent = path.rpartition("/")[0]
        if kinds.get(parent, "directory") != "directory":
            raise ImageError(f"{path} cannot be in a layer in which {parent} is a {kinds[parent]}")


def _write_file(sink: _LayerWriter, entry: Entry, content: Path | Opener | None, feed: Callable[[bytes], None]) -> None:
    if content is None:
        if entry.size:
            raise ImageError(f"{entry.path} has a size and no content")
        sink.write(pack_header(entry, 0))
        return
    try:
        stream = open_content(content)
    except OSError as error:
        raise ImageError(f"cannot read {entry.path} from {error.filename}: {error.strerror}") from error
    with contextlib.closing(stream):
        size = content.stat().st_size if isinstance(content, Path) else entry.size
        sink.write(pack_header(entry, size))
        left = size
        while chunk := stream.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            feed(chunk)
            sink.write(chunk)
    if left:
        raise ImageError(f"{entry.path} changed while it was read: {size} bytes were expected")
    sink.write(bytes(-size % BLOCK))


def _whiteout(entry: Entry) -> Entry | None:
    """Return the entry, or for a `.wh.` name a "whiteout" or "opaque" entry (layer.md), None for AUFS metadata."""
    parent, _, name = entry.path.rpartition("/")
    if not name.startswith(WHITEOUT):
        return entry
    if name == OPAQUE:
        return Entry(parent, "opaque", 0, entry.mtime)
    if name.startswith(WHITEOUT + WHITEOUT):
        return None
    removed = name.removeprefix(WHITEOUT)
    if removed in ("", ".", ".."):
        raise ImageError(f"a layer's whiteout {entry.path!r} has no name to remove")
    return Entry(f"{parent}/{removed}" if parent else removed, "whiteout", 0, entry.mtime)


class LayerReader:
    """Base class for extracting a fact from a layer, if possible while the layer is read for another purpose.

    `read_entry` is called with each entry in order; a file comes with a content stream of its own. `fact` returns the
    fact, and at the end `store_fact` stores it under `kind` and `key`.
    """

    def __init__(self, store: Store, layer: Layer, kind: str, key: str) -> None:
        self._store, self._layer, self._kind, self._key = store, layer, kind, key

    def read_entry(self, entry: Entry, stream: BinaryIO | None) -> None:
        raise NotImplementedError

    def fact(self) -> Any:
        raise NotImplementedError

    def store_fact(self) -> None:
        self._store.remember(self._kind, self._key, self.fact())

    def unless_stored(self) -> Self | None:
        """Return this reader, or None if the store already has the fact."""
        return self if self._store.recall(self._kind, self._key) is None else None

    def result(self) -> Any:
        """Return the fact from the store; if it is missing, read the layer."""

        def read() -> Any:
            for entry, stream in layer_entries(self._layer):
                self.read_entry(entry, stream)
            return self.fact()

        return self._store.recall_or_make(self._kind, self._key, read)


ReadersOf = Callable[[Layer], Sequence[LayerReader]]
"""Function that returns the readers of a layer."""


def layer_entries(
    layer: Layer, *, report_size: Callable[[int], object] | None = None
) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """Yield the entries of a layer in its order, files with their content, which must be read before the next entry.

    At the end `report_size` gets the size of the tar in bytes. Raises ImageError for an unknown media type, damaged
    data, more than LAYER_LIMIT bytes, an unsafe path, and at the end for a wrong diff-id.
    """
    if layer.descriptor.media_type not in LAYER_TYPES:
        raise ImageError(f"{layer.descriptor.media_type!r} is not the media type of a layer that can be read")
    with contextlib.closing(layer.open()) as stream:
        plain = Decompressed(stream, LAYER_LIMIT)
        hashed = HashingStream(plain)
        for entry, content in read_tar(hashed):
            if (seen := _whiteout(entry)) is not None:
                yield seen, content
        drain(hashed)
        if hashed.digest != layer.diff_id:
            raise ImageError(
                f"the layer {layer.descriptor.digest} unpacks to {hashed.digest}, not to "
                f"{layer.diff_id} as its image says"
            )
        if report_size is not None:
            report_size(plain.size)


def without_setid(entry: Entry) -> Entry:
    """Return an entry without its setuid and setgid bits."""
    return replace(entry, mode=entry.mode & ~0o6000) if entry.mode & 0o6000 else entry
