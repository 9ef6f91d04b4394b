"""Digests of the file trees in the cache, to detect changes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

FileDigests = Mapping[str, bytes]
"""SHA-256 of the contents of files, by path in the tree, computed while the files were written."""

Listing = list[tuple[str, os.stat_result]]

CONTENTS_LIMIT = 16 << 20  # bytes; contents of a smaller tree are always read. Reading a compiler's takes a second


def tree_digest(root: Path, *, portable: bool) -> str:
    """Return the hexadecimal digest of a tree: names, types, modes, link targets, sizes and times.

    A portable digest includes the contents; it stays the same if the tree is copied or packed into an archive. The
    other digest includes inodes and ctimes, and contents only if the tree is small: it is quick, and differs after any
    change. Times are in whole seconds, as in archives. Owners and the times of directories are not included. Raises
    OSError for a file that cannot be read.
    """
    return _digest(root, sorted(walk(root)), {}, portable=portable)


def tree_digests(root: Path, written: FileDigests) -> dict[str, str]:
    """Return the digests "portable" and "here" of a tree. Files in `written` are not read again."""
    found = sorted(walk(root))
    return {name: _digest(root, found, written, portable=name == "portable") for name in ("portable", "here")}


def _digest(root: Path, found: Listing, written: FileDigests, *, portable: bool) -> str:
    small = sum(status.st_size for _, status in found if stat.S_ISREG(status.st_mode)) <= CONTENTS_LIMIT
    if not portable and not small:
        return hashlib.sha256(repr([(name, *_changes(status)) for name, status in found]).encode()).hexdigest()
    digest = hashlib.sha256()
    for name, status in found:
        row = [os.fsencode(name), b"%o" % status.st_mode]
        if stat.S_ISLNK(status.st_mode):
            row.append(os.fsencode(os.readlink(root / name)))  # noqa: PTH115 - the exact target
        elif not stat.S_ISDIR(status.st_mode):
            row.append(b"%d %d" % (status.st_size, status.st_mtime))
            if not portable:
                row.append(b"%d %d" % (status.st_ino, status.st_ctime_ns))
            if (portable or small) and stat.S_ISREG(status.st_mode):
                row.append(written.get(name) or _contents(root / name))
        for part in row:
            digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _contents(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def walk(root: Path) -> Listing:
    """Return the relative path and the status (lstat) of everything below a directory."""
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
    """Return the fields that any change of an entry changes. The target of an existing symlink cannot change."""
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mode,)
    return status.st_mode, status.st_size, status.st_ino, int(status.st_mtime), status.st_ctime_ns
