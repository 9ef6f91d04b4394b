"""Program of a stage of the Dockerfile: the difference of two root file systems as the tar of a layer.

    python -I -S changes.py BEFORE AFTER OUT

A program of its own, run by the base's Python (3.9 or newer), standard library only. It writes OUT/layer.tar, in
which everything has one time and what is gone is a whiteout (layer.md), and OUT/capabilities: the programs whose
file capabilities such a tar does not hold. What a container's runtime mounts is left out.
"""

from __future__ import annotations

import filecmp
import os
import stat
import sys
import tarfile
from pathlib import Path

DATE = 315532800   # 1980-01-01, as SOURCE_DATE
MOUNTED = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
OTHERS = ("dev", "proc", "sys", "tmp")  # what is below them is nobody's


class Writer:
    """The tar that is written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.tar = tar
        self.links: dict[tuple[int, int], str] = {}
        self.capable: list[str] = []

    def add(self, path: str, file: str, status: os.stat_result) -> None:
        """Write a file, directory or link as it is, but for its time; devices, pipes and sockets are left out."""
        info = tarfile.TarInfo(path)
        info.mtime, info.mode, info.uid, info.gid = DATE, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(file)  # noqa: PTH115 - as it is written
        elif not stat.S_ISREG(status.st_mode):
            return
        elif (first := self.links.setdefault((status.st_dev, status.st_ino), path)) != path:
            info.type, info.linkname = tarfile.LNKTYPE, first
        else:
            if "security.capability" in os.listxattr(file):
                self.capable.append(path)
            info.size = status.st_size
            with open(file, "rb") as stream:  # noqa: PTH123
                self.tar.addfile(info, stream)
            return
        self.tar.addfile(info)

    def remove(self, path: str) -> None:
        """Write the whiteout of a path that is gone."""
        directory, _, name = path.rpartition("/")
        info = tarfile.TarInfo(f"{directory}/.wh.{name}".lstrip("/"))
        info.mtime = DATE
        self.tar.addfile(info)


def is_unchanged(first: str, second: str, before: os.stat_result, after: os.stat_result) -> bool:
    """Tell whether a path is unchanged, but for its time."""
    if (before.st_mode, before.st_uid, before.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
        return False
    if stat.S_ISLNK(after.st_mode):
        return os.readlink(first) == os.readlink(second)  # noqa: PTH115
    return not stat.S_ISREG(after.st_mode) or filecmp.cmp(first, second, shallow=False)


def list_names(directory: str) -> set[str]:
    """Return the names in a directory; none for a link or a file."""
    real = os.path.isdir(directory) and not os.path.islink(directory)  # noqa: PTH112, PTH114
    return set(os.listdir(directory)) if real else set()  # noqa: PTH208


def compare(before: str, after: str, path: str, writer: Writer) -> None:
    """Write the difference of `after` from `before`, two directories that are called `path`."""
    old, new = list_names(before), list_names(after)
    for name in sorted(old | new) if path not in OTHERS else ():
        below = f"{path}/{name}".lstrip("/")
        former, other = f"{before}/{name}", f"{after}/{name}"
        if below in MOUNTED:
            continue
        if name not in new:
            writer.remove(below)
            continue
        status = os.lstat(other)
        if name not in old or not is_unchanged(former, other, os.lstat(former), status):
            writer.add(below, other, status)
        if stat.S_ISDIR(status.st_mode):
            compare(former, other, below, writer)


def main(before: str, after: str, out: str) -> None:
    """Write both files."""
    os.umask(0o022)
    Path(out).mkdir(parents=True, exist_ok=True)
    with tarfile.open(f"{out}/layer.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        writer = Writer(tar)
        compare(before, after, "", writer)
    Path(out, "capabilities").write_text("".join(f"{path}\n" for path in writer.capable), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
