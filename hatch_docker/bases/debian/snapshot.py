"""The snapshot of a suite: its signed indexes at one time, used for a day by all projects on this machine.

This module imports nothing that reads an archive: an unchanged build only asks how old the snapshot is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import key_of

if TYPE_CHECKING:
    from hatch_docker.core.cache.store import Store

LIFETIME = 24 * 3600  # seconds that a snapshot is used before the mirror is asked again
RECIPE = 3            # raise it when the content of a snapshot changes
KIND = "debian-snapshot"


def snapshot_key(suite: str, architecture: str) -> str:
    """Return the key of a suite's snapshot in the store."""
    return key_of("snapshot", RECIPE, suite, architecture)


def recall_snapshot(store: Store, suite: str, architecture: str) -> dict[str, Any] | None:
    """Return the snapshot of a suite, None if there is none.

    "time" is when the mirror was asked, in seconds since the epoch; "indexes" has the fields of each `ArchiveFile`;
    "dates" maps the name of each release to the time of its signature.
    """
    known: dict[str, Any] | None = store.recall(KIND, snapshot_key(suite, architecture))
    return known


def remember_snapshot(store: Store, suite: str, architecture: str, snapshot: Mapping[str, Any]) -> None:
    """Keep a snapshot in place of the one before."""
    store.remember(KIND, snapshot_key(suite, architecture), snapshot)


def is_young(snapshot: Mapping[str, Any], now: float) -> bool:
    """Tell whether a snapshot is used without asking the mirror."""
    asked: float = snapshot["time"]
    return 0 <= now - asked < LIFETIME
