"""The files of a tree that any process opens, reported by the kernel (inotify(7)).

Processes in the sandbox are included: they use the tree by a read-only mount.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import stat
import struct
import threading
from pathlib import Path

from hatch_docker.core.cache.tree_digest import walk

IN_OPEN, IN_ISDIR, IN_ONLYDIR = 0x20, 0x40000000, 0x1000000
IN_LOST = 0xC000  # IN_Q_OVERFLOW: the queue was full; IN_IGNORED: a directory was removed
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the following name
_PIECE = 1 << 16  # bytes of events in one read


class OpenedFiles:
    """A recorder of the files of a tree that are opened, by any process, from its creation until `end`.

    Raises OSError, such as for a tree with more directories than a user may watch.
    """

    def __init__(self, tree: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = _checked(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._directories: dict[int, str] = {}
        self._found: set[tuple[int, bytes]] = set()
        self._lost = False
        try:
            names = [name for name, status in walk(tree) if stat.S_ISDIR(status.st_mode)]
            for name in ("", *names):
                path = os.fsencode(tree / name)
                watch = _checked(libc.inotify_add_watch(self._inotify, path, IN_OPEN | IN_ONLYDIR))
                self._directories[watch] = f"{name}/" if name else ""
        except BaseException:
            os.close(self._inotify)
            raise
        self._waiting, self._over = os.pipe()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def end(self) -> set[str] | None:
        """Stop; return the paths of the opened files relative to the tree, None if some may be missing."""
        os.close(self._over)
        self._thread.join()
        os.close(self._waiting)
        os.close(self._inotify)
        if self._lost:
            return None
        return {self._directories[watch] + os.fsdecode(name) for watch, name in self._found}

    def _listen(self) -> None:
        """Read events until `end`. They are read at once, because the kernel drops events when its queue is full."""
        while self._waiting not in select.select([self._inotify, self._waiting], [], [])[0]:
            self._read()
        self._read()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._inotify, _PIECE):
                at = 0
                while at < len(data):
                    watch, mask, _, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + length
                    if mask & IN_LOST:
                        self._lost = True
                    elif mask & IN_OPEN and not mask & IN_ISDIR:
                        self._found.add((watch, data[at - length : at].rstrip(b"\0")))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
