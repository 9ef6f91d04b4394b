"""The cache and the disks: room, health, what killed builds left."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.doctor.check import Finding, Look, Said
from hatch_docker.outputs import scratch
from hatch_docker.progress import megabytes
from hatch_docker.prune import MAX_BYTES, entries
from hatch_docker.store import Store, open_store

LITTLE = 1_000_000_000  # bytes free below which a build may not come to its end
SAMPLE = 3.0            # seconds for reading some of the cache
FAR = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")  # file systems whose locks may not hold between machines


def cache(look: Look) -> Said:
    """Where it is, how much is in it, and whether what was looked at is what its name says."""
    store = open_store(look.cache)
    with store.writer() as writer:  # raises StoreError where it cannot
        writer.write(b"?")
    found = list(entries(store))
    size = sum(item.size for item in found)
    kind, device = _mount(look.cache)
    bound = f"at most {_gigabytes(MAX_BYTES)}"
    yield f"{look.cache}: {megabytes(size)} of {bound}, {len(found)} entries, {kind} on {device}"
    if kind in FAR:
        yield Finding(
            "problem", "cache",
            f"it is on {kind}, whose locks may not hold: set HATCH_DOCKER_CACHE_DIR to a directory of this machine",
        )
    if look.leftovers[0]:
        count, left = look.leftovers
        yield f"{count} unfinished files ({megabytes(left)}) of builds that run or were killed; gone within a day"
    yield from _health(store, [item.path for item in found], deep=look.deep)


def _health(store: Store, paths: list[Path], *, deep: bool) -> Said:
    """Some entries, or all, against their names, checksums and seals."""
    end = time.monotonic() + SAMPLE
    if not deep:
        random.shuffle(paths)
    looked, damaged = 0, []
    for path in paths:
        if not deep and time.monotonic() > end:
            break
        looked += 1
        if _is_damaged(store, path):
            damaged.append(path)
    if damaged:
        yield Finding(
            "problem", "cache",
            f"{len(damaged)} of {looked} entries looked at are damaged, {damaged[0]} for one; builds make them anew, "
            "but something wrote there, or the disk fails: look at its log, and run `hatch-docker clean --all`",
        )
    elif looked:
        yield f"{looked} of {len(paths)} entries looked at, all sound" + ("" if deep else "; --deep looks at all")


def _is_damaged(store: Store, path: Path) -> bool:
    """Whether an entry is there and is not what it should be."""
    try:
        return not store.is_sound(path)
    except FileNotFoundError:
        return False  # gone meanwhile
    except OSError:
        return True


def leftovers(root: Path) -> tuple[int, int]:
    """How many unfinished files and trees there are, and their bytes, before `open_store` tidies up."""
    found = []
    for path in _below(root / "tmp"):
        try:
            found.append(path.lstat().st_size)
        except OSError:
            continue
    return len(found), sum(found)


def _below(directory: Path) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        yield from (Path(place, name) for name in names)


def disk(look: Look) -> Said:
    """Room where builds write: the cache, temporary files, the project's dist."""
    with scratch() as path:
        places = {look.cache: "the cache", path.parent: "temporary files", look.root: "the project"}
    seen: dict[int, list[str]] = {}
    first: dict[int, Path] = {}
    for path, what in places.items():
        there = next((one for one in (path, *path.parents) if one.exists()), None)
        if there is not None:
            number = there.stat().st_dev
            seen.setdefault(number, []).append(what)
            first.setdefault(number, there)
    for number, names in seen.items():
        place = first[number]
        free, status = shutil.disk_usage(place).free, os.statvfs(place)
        text = f"{_gigabytes(free)} free for {', '.join(names)}"
        if free < LITTLE or (status.f_files and not status.f_favail):
            reason = "" if free < LITTLE else ", but no inode"
            yield Finding(
                "problem", "disk", f"{text}{reason} ({place}): make room, `hatch-docker clean` may help, or set "
                "HATCH_DOCKER_CACHE_DIR or TMPDIR to another disk",
            )
        else:
            yield text
    output = next(path for path in (look.root / "dist", look.root) if path.exists())
    if look.plans and not os.access(output, os.W_OK | os.X_OK):
        yield Finding(
            "problem", "disk",
            f"{output} cannot be written, where an image goes: change that, or name another directory (`-o`)",
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _mount(path: Path) -> tuple[str, str]:
    """The kind of a path's file system and its device, as the kernel tells (proc(5), mounts)."""
    found, longest = ("?", "?"), -1
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        device, point, kind = line.split(" ")[:3]
        if path.resolve().is_relative_to(point) and len(point) >= longest:
            found, longest = (kind, device), len(point)
    return found
