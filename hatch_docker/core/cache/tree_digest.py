"""The digest of a file tree of the cache, by which a change is found."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

CONTENTS_LIMIT = 16 << 20  # bytes of a tree up to which its contents are always read: of a compiler it takes a second


def tree_digest(root: Path, *, portable: bool) -> str:
    """Return the hexadecimal digest of a tree: names, types, modes, link targets, sizes and times.

    A portable one has contents too, and is the same after the tree was copied or kept in an archive. The other one has
    inodes and times of change (ctime), of a small tree contents too: it is quick, and differs after any change.
    Times are whole seconds, which archives keep. Owners do not count, nor do times of directories. Raises OSError for
    what cannot be read.
    """
    found = sorted(_walk(root))
    small = sum(status.st_size for _, status in found if stat.S_ISREG(status.st_mode)) <= CONTENTS_LIMIT
    if not portable and not small:
        return hashlib.sha256(repr([(name, *_changes(status)) for name, status in found]).encode()).hexdigest()
    digest = hashlib.sha256()
    for name, status in found:
        row = [os.fsencode(name), b"%o" % status.st_mode]
        if stat.S_ISLNK(status.st_mode):
            row.append(os.fsencode(os.readlink(root / name)))  # noqa: PTH115 - as it is written
        elif not stat.S_ISDIR(status.st_mode):
            row.append(b"%d %d" % (status.st_size, status.st_mtime))
            if not portable:
                row.append(b"%d %d" % (status.st_ino, status.st_ctime_ns))
            if (portable or small) and stat.S_ISREG(status.st_mode):
                with (root / name).open("rb") as stream:
                    row.append(hashlib.file_digest(stream, "sha256").digest())
        for part in row:
            digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _walk(root: Path) -> list[tuple[str, os.stat_result]]:
    """Return the paths of everything below a directory, from there, with what is known without reading it."""
    found, waiting, top = [], [""], str(root)
    while waiting:
        below = waiting.pop()
        with os.scandir(f"{top}/{below}") as entries:
            for entry in entries:
                name = below + entry.name
                found.append((name, entry.stat(follow_symlinks=False)))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
    return found


def _changes(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs after any change of an entry of a tree; the target of a link cannot change."""
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mode,)
    return status.st_mode, status.st_size, status.st_ino, int(status.st_mtime), status.st_ctime_ns
