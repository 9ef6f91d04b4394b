"""Pruning of the cache: entries are removed by age and total size, the least recently used first."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.cache.store import Store

MAX_AGE = 60 * 24 * 3600       # seconds since the last use
MAX_BYTES = 10_000_000_000
GRACE = 3600                   # seconds after the last use during which a build may still read an entry
INTERVAL = 24 * 3600           # seconds between two prunings at the end of builds


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Result of `prune`. `kept_bytes` are in the cache now; `used_bytes` of them were used within the grace period."""

    removed: int
    removed_bytes: int
    kept_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob, fact, tree or compiler cache. `used` is its last use (seconds since the epoch), `size` is in bytes."""

    used: float
    size: int
    path: Path


def prune(store: Store, *, max_age: float = MAX_AGE, max_bytes: int = MAX_BYTES, grace: float = GRACE) -> PruneResult:
    """Remove entries last used more than `max_age` seconds ago, then the oldest until at most `max_bytes` are left.

    An entry used within the last `grace` seconds is kept: another build may be reading it. The age of a time in the
    future is its distance from now: a project's build can set any time on its compiler cache.
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
    return PruneResult(removed, total - kept, kept, used)


def prune_now_and_then(store: Store) -> None:
    """Prune with the default limits, at most once a day. A store younger than a day is not pruned."""
    marker, tag = store.root / "pruned", store.root / "CACHEDIR.TAG"
    with contextlib.suppress(OSError):
        has_marker = marker.exists()
        recent = time.time() - (marker if has_marker else tag).stat().st_mtime < INTERVAL
        if has_marker and recent:
            return
        marker.touch()
        if not recent:
            prune(store)


def entries(store: Store) -> list[Entry]:
    """Return all entries of a store, unsorted."""
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
