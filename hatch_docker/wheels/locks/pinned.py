"""Resolutions out of the project's hatch-docker.lock, and into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.wheels.locks.pin import moved
from hatch_docker.wheels.target import Pin, Target

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.plan.model import LockPlan

HERE = "project:"  # the start of an address below the project


def pinned(
    lock: LockPlan, root: Path, target: Target, ctx: Context, ask: Callable[[], tuple[Pin, ...]]
) -> tuple[Pin, ...]:
    """The files that the lock has for some requirements; `ask` is called where a lock is being written.

    Raises ConfigError for a lock that is out of date.
    """
    assert ctx.image_lock is not None
    question = {
        "platform": str(target.platform), "python": target.python, "libc": " ".join(target.libc),
        "asked": sorted(lock.requirements),
    }  # fmt: skip
    place = root.absolute().as_uri() + "/"
    entry = ctx.image_lock.find("requirements", question)
    if entry is not None:
        return tuple(moved(_pin(row), HERE, place) for row in entry["files"])
    found = ask()
    ctx.image_lock.note("requirements", {**question, "files": [_row(moved(one, place, HERE)) for one in found]})
    return found


def _pin(row: Mapping[str, Any]) -> Pin:
    uploaded = None
    if "uploaded" in row:
        from datetime import datetime

        uploaded = int(datetime.fromisoformat(row["uploaded"]).timestamp())
    return Pin(row["name"], row["version"], row["file"], row["url"], row["sha256"], row.get("size"), uploaded)


def _row(one: Pin) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": one.name, "version": one.version, "file": one.filename, "url": one.url, "sha256": one.sha256,
    }  # fmt: skip
    if one.size is not None:
        row["size"] = one.size
    if one.upload_time is not None:
        row["uploaded"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.upload_time))
    return row
