"""Pruning: the store stays within its bounds; entries unused for the longest time are removed first."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.cache.store import Store

MAX_AGE = 60 * 24 * 3600       # seconds since the last use
MAX_BYTES = 10_000_000_000
GRACE = 3600                   # seconds within which another build may still be using an entry
INTERVAL = 24 * 3600           # seconds between two prunings that builds do on their own


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number and bytes of the entries that a pruning removed, the bytes it kept, and those of them in use."""

    removed: int
    removed_bytes: int
    kept_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob, fact, tree or compiler cache: the time of its last use, in seconds since the epoch, and its bytes."""

    used: float
    size: int
    path: Path


def prune(store: Store, *, max_age: float = MAX_AGE, max_bytes: int = MAX_BYTES, grace: float = GRACE) -> Pruned:
    """Remove entries last used more than `max_age` seconds ago, then the oldest until at most `max_bytes` are left.

    An entry used within the last `grace` seconds stays: another build may be reading it. A time in the future counts as
    one that is as long ago: a build may give any to the compiler cache of its project.
    """
    now = time.time()
    items = sorted(entries(store), key=lambda item: (item.used, str(item.path)))
    total = kept = sum(item.size for item in items)
    removed = used = 0
    for item in items:
        age = abs(now - item.used)
        if age < grace:
            used += item.size
        if age < grace or (age <= max_age and kept <= max_bytes):
            continue
        store.discard(item.path)
        kept -= item.size
        removed += 1
    return Pruned(removed, total - kept, kept, used)


def prune_now_and_then(store: Store) -> None:
    """Prune with the default bounds, at most once a day; a store that was made within a day has nothing to prune."""
    marker, made = store.root / "pruned", store.root / "CACHEDIR.TAG"
    with contextlib.suppress(OSError):
        known = marker.exists()
        young = time.time() - (marker if known else made).stat().st_mtime < INTERVAL
        if known and young:
            return
        marker.touch()
        if not young:
            prune(store)


def entries(store: Store) -> list[Entry]:
    """Return all entries of a store, in no particular order."""
    found = []
    for path in [*(store.root / "blobs").iterdir(), *(store.root / "facts").glob("*/*")]:
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            found.append(Entry(status.st_mtime, status.st_size, path))
    for path in [*(store.root / "trees").glob("*/*"), *(store.root / "compilers").glob("*")]:
        with contextlib.suppress(FileNotFoundError):
            found.append(Entry(path.lstat().st_mtime, _tree_size(path), path))
    return found


def _tree_size(path: Path) -> int:
    size = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118
    return size
