"""The digest of a file tree of the cache, by which a change is found."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

Written = Mapping[str, bytes]
"""Digests (sha256) of the contents of files, by their paths in the tree, taken while the files were written."""

Found = list[tuple[str, os.stat_result]]

CONTENTS_LIMIT = 16 << 20  # bytes of a tree up to which its contents are always read: of a compiler it takes a second


def tree_digest(root: Path, *, portable: bool) -> str:
    """Return the hexadecimal digest of a tree: names, types, modes, link targets, sizes and times.

    A portable one has contents too, and is the same after the tree was copied or kept in an archive. The other one has
    inodes and times of change (ctime), of a small tree contents too: it is quick, and differs after any change.
    Times are whole seconds, which archives keep. Owners do not count, nor do times of directories. Raises OSError for
    what cannot be read.
    """
    return _digest(root, sorted(walk(root)), {}, portable=portable)


def seal_of(root: Path, written: Written) -> dict[str, str]:
    """Return both digests of a tree, "portable" and "here"; files that are in `written` are not read again."""
    found = sorted(walk(root))
    return {name: _digest(root, found, written, portable=name == "portable") for name in ("portable", "here")}


def _digest(root: Path, found: Found, written: Written, *, portable: bool) -> str:
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
                row.append(written.get(name) or _contents(root / name))
        for part in row:
            digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _contents(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def walk(root: Path) -> Found:
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
