"""The user's cache combined with a shared cache: facts and blobs in a registry, written by builds on other machines.

A fact of the shared cache is stored under a key that contains the location of the shared cache (`scope`). After a build
has used such a fact, all facts that it stores get such keys too. Otherwise anyone who can write to the shared cache
could put code into images of other projects. Blobs are named by their digests, and verified.
"""

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.cache.tree_digest import FileDigests
from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.progress import Progress

Fact = tuple[str, str, Any]
"""A kind, a key, and the JSON value that is stored under them."""

_TREES = frozenset({"wheel", "sdist", "build-env"})  # kinds of trees made with programs of the base, such as compilers


@dataclass(frozen=True, slots=True)
class CacheData:
    """The contents of a shared cache: facts, and by digest a function that puts the blob into a store."""

    facts: Iterable[Fact]
    blobs: Mapping[str, Callable[[Store], object]]


@dataclass(slots=True)
class SharedCache:
    """A shared cache during one build. It is read at most once, when a fact is missing that is slow to compute.

    `scope` identifies its location, "" if no shared cache is read. `written_kinds`: kinds of facts that are written to
    it. `read_kinds`: kinds of facts for which it is read. `written_facts`: facts of `written_kinds` that the build has
    used or made. `used`: True after the build has used a fact of the shared cache. `written`: True if the cache is
    written at the end. `opened_files`: by tree of the store, the files that programs opened. `whole_trees`: by key of a
    tree that is needed as a whole, the files of its partial tree (`bases.partial_tree`).
    """

    scope: str
    read: Callable[[Store], CacheData]
    written_kinds: Container[str]
    read_kinds: Container[str]
    progress: Progress
    written_facts: dict[tuple[str, str], Any] = field(default_factory=dict)
    used: bool = False
    blobs: Mapping[str, Callable[[Store], object]] | None = None  # None before it is read
    failed: set[str] = field(default_factory=set)  # digests of blobs whose download failed
    written: bool = False
    opened_files: dict[Path, set[str]] = field(default_factory=dict)
    whole_trees: dict[str, set[str]] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def load(self, store: Store) -> bool:
        """Read the facts of the shared cache into a store; return whether it has blobs. A failure is a warning."""
        if not self.scope:
            return False
        with self.guard:
            if self.blobs is None:
                self.blobs = {}
                try:
                    found = self.read(store)
                except HatchDockerError as error:
                    self.progress.warn(f"the shared cache is not used: {error}")
                else:
                    for kind, key, value in found.facts:
                        store.remember(kind, key_of(self.scope, key), value)
                    self.blobs = found.blobs
            return bool(self.blobs)

    def fetch(self, digest: str, store: Store) -> None:
        """Download a blob into a store if the shared cache has it. A failure is a warning, and is not retried."""
        if digest not in (self.blobs or {}) or digest in self.failed:
            return
        try:
            (self.blobs or {})[digest](store)
        except HatchDockerError as error:
            self.failed.add(digest)
            self.progress.warn(f"a layer of the shared cache is made here instead: {error}")


@dataclass(frozen=True, slots=True)
class SharedStore(Store):
    """A store that reads facts and blobs that it lacks from a shared cache."""

    shared: SharedCache = field(kw_only=True, compare=False)

    @property
    def local(self) -> Store:
        """The store of this machine, without the shared cache."""
        return Store(self.root, self.verified)

    @property
    def uses_shared(self) -> bool:
        """True if this build has used a fact of the shared cache."""
        return self.shared.used

    def load_shared(self) -> bool:
        """Read the shared cache if it was not read yet; return whether `recall` may find more facts now."""
        return self.shared.load(self.local)

    def is_available(self, digest: str) -> bool:
        """Return whether a blob is in this store or in the shared cache."""
        if self.local.has(digest):
            return True
        return self.shared.load(self.local) and digest in (self.shared.blobs or {}) and digest not in self.shared.failed

    def get(self, digest: str) -> Path | None:
        """Return the path of a verified blob, or None. A missing blob is downloaded from the shared cache."""
        found = self.local.get(digest)
        if found is None:
            self.shared.fetch(digest, self.local)
            found = self.local.blob_path(digest) if self.local.has(digest) else None  # verified while it was written
        return found

    def recall(self, kind: str, key: str) -> Any:
        """Return the JSON value stored under a key, here or in the shared cache, or None."""
        local, shared = self.local, self.shared
        value = local.recall(kind, key)
        if value is None and shared.scope:
            scoped = key_of(shared.scope, key)
            value = local.recall(kind, scoped)
            if value is None and kind in shared.read_kinds and shared.load(local):
                value = local.recall(kind, scoped)
            shared.used = shared.used or value is not None
        if value is not None:
            self.note(kind, key, value)
        return value

    def keep(self, kind: str, key: str) -> Any:
        """Return a stored fact without using it, so that the shared cache still contains it when it is written."""
        value = self.local.recall(kind, self.stored_key(kind, key))
        if value is not None:
            self.note(kind, key, value)
        return value

    def remember(self, kind: str, key: str, fact: Any) -> None:
        """Store a small JSON value under a key; under a key with the scope if a fact of the shared cache was used."""
        self.local.remember(kind, self._key(key), fact)
        self.note(kind, key, fact)

    def note(self, kind: str, key: str, fact: Any) -> None:
        """Note a fact for the shared cache that this build writes, if it is of one of its kinds."""
        if kind in self.shared.written_kinds:
            self.shared.written_facts[kind, key] = fact

    def stored_key(self, kind: str, key: str) -> str:
        """Return the key under which this store has the fact that `recall` returns: `key`, or `key` with the scope."""
        return key if self.local.recall(kind, key) is not None else key_of(self.shared.scope, key)

    def tree(self, kind: str, key: str, make: Callable[[Path], FileDigests | None]) -> Path:
        """Return the directory under a key; `make` fills it if it is missing.

        A tree made with programs of a base from the shared cache gets a key with the scope.
        """
        scoped = kind in _TREES and not (self.root / "trees" / kind / key).is_dir()
        return Store.tree(self, kind, self._key(key) if scoped else key, make)

    def _key(self, key: str) -> str:
        return key_of(self.shared.scope, key) if self.shared.used else key
