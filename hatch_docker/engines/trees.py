"""Files of a directory of this machine as entries of a layer: root's, of one time."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry


def tree_entries(root: Path, top: str = "") -> list[Entry]:
    """Return everything in `root`/`top`, itself included, as root's and of one time, but devices and sockets.

    Directories keep their permission bits, files whether they can be executed, links what they say.
    """
    start = root / top if top else root
    entries = [path_entry(start, top)] if top else []
    entries += [path_entry(path, path.relative_to(root).as_posix()) for path in _walk(start)]
    return [entry for entry in entries if entry is not None]


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def path_entry(path: Path, name: str) -> Entry | None:
    """Return a path of this machine as an entry called `name`, None for a device, a pipe or a socket."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, "symlink", 0o777, SOURCE_DATE, target=os.readlink(path))  # noqa: PTH115 - as it is written
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, "directory", status.st_mode & 0o1777, SOURCE_DATE)
    if not stat.S_ISREG(status.st_mode):
        return None
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return Entry(name, "file", mode, SOURCE_DATE, size=status.st_size, content=path)
