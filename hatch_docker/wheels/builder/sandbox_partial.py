"""Partial trees in the sandbox. `sandbox_init.py` imports this module if the root, or a part of it, is a partial tree.

A partial tree contains the files that builds open, and a list of all files of the whole tree (`bases/partial_tree.py`).
The other files become placeholders in the memory of the new root, with their names, modes, sizes and times. inotify
reports if a placeholder is opened. Standard library only, for any Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

IN_OPEN, IN_ISDIR, IN_LOST = 0x20, 0x40000000, 0xC000  # inotify(7); LOST: full queue or removed directory
LIST = "list.json"
EVENT = struct.Struct("iIII")  # watch, mask, cookie, bytes of the name that follows

_libc: Any = ctypes.CDLL(None, use_errno=True)


def compose_partial(
    directory: Path, key: str, top: str, target: Path, skip: tuple[str, ...], bind: Callable[[Path, Path, bool], None]
) -> list[str]:
    """Fill a new root with the partial tree `key`, at and below `top`, except at and below the paths in `skip`.

    All these paths begin and end with a slash. `bind` mounts a file. Return the paths of the placeholders.
    """
    found = []
    Path(f"{target}{top}").parent.mkdir(parents=True, exist_ok=True)
    for path, row in json.loads((directory / LIST).read_bytes()).items():
        if not f"/{path}/".startswith(top) or f"/{path}/".startswith(skip):
            continue
        place = f"{target}/{path}"
        if isinstance(row, str):
            os.symlink(row, place)  # noqa: PTH211 - a Path object takes as long as the system call
        elif not row:
            Path(place).touch()
            bind(directory / key / path, Path(place), False)
        elif len(row) == 1:
            os.mkdir(place)  # noqa: PTH102
            os.chmod(place, row[0])  # noqa: PTH101
        else:
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.ftruncate(file, row[1])
            os.fchmod(file, row[0])
            os.utime(file, (row[2], row[2]))
            os.close(file)
            found.append(f"/{path}")
    return found


class Placeholders:
    """A watch of the placeholders in the root. If the kernel does not report events, a placeholder counts as opened."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self.guard = frozenset(paths), threading.Lock()
        self.opened: str | None = None
        self.inotify = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        places = sorted({path.rpartition("/")[0] for path in paths})
        self.places = {
            _libc.inotify_add_watch(self.inotify, os.fsencode(f"{place}/"), IN_OPEN): place for place in places
        }
        os.close(os.open(paths[0], os.O_RDONLY))
        self.opened = None if self.find_opened() == paths[0] and min(self.places) > 0 else "any of them"

    def find_opened(self) -> str | None:
        """Return the first placeholder that was opened, None if none was."""
        with self.guard, contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.inotify, 1 << 16):
                at = 0
                while at < len(data):
                    watch, mask, _, size = EVENT.unpack_from(data, at)
                    at += EVENT.size + size
                    path = f"{self.places.get(watch, '')}/{os.fsdecode(data[at - size : at].rstrip(bytes(1)))}"
                    if mask & IN_LOST or (path in self.paths and not mask & IN_ISDIR):
                        self.opened = self.opened or path
        return self.opened
