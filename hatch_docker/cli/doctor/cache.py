"""Checks of the cache and the disks: free space, damaged entries, temporary files of killed builds."""

import contextlib
import os
import random
import shutil
import time
from pathlib import Path

from hatch_docker.cli.doctor.check import Finding, Report, Setup
from hatch_docker.core.cache.prune import MAX_BYTES, entries
from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.text import megabytes

MIN_FREE = 1_000_000_000  # bytes; with less, a build may fail
SAMPLE_TIME = 3.0         # seconds for reading a sample of the cache
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")  # locks may not work between machines


def check_cache(setup: Setup) -> Report:
    """Check that the cache can be written and locked, and that the entries match their digests."""
    store = open_store(setup.cache)
    with store.lock("doctor"), store.writer() as writer:  # raises StoreError
        writer.write(b"?")
    found = list(entries(store))
    size = sum(item.size for item in found)
    kind, device = _mount(setup.cache)
    limit = f"at most {_gigabytes(MAX_BYTES)}"
    yield f"{setup.cache}: {megabytes(size)} of {limit}, {len(found)} entries, {kind} on {device}"
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding(
            "problem", "cache",
            f"it is on {kind}, whose file locks may not work: set HATCH_DOCKER_CACHE_DIR to a directory of this "
            "machine",
        )
    count, total = setup.leftovers
    if count:
        yield f"{count} unfinished files ({megabytes(total)}) of builds that run or were killed; removed within a day"
    # A compiler cache is left out: it changes during builds, and verifies its files when it reads them.
    paths = [item.path for item in found if item.path.parent.name != "compilers"]
    yield from _check_entries(store, paths, deep=setup.deep)


def _check_entries(store: Store, paths: list[Path], *, deep: bool) -> Report:
    """Verify the digests of a sample of the entries. `deep`: of all entries."""
    end = time.monotonic() + SAMPLE_TIME
    if not deep:
        random.shuffle(paths)
    checked, damaged = 0, []
    for path in paths:
        if not deep and time.monotonic() > end:
            break
        checked += 1
        if _is_damaged(store, path):
            damaged.append(path)
    if damaged:
        yield Finding(
            "problem", "cache",
            f"{len(damaged)} of {checked} checked entries are damaged, for example {damaged[0]}; builds make them "
            "again, but another program wrote there, or the disk fails: look at the system's log, and run "
            "`hatch-docker clean --all`",
        )
    elif checked:
        yield f"{checked} of {len(paths)} entries checked, none is damaged" + ("" if deep else "; --deep checks all")


def _is_damaged(store: Store, path: Path) -> bool:
    try:
        return not store.is_intact(path)
    except FileNotFoundError:
        return False  # another process removed it
    except OSError:
        return True


def find_leftovers(root: Path) -> tuple[int, int]:
    """Return number and bytes of unfinished files in a store. Call it before `open_store`, which removes old ones."""
    sizes = []
    for path in (Path(place, name) for place, _, names in os.walk(root / "tmp") for name in names):
        with contextlib.suppress(OSError):
            sizes.append(path.lstat().st_size)
    return len(sizes), sum(sizes)


def check_disks(setup: Setup) -> Report:
    """Check the free space of all file systems that a build writes to, and the permissions of the output directory."""
    with temporary_directory() as path:
        places = {setup.cache: "the cache", path.parent: "temporary files", setup.root: "the project"}
    disks: dict[int, tuple[Path, list[str]]] = {}
    for path, purpose in places.items():
        existing = next((parent for parent in (path, *path.parents) if parent.exists()), None)
        if existing is not None:
            disks.setdefault(existing.stat().st_dev, (existing, []))[1].append(purpose)
    for place, purposes in disks.values():
        free, status = shutil.disk_usage(place).free, os.statvfs(place)
        text = f"{_gigabytes(free)} free for {', '.join(purposes)}"
        if free < MIN_FREE or (status.f_files and not status.f_favail):
            reason = "" if free < MIN_FREE else ", but no free inode"
            yield Finding(
                "problem", "disk", f"{text}{reason} ({place}): make room, `hatch-docker clean` may help, or set "
                "HATCH_DOCKER_CACHE_DIR or TMPDIR to another disk",
            )
        else:
            yield text
    output = next(path for path in (setup.root / "dist", setup.root) if path.exists())
    if setup.plans and not os.access(output, os.W_OK | os.X_OK):
        yield Finding(
            "problem", "disk",
            f"{output}, where images are written, is not writable: change its permissions, or set another directory "
            "(`-o`)",
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _mount(path: Path) -> tuple[str, str]:
    """Return type and device of the file system of a path (proc(5), mounts), "?" if unknown."""
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
