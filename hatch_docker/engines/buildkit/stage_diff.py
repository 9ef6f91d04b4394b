"""Program for a stage of the Dockerfile: it writes the difference of two root file systems as a layer's tar.

    python -I -S changes.py BEFORE AFTER OUT

The base's Python runs it (3.9 or newer), with the standard library only. It writes OUT/layer.tar, in which all entries
have the same time and a removed path is a whiteout (layer.md), and OUT/capabilities, a list of files whose capabilities
are lost because the tar does not contain them. Files that the container runtime mounts are skipped.
"""

from __future__ import annotations

import filecmp
import os
import stat
import sys
import tarfile
from pathlib import Path

DATE = 315532800   # 1980-01-01, the same as SOURCE_DATE
MOUNTED = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
SKIPPED = ("dev", "proc", "sys", "tmp")  # directories whose contents are skipped


class Writer:
    """Writer of the layer's tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.tar = tar
        self.links: dict[tuple[int, int], str] = {}
        self.capable: list[str] = []

    def add(self, path: str, file: str, status: os.stat_result) -> None:
        """Write a file, directory or link unchanged except for its time; devices, pipes and sockets are skipped."""
        info = tarfile.TarInfo(path)
        info.mtime, info.mode, info.uid, info.gid = DATE, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(file)  # noqa: PTH115 - the exact text
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
        """Write the whiteout of a removed path."""
        directory, _, name = path.rpartition("/")
        info = tarfile.TarInfo(f"{directory}/.wh.{name}".lstrip("/"))
        info.mtime = DATE
        self.tar.addfile(info)


def is_unchanged(first: str, second: str, before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether two paths have the same type, mode, owner and contents; times are ignored."""
    if (before.st_mode, before.st_uid, before.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
        return False
    if stat.S_ISLNK(after.st_mode):
        return os.readlink(first) == os.readlink(second)  # noqa: PTH115
    return not stat.S_ISREG(after.st_mode) or filecmp.cmp(first, second, shallow=False)


def list_names(directory: str) -> set[str]:
    """Return the names in a directory, an empty set for a link or a file."""
    real = os.path.isdir(directory) and not os.path.islink(directory)  # noqa: PTH112, PTH114
    return set(os.listdir(directory)) if real else set()  # noqa: PTH208


def compare(before: str, after: str, path: str, writer: Writer) -> None:
    """Write the differences between the directories `before` and `after`. `path`: their path in the layer."""
    old, new = list_names(before), list_names(after)
    for name in sorted(old | new) if path not in SKIPPED else ():
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
    """Write OUT/layer.tar and OUT/capabilities."""
    os.umask(0o022)
    Path(out).mkdir(parents=True, exist_ok=True)
    with tarfile.open(f"{out}/layer.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        writer = Writer(tar)
        compare(before, after, "", writer)
    Path(out, "capabilities").write_text("".join(f"{path}\n" for path in writer.capable), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
