"""The layers of a Debian base: made of .debs once, then known by the packages they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from hatch_docker.core.errors import BaseImageError
from hatch_docker.oci.layer import Compression, LayerFacts, make_layer, write_layer
from hatch_docker.oci.model import Layer
from hatch_docker.oci.paths import SOURCE_DATE

if TYPE_CHECKING:
    from hatch_docker.bases.debian.ldconfig import Library
    from hatch_docker.bases.debian.rootfs import Entries
    from hatch_docker.core.cache.store import Store

# Those in etc/passwd: user id, group id and home.
USERS: Mapping[str, tuple[int, int, str]] = MappingProxyType(
    {"root": (0, 0, "/root"), "nobody": (65534, 65534, "/nonexistent"), "nonroot": (65532, 65532, "/home/nonroot")}
)


@dataclass(frozen=True, slots=True)
class Made:
    """A layer that was made, and what `Base` and the layers on it need to know of it."""

    facts: LayerFacts
    created: int                              # the newest time of its files, in seconds since the epoch
    directories: tuple[str, ...]
    symlinks: Mapping[str, str]
    libraries: tuple[Library, ...]            # its own and those of the layers below
    search: tuple[str, ...]                   # where the loader looks

    def to_json(self) -> dict[str, Any]:
        """As the store remembers it."""
        return {
            "facts": [self.facts.digest, self.facts.size, self.facts.diff_id, self.facts.unpacked_size],
            "created": self.created, "directories": list(self.directories), "symlinks": dict(self.symlinks),
            "libraries": [[item.soname, item.path, item.flags] for item in self.libraries],
            "search": list(self.search),
        }  # fmt: skip

    @classmethod
    def of_json(cls, fact: Mapping[str, Any]) -> Made:
        """What `to_json` gave."""
        from hatch_docker.bases.debian.ldconfig import Library

        libraries = tuple(Library(*row) for row in fact["libraries"])
        facts = LayerFacts(*fact["facts"])
        directories, search = tuple(fact["directories"]), tuple(fact["search"])
        return cls(facts, fact["created"], directories, fact["symlinks"], libraries, search)


@dataclass(frozen=True, slots=True)
class Contents:
    """A layer about to be written, and what programs on it can load."""

    entries: Entries
    libraries: list[Library]
    search: list[str]


Assemble = Callable[[Path], Contents]
"""Unpacks packages in an empty directory."""


def made_once(store: Store, key: str, compression: Compression, assemble: Assemble) -> Made:
    """The layer of a key; assembled where the store does not have it."""
    found = _known(store, key)
    if found is None:
        with store.lock(f"debian-layer-{key}"):
            found = _known(store, key) or _make(store, key, compression, assemble)
    return found


def is_made(store: Store, key: str) -> bool:
    """Whether the store has the layer of a key."""
    return _known(store, key) is not None


def _known(store: Store, key: str) -> Made | None:
    fact = store.recall("debian-layer", key)
    if fact is None:
        return None
    made = Made.of_json(fact)
    return made if store.has(made.facts.digest) else None


def _make(store: Store, key: str, compression: Compression, assemble: Assemble) -> Made:
    from hatch_docker.bases.debian.rootfs import workspace
    from hatch_docker.oci.layer import without_setid

    with workspace(store) as place:
        contents = assemble(place)
        entries = contents.entries
        with store.writer() as writer:
            facts = write_layer(map(without_setid, entries.values()), writer, compression)
            writer.commit()
    made = Made(
        facts,
        max((entry.mtime for entry in entries.values()), default=SOURCE_DATE),
        tuple(sorted(path for path, entry in entries.items() if entry.kind == "directory")),
        {path: entry.target for path, entry in sorted(entries.items()) if entry.kind == "symlink"},
        tuple(contents.libraries),
        tuple(contents.search),
    )
    store.remember("debian-layer", key, made.to_json())
    return made


def layer_of(store: Store, key: str, compression: Compression, made: Made, assemble: Assemble) -> Layer:
    """A made layer as images hold it; it is made again where its bytes were lost or damaged."""

    def opened() -> BinaryIO:
        path = store.get(made.facts.digest)
        if path is None:
            again = _make(store, key, compression, assemble)
            path = store.get(again.facts.digest)
            if path is None or again.facts != made.facts:
                raise BaseImageError("a layer of the base was lost and came out otherwise: build again")
        return path.open("rb")

    return make_layer(made.facts, compression, opened)
