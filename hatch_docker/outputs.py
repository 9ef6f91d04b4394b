"""Files and trees written whole or not at all: under a temporary name first, which is gone whatever happens."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hatch_docker.errors import StoreError

TRIES = 100      # to remove a tree that is still being filled
CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # of CACHEDIR.TAG, bford.info/cachedir
HOLD_TIME = 5.0  # seconds within which an unfinished output is held by its writer

# What this process has not finished yet, in whatever thread: to be removed also where a thread is not waited for.
_unfinished: set[Path] = set()
_changing = threading.Lock()  # held while something is begun, or a tree gets its name, and for good at the end


@atexit.register
def _remove_unfinished() -> None:
    _changing.acquire(timeout=1)
    paths = tuple(_unfinished)
    for path in paths:
        for _ in range(TRIES):
            if not path.is_dir():
                break
            with contextlib.suppress(OSError):
                gone = path.rename(path.with_name(f"{path.name}.gone"))
                with contextlib.suppress(FileExistsError):
                    path.touch(exist_ok=False)  # in the way of threads that still fill it, and would make it anew
                remove_tree(gone)
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def unfinished_file(directory: Path, prefix: str = "tmp", suffix: str = "") -> Iterator[tuple[BinaryIO, Path]]:
    """A new file and its path; what is left there when the block ends is removed."""
    with _changing:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=prefix, suffix=suffix)
        path = Path(name)
        _unfinished.add(path)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream, path
    finally:
        path.unlink(missing_ok=True)
        _unfinished.discard(path)


@contextlib.contextmanager
def unfinished_tree(directory: Path, prefix: str = "tmp") -> Iterator[Path]:
    """A new directory; what is left there under its name when the block ends is removed."""
    with _changing:
        path = Path(tempfile.mkdtemp(dir=directory, prefix=prefix))
        _unfinished.add(path)
    try:
        yield path
    finally:
        remove_tree(path)
        _unfinished.discard(path)


def finish_tree(unfinished: Path, path: Path) -> None:
    """Give a whole tree its name, unless it is being removed."""
    with _changing:
        unfinished.rename(path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write `path` under a temporary name beside it; renamed when the block ends well, removed when not.

    Every output of a build goes through here, so that a killed build leaves no half-written file under its
    final name and an earlier output stays whole until the new one is. Raises StoreError, naming the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_free(path)
        with unfinished_file(path.parent, f".{path.name}.", ".tmp") as (stream, temporary):
            _hold(stream)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def is_cache(directory: Path) -> bool:
    """Whether a directory says that it is some tool's cache, which nothing takes for a part of a project."""
    try:
        with (directory / "CACHEDIR.TAG").open("rb") as stream:
            return stream.read(len(CACHE_TAG)) == CACHE_TAG
    except OSError:
        return False


def tag_cache(directory: Path) -> None:
    """Make a directory that says it is a cache, to git too; one that holds more than a layout of images is left."""
    with contextlib.suppress(OSError):
        if not (directory / "oci-layout").is_file() and any(directory.iterdir()):
            return
    with replacing(directory / "CACHEDIR.TAG") as stream:
        stream.write(CACHE_TAG + b"\n# A cache of hatch-docker's builds.\n")
    with replacing(directory / ".gitignore") as stream:
        stream.write(b"*\n")


def check_free(path: Path) -> None:
    """Raise StoreError where a directory has the name of a file that is to be written."""
    if path.is_dir():
        raise StoreError(f"cannot write {path}: a directory is in the way; move it away")


def _hold(stream: BinaryIO) -> None:
    """Mark an unfinished file as that of a living process; where a file system has no locks, its age must do."""
    with contextlib.suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(path: Path) -> None:
    """Remove what killed builds left of `path` beside it: the unfinished files that no process holds."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.startswith(f".{path.name}.") and other.suffix == ".tmp":
                _remove_unheld(other)


def _remove_unheld(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        return  # not ours
    with contextlib.suppress(OSError), path.open("rb") as stream:
        if time.time() - path.lstat().st_mtime > HOLD_TIME:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def remove_tree(path: Path) -> None:
    """Remove a tree that may hold directories without write permission; links in it are never followed.

    As deep as it may be: what a build left is removed level by level, each directory brought up to the top first.
    """
    if path.is_symlink() or not path.is_dir():
        return
    token, number = os.urandom(8).hex(), 0
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError):
            if directory.is_symlink():  # a process of the build's, still ending, put it where the directory was
                continue
            directory.chmod(0o700)
            entries = list(os.scandir(directory))
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    waiting.append(_bring_up(Path(entry.path), path / f".{token}.{number}"))
                else:
                    Path(entry.path).unlink()
    shutil.rmtree(path, ignore_errors=True)


def _bring_up(directory: Path, place: Path) -> Path:
    try:
        return directory.rename(place)
    except PermissionError:  # a directory of our own that is closed for us
        directory.chmod(0o700)
        return directory.rename(place)
