"""Files and trees that are written whole or not at all: under a temporary name first, which is always removed."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hatch_docker.core.errors import StoreError
from hatch_docker.core.os_errors import reason
from hatch_docker.core.text import abbreviate

ARCHIVE, RECEIPT = ".oci.tar", ".image.json"  # suffixes of an image's archive and of its receipt
DOCUMENTS = (".provenance.json", ".cdx.json", ".spdx.json")
DOCKERFILE, CONTEXT = ".Dockerfile", ".context"
TRIES = 100      # to remove a tree that is still being filled
CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # of CACHEDIR.TAG, bford.info/cachedir
HOLD_TIME = 5.0  # seconds after which an unfinished file must be held by its writer
HELD = "hatch-docker-held-"  # prefix of files and directories that are abandoned unless held

# Unfinished files of all threads: removed at exit, when some threads are not waited for.
_unfinished: set[Path] = set()
_changing = threading.Lock()  # held while a file is begun or a tree gets its name; never released at exit


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
                    path.touch(exist_ok=False)  # so that threads which still fill it cannot make it again
                remove_tree(gone)
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def temporary_file(directory: Path, prefix: str = HELD, suffix: str = "") -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file and its path; what is left there when the block ends is removed."""
    with _changing:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=prefix, suffix=suffix)
        path = Path(name)
        _unfinished.add(path)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _hold(descriptor)
            yield stream, path
    finally:
        path.unlink(missing_ok=True)
        _unfinished.discard(path)


@contextlib.contextmanager
def temporary_tree(directory: Path, prefix: str = HELD) -> Iterator[Path]:
    """Yield a new directory; what is left there under its name when the block ends is removed."""
    with _changing:
        path = Path(tempfile.mkdtemp(dir=directory, prefix=prefix))
        _unfinished.add(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _hold(descriptor)
        yield path
    finally:
        remove_tree(path)
        os.close(descriptor)
        _unfinished.discard(path)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a new directory in TMPDIR, removed when the block ends. Raises StoreError if there is no TMPDIR."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:
        raise StoreError(f"there is no directory for temporary files: {error.strerror}; set TMPDIR to one") from error
    with temporary_tree(place) as path:
        yield path


def finish_tree(unfinished: Path, path: Path) -> None:
    """Give a complete tree its final name, unless it is being removed."""
    with _changing:
        unfinished.rename(path)


def make_output(directory: Path) -> None:
    """Make the directory of a command's outputs, if it is not there. Raises StoreError, naming it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--output: cannot make the directory {directory}: {error.strerror}; name another") from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write `path` under a temporary name beside it; renamed when the block ends well, removed when it fails.

    Every output of a build is written by this function, so that a killed build leaves no half-written file under its
    final name, and an earlier output stays complete until the new one is. Raises StoreError, naming the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_free(path)
        with temporary_file(path.parent, f".{path.name}.", ".tmp") as (stream, temporary):
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.umask(mask := os.umask(0o022))
            temporary.chmod(0o666 & ~mask)
            temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {reason(error, path.parent)}") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a small file as `atomic_write` does."""
    with atomic_write(path) as stream:
        stream.write(content)


def write_json(path: Path, value: object) -> None:
    """Write an indented JSON document as `atomic_write` does."""
    write_file(path, json_text(value))


def json_text(value: object) -> bytes:
    """Return a JSON document for people and programs: indented, in UTF-8, with a line break at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def is_cache(directory: Path) -> bool:
    """Return whether a directory is marked as a tool's cache, or is the context of a Dockerfile that we wrote.

    Such a directory is never part of a project.
    """
    if directory.suffix == CONTEXT and directory.with_suffix(DOCKERFILE).is_file():
        return True
    try:
        with (directory / "CACHEDIR.TAG").open("rb") as stream:
            return stream.read(len(CACHE_TAG)) == CACHE_TAG
    except OSError:
        return False


def is_output(path: Path) -> bool:
    """Return whether a file is an output of a build, recognised by another output of the same image beside it."""
    found = re.fullmatch(r"(.+?)(?:\.linux-[a-z0-9]+)?(\.(?:\w+\.json|oci\.tar|Dockerfile))", path.name)
    if found is None:
        return False
    stem, ending = found.groups()
    mates = {RECEIPT: (ARCHIVE, *DOCUMENTS), DOCKERFILE: (CONTEXT,), ARCHIVE: (RECEIPT,)}
    mates |= dict.fromkeys(DOCUMENTS, (RECEIPT,))
    return any(path.with_name(stem + mate).exists() for mate in mates.get(ending, ()))


def mark_as_cache(directory: Path) -> None:
    """Mark a directory as a cache, for git too."""
    write_file(directory / ".gitignore", b"*\n")
    write_file(directory / "CACHEDIR.TAG", CACHE_TAG + b"\n# A cache of hatch-docker's builds.\n")


def check_free(path: Path) -> None:
    """Raise StoreError where a directory has the name of a file that is to be written."""
    if path.is_dir():
        raise StoreError(f"cannot write {path}: a directory is in the way; move it away")


def _hold(descriptor: int) -> None:
    """Lock an unfinished file, so that it counts as in use; without locks on a file system, its age must do."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(path: Path) -> None:
    """Remove what killed builds left of `path` beside it: unfinished files that no process holds."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.startswith(f".{path.name}.") and other.suffix == ".tmp":
                _remove_unheld(other)


def remove_abandoned(directory: Path | None = None) -> None:
    """Remove unfinished files of this user's killed processes from a directory, TMPDIR by default."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(directory or tempfile.gettempdir())):
            if entry.name.startswith(HELD) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                _remove_unheld(Path(entry.path))


def _remove_unheld(path: Path) -> None:
    """Remove a file or directory, unless a process holds it or it is new; anything else is not opened."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return
        if time.time() - status.st_mtime <= HOLD_TIME:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path) if stat.S_ISDIR(status.st_mode) else path.unlink()
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a tree, also one with directories without write permission; links in it are never followed.

    Works at any depth: each directory is moved up to the top before it is removed, level by level.
    """
    if path.is_symlink() or not path.is_dir():
        return
    token, number = os.urandom(8).hex(), 0
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError):
            if directory.is_symlink():  # a process of the build that is still ending replaced the directory
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
    except PermissionError:  # our own directory, without the permission to enter it
        directory.chmod(0o700)
        return directory.rename(place)


def others_rights(directory: Path, allowed: int = 0) -> str:
    """Return in words which right to write to a directory others than this user and root have, "" if none.

    `allowed` are the bits of a mode by which every user may write.
    """
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to the user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH and status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) != allowed:
        return "can be written by every user"
    if status.st_mode & stat.S_IWGRP and not status.st_mode & allowed & stat.S_ISVTX:
        others = _members(status.st_gid)
        return f"can be written by {abbreviate(others)}" if others else ""
    return ""


@functools.cache
def _members(group: int) -> list[str]:
    """Return the names of a group's users but for this one and root; on many machines each user has such a group."""
    import grp
    import pwd

    users = pwd.getpwall()
    names = {user.pw_name for user in users if user.pw_gid == group}
    with contextlib.suppress(KeyError):
        names.update(grp.getgrgid(group).gr_mem)
    return sorted(names - {user.pw_name for user in users if user.pw_uid in (0, os.geteuid())})
