"""The user's cache together with a shared one: facts and blobs that builds on other machines left in a registry.

A fact of the shared cache is kept under a key that has its place in it (`scope`), never as a fact of this machine, and
so is everything that a build learns after it took one: who writes there could otherwise put code into the images of
other projects. Blobs are named by their digests, and verified.
"""

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.cache.tree_digest import Written
from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.progress import Progress

Fact = tuple[str, str, Any]
"""A kind, a key and the JSON value that is remembered under them."""

_TREES = frozenset({"wheel", "sdist", "build-env"})  # kinds of trees whose contents a compiler of the base decided


@dataclass(frozen=True, slots=True)
class Found:
    """The contents of a shared cache: facts, and a function for each digest that puts its bytes into a store."""

    facts: Iterable[Fact]
    blobs: Mapping[str, Callable[[Store], object]]


@dataclass(slots=True)
class Shared:
    """A shared cache during one build; it is read at most once, when something is missing that takes long to make.

    `scope` stands for its place, "" if none is read. `kinds` are those of facts that go into it, `costly` those that
    it is read for. `noted` gets all facts of `kinds` that the build used or learned. `borrowed` is true once the build
    has taken a fact, `written` if it is written at the end. `opened` gets the files that were opened of trees of the
    store, `refused` the keys of trees that have to be whole, with the files of their partial ones
    (`bases.partial_tree`).
    """

    scope: str
    read: Callable[[Store], Found]
    kinds: Container[str]
    costly: Container[str]
    progress: Progress
    noted: dict[tuple[str, str], Any] = field(default_factory=dict)
    borrowed: bool = False
    blobs: Mapping[str, Callable[[Store], object]] | None = None  # None before it is read
    lost: set[str] = field(default_factory=set)  # digests of blobs that it did not give
    written: bool = False
    opened: dict[Path, set[str]] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def load(self, store: Store) -> bool:
        """Read the shared cache into a store, and return whether there is one; its failure is a warning."""
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
        """Put a blob into a store if the shared cache has it; a failure is a warning, and no second attempt follows."""
        if digest not in (self.blobs or {}) or digest in self.lost:
            return
        try:
            (self.blobs or {})[digest](store)
        except HatchDockerError as error:
            self.lost.add(digest)
            self.progress.warn(f"a layer of the shared cache is made here instead: {error}")


@dataclass(frozen=True, slots=True)
class SharedStore(Store):
    """A store that looks in a shared cache for what it does not have."""

    shared: Shared = field(kw_only=True, compare=False)

    @property
    def own(self) -> Store:
        """The store without the shared cache."""
        return Store(self.root, self.verified)

    @property
    def borrowed(self) -> bool:
        """True if anything that this build does may rest on a fact of the shared cache."""
        return self.shared.borrowed

    def look_elsewhere(self) -> bool:
        """Return whether facts of the shared cache were added, so that to recall again may find more."""
        return self.shared.load(self.own)

    def obtainable(self, digest: str) -> bool:
        """Return whether a blob is here or in the shared cache."""
        if self.own.has(digest):
            return True
        return self.shared.load(self.own) and digest in (self.shared.blobs or {}) and digest not in self.shared.lost

    def get(self, digest: str) -> Path | None:
        """Return the path of a verified blob, which is downloaded from the shared cache if need be; or None."""
        found = self.own.get(digest)
        if found is None:
            self.shared.fetch(digest, self.own)
            found = self.own.blob_path(digest) if self.own.has(digest) else None  # verified while it was written
        return found

    def recall(self, kind: str, key: str) -> Any:
        """Return the JSON value remembered under a key, here or in the shared cache, or None."""
        own, shared = self.own, self.shared
        value = own.recall(kind, key)
        if value is None and shared.scope:
            scoped = key_of(shared.scope, key)
            value = own.recall(kind, scoped)
            if value is None and kind in shared.costly and shared.load(own):
                value = own.recall(kind, scoped)
            shared.borrowed = shared.borrowed or value is not None
        if value is not None:
            self.note(kind, key, value)
        return value

    def keep(self, kind: str, key: str) -> Any:
        """Return what `recall` does of a fact that this build does not use, so that the shared cache keeps it."""
        value = self.own.recall(kind, self.kept_under(kind, key))
        if value is not None:
            self.note(kind, key, value)
        return value

    def remember(self, kind: str, key: str, fact: Any) -> None:
        """Keep a small JSON value under a key, for builds with this shared cache alone if one of its facts was used."""
        self.own.remember(kind, self._key(key), fact)
        self.note(kind, key, fact)

    def note(self, kind: str, key: str, fact: Any) -> None:
        """Have the shared cache that this build writes hold a fact, if it is of its kinds."""
        if kind in self.shared.kinds:
            self.shared.noted[kind, key] = fact

    def kept_under(self, kind: str, key: str) -> str:
        """Return the key under which a fact is kept here that `recall` returns for a key."""
        return key if self.own.recall(kind, key) is not None else key_of(self.shared.scope, key)

    def tree(self, kind: str, key: str, make: Callable[[Path], Written | None]) -> Path:
        """Return the directory under a key, made once; one that a borrowed interpreter made is for this place alone."""
        apart = kind in _TREES and not (self.root / "trees" / kind / key).is_dir()
        return Store.tree(self, kind, self._key(key) if apart else key, make)

    def _key(self, key: str) -> str:
        return key_of(self.shared.scope, key) if self.shared.borrowed else key
