"""The layers of a Debian base: made from .debs once, then known by the packages they came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hatch_docker.bases import Interpreter, real_path
from hatch_docker.bases.deb import Deb
from hatch_docker.bases.ldcache import Library, conf_directories, find_libraries
from hatch_docker.bases.rootfs import (
    MTIME,
    Entries,
    text_file,
    unpack,
    wanted_at_run_time,
    with_parents,
    workspace,
    write_into,
)
from hatch_docker.bases.scripts import alternatives, check_free, loader_cache, loader_files, root_files, status
from hatch_docker.errors import BaseImageError
from hatch_docker.oci.layer import Compression, Entry, LayerFacts, make_layer, write_layer
from hatch_docker.oci.model import Layer
from hatch_docker.wheels.compile import compile_sources

if TYPE_CHECKING:
    from hatch_docker.store import Store

_LIBC_BIN = re.compile(
    r"(usr/sbin/ldconfig|etc/ld\.so\.conf(\.d/.*)?|etc/gai\.conf|usr/lib/locale/C\.utf8/.*"
    r"|usr/share/doc/libc-bin/copyright)"
)
# gconv: iconv() in C libraries for rare charsets (Python's codecs are its own). _py*: stand-ins for C modules
# that Debian's Python always has; _dbm: its library (libdb) is left out as a whole.
_NOT_SLIM = re.compile(
    r"usr/lib/[^/]+/(gconv|engines-3|ossl-modules)(/.*)?"
    r"|usr/lib/[^/]+/lib(memusage|pcprofile|c_malloc_debug|BrokenLocale|nss_hesiod|thread_db)\.so[.0-9]*"
    r"|usr/lib/python3\.\d+/(test|idlelib|turtledemo|pydoc_data|lib2to3/tests)(/.*)?"
    r"|usr/lib/python3\.\d+/(turtle|_pydecimal|_pydatetime|_pyio)\.py"
    r"|usr/lib/python3\.\d+/lib-dynload/(_test|_ctypes_test|_xxtestfuzz|xx|_dbm)[^/]*"
    r"|usr/share/zoneinfo/((right|posix)(/.*)?|tzdata\.zi)|usr/sbin/update-ca-certificates|etc/ca-certificates(/.*)?"
    r"|usr/share/(base-files|dict|binfmts|misc)(/.*)?|usr/(games|src|include)|usr/lib/binfmt\.d(/.*)?|boot"
    r"|var/(backups|mail|local)|etc/(update-motd\.d|skel|default|profile\.d)(/.*)?"
)
_CERTIFICATES = "usr/share/ca-certificates/"


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


def _known(store: Store, key: str) -> Made | None:
    fact = store.recall("debian-layer", key)
    if fact is None:
        return None
    made = Made.of_json(fact)
    return made if store.has(made.facts.digest) else None


def _make(store: Store, key: str, compression: Compression, assemble: Assemble) -> Made:
    with workspace(store) as place:
        contents = assemble(place)
        entries = contents.entries
        with store.writer() as writer:
            facts = write_layer(entries.values(), writer, compression)
            writer.commit()
    made = Made(
        facts,
        max((entry.mtime for entry in entries.values()), default=MTIME),
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


def base_entries(
    debs: Sequence[Deb], place: Path, interpreter: Interpreter, compiler: tuple[Path, Interpreter] | None,
    *, slim: bool, compiled: bool,
) -> Contents:
    """The base layer, unpacked in `place`.

    Where `compiled`, the standard library's .pyc are made by `compiler`, a tree and its Python; None means the
    tree at hand.
    """

    def keep(package: str, entry: Entry) -> bool:
        if package == "libc-bin" and not (_LIBC_BIN.fullmatch(entry.path)):
            return False
        return wanted_at_run_time(entry.path) and not (slim and _NOT_SLIM.fullmatch(entry.path))

    entries = unpack(debs, place, keep)
    added = root_files(debs, entries)
    if slim:  # they are in one file now
        entries = {path: entry for path, entry in entries.items() if not f"{path}/".startswith(_CERTIFICATES)}
    entries = _without_empty_documentation(with_parents({**entries, **_by_path(added)}))
    write_into(place, added)
    search = conf_directories(loader_files(entries))
    libraries = find_libraries(entries, search)
    entries |= _by_path([loader_cache(libraries), *status(debs, entries)])
    if compiled:
        entries |= _compiled(entries, interpreter, compiler or (place, interpreter))
    return Contents(with_parents(entries), libraries, search)


def _by_path(entries: Iterable[Entry]) -> Entries:
    return {entry.path: entry for entry in entries}


def _without_empty_documentation(entries: Entries) -> Entries:
    """Directories that only documentation was in tell nothing."""
    used = {path.rpartition("/")[0] for path in entries}
    return {
        path: entry
        for path, entry in entries.items()
        if entry.kind != "directory" or path in used or not path.startswith("usr/share/")
    }


def _compiled(entries: Entries, interpreter: Interpreter, compiler: tuple[Path, Interpreter]) -> Entries:
    """The .pyc of the standard library: without them every start in the container compiles it anew."""
    prefix = f"usr/lib/python{interpreter.short}/"
    sources = [
        (path, entry.content)
        for path, entry in sorted(entries.items())
        if path.startswith(prefix) and path.endswith(".py") and isinstance(entry.content, Path)
    ]
    tree, runs = compiler
    found = compile_sources([sources], tree, runs)
    return {path: text_file(path, data) for path, data in found.items()}


def system_entries(debs: Sequence[Deb], place: Path, below: Made) -> Contents:
    """What some packages add to a base. No directory of the base is written again.

    Raises BaseImageError where a package would replace one.
    """
    unpacked = unpack(debs, place, lambda _package, entry: wanted_at_run_time(entry.path))
    entries: Entries = {}
    for entry in unpacked.values():
        parent, _, name = entry.path.rpartition("/")
        path = f"{real_path(below.symlinks, parent)}/{name}" if parent else name
        if entry.kind != "directory" or path not in below.symlinks:  # the base's link leads to its directory
            entries[path] = replace(entry, path=path)
    taken = frozenset(below.directories)
    entries |= _by_path(alternatives(debs, entries))
    entries = _without_empty_documentation(with_parents(entries))
    entries = {path: entry for path, entry in entries.items() if entry.kind != "directory" or path not in taken}
    for path, entry in entries.items():
        if entry.kind != "directory":
            check_free(path, taken)
    search = list(dict.fromkeys((*below.search, *conf_directories(loader_files(entries)))))
    known = {item.soname: item for item in below.libraries}
    known |= {item.soname: item for item in find_libraries(entries, search) if item.soname not in known}
    libraries = sorted(known.values())
    entries |= _by_path([loader_cache(libraries), *status(debs, entries)])
    return Contents(entries, libraries, search)


def unpack_builder(debs: Sequence[Deb], place: Path, interpreter: Interpreter) -> None:
    """A tree to compile in: everything but documentation, for this machine's architecture."""
    entries = unpack(debs, place, lambda _package, entry: wanted_at_run_time(entry.path))
    added = root_files(debs, entries)
    write_into(place, added)
    entries = with_parents({**entries, **_by_path(added)})
    libraries = find_libraries(entries, conf_directories(loader_files(entries)))
    compiled = _compiled(entries, interpreter, (place, interpreter))
    write_into(place, [loader_cache(libraries), *compiled.values()])
    # The sandbox's user, who is not us, has to pass every directory, whatever our umask is.
    everything = with_parents({**entries, **compiled})
    write_into(place, [entry for entry in everything.values() if entry.kind == "directory"])
