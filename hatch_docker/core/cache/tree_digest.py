"""What a finished tree of the cache looks like, so that one which changed since is not used."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

READ = 16 << 20  # bytes of files up to which a tree's contents are looked at, too: to hash a compiler takes a second


def seal(root: Path) -> str:
    """A digest of a tree: names, kinds, modes, links' targets, sizes and times, of a small tree the contents too.

    Times are whole seconds, which archives of a cache keep. Owners do not count, nor do times of directories.
    Raises OSError for what cannot be read.
    """
    found = sorted(_walk(root, ""))
    small = sum(status.st_size for _, status in found if stat.S_ISREG(status.st_mode)) <= READ
    digest = hashlib.sha256()
    for name, status in found:
        row = [os.fsencode(name), b"%o" % status.st_mode]
        if stat.S_ISLNK(status.st_mode):
            row.append(os.fsencode(os.readlink(root / name)))  # noqa: PTH115 - as it is written
        elif not stat.S_ISDIR(status.st_mode):
            row.append(b"%d %d" % (status.st_size, status.st_mtime))
            if small and stat.S_ISREG(status.st_mode):
                with (root / name).open("rb") as stream:
                    row.append(hashlib.file_digest(stream, "sha256").digest())
        for part in row:
            digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _walk(root: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            yield name, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, name)
