"""The layers of a Debian base: assembled from .debs once, then found in the store by the key of their packages."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import BinaryIO

from hatch_docker.bases.debian.ldconfig import Library
from hatch_docker.bases.debian.rootfs import Entries
from hatch_docker.core.cache.store import Store, VerifiedFile
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, StoreError
from hatch_docker.core.files import temporary_tree
from hatch_docker.core.validation import read_record
from hatch_docker.oci.layer import Compression, LayerFacts, make_layer, without_setid, write_layer
from hatch_docker.oci.model import Layer
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry

KIND = "debian-layer"
# The users in etc/passwd: user id, group id and home.
USERS: Mapping[str, tuple[int, int, str]] = {
    "root": (0, 0, "/root"), "nobody": (65534, 65534, "/nonexistent"), "nonroot": (65532, 65532, "/home/nonroot"),
}


@dataclass(frozen=True, slots=True)
class DebianLayer:
    """A layer in the store, and the facts of it that `Base` and the layers above need."""

    facts: LayerFacts
    created: int                              # the newest time of a file, in seconds since the epoch
    directories: tuple[str, ...]
    symlinks: Mapping[str, str]
    libraries: tuple[Library, ...]            # of this layer and the layers below
    search: tuple[str, ...]                   # the directories of the dynamic loader


@dataclass(frozen=True, slots=True)
class LayerContents:
    """The entries of a layer that is not written yet, and the libraries that the loader finds in `search`."""

    entries: Entries
    libraries: list[Library]
    search: list[str]


Assemble = Callable[[Path], LayerContents]
"""Function that unpacks packages into an empty directory and returns the contents of the layer."""


def make_once(
    ctx: Context, key: str, compression: Compression, assemble: Assemble, *, title: str
) -> tuple[DebianLayer, bool]:
    """Return the layer of a key, and whether it was in the store. If not, assemble it; `title` is shown meanwhile."""
    if (found := _known(ctx.store, key)) is not None:
        return found, True
    with ctx.progress.task(title), ctx.store.lock(f"debian-layer-{key}"):
        return _known(ctx.store, key) or _make(ctx, key, compression, assemble), False


def _known(store: Store, key: str) -> DebianLayer | None:
    fact = store.recall(KIND, key)
    return read_record(DebianLayer, fact) if fact is not None and store.is_available(fact["facts"][0]) else None


def _make(ctx: Context, key: str, compression: Compression, assemble: Assemble) -> DebianLayer:
    store = ctx.store
    try:
        with temporary_tree(store.root / "tmp") as place:
            contents = assemble(place)
            entries = contents.entries
            size = sum(entry.size for entry in entries.values())
            with ctx.progress.task("packing the layer", size, part=True) as task, store.writer() as writer:

                def add_entry(entry: Entry) -> Entry:
                    task.advance(entry.size)
                    return without_setid(entry)

                facts = write_layer(map(add_entry, entries.values()), writer, compression)
                writer.commit()
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"cannot unpack packages in the cache {store.root}: {why}") from error
    layer = DebianLayer(
        facts, max((entry.mtime for entry in entries.values()), default=SOURCE_DATE),
        tuple(sorted(path for path, entry in entries.items() if entry.kind == "directory")),
        {path: entry.target for path, entry in sorted(entries.items()) if entry.kind == "symlink"},
        tuple(contents.libraries), tuple(contents.search),
    )  # fmt: skip
    rows = {"facts": astuple(facts), "libraries": [astuple(library) for library in layer.libraries]}
    store.remember(KIND, key, asdict(layer) | rows)
    return layer


def layer_of(ctx: Context, key: str, compression: Compression, layer: DebianLayer, assemble: Assemble) -> Layer:
    """Return a layer for images. If its bytes in the store are missing or damaged, it is made again."""

    def open_layer() -> BinaryIO:
        path = ctx.store.get(layer.facts.digest)
        if path is None:
            again = _make(ctx, key, compression, assemble)
            path = ctx.store.get(again.facts.digest)
            if path is None or again.facts != layer.facts:
                raise BaseImageError(
                    "a layer of the base was missing from the cache, and making it again gave other bytes: build again"
                )
        return VerifiedFile(path, layer.facts.digest)

    return make_layer(layer.facts, compression, open_layer)
