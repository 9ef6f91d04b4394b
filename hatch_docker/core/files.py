"""Atomic writes of files and directories: under a temporary name first, renamed when complete, removed on failure."""

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
TRIES = 100      # attempts to remove a tree into which other threads still write
CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # of CACHEDIR.TAG, bford.info/cachedir
LOCK_DELAY = 5.0  # seconds within which a process locks its new temporary file
TEMPORARY = "hatch-docker-held-"  # prefix of temporary files and directories; without a lock they are abandoned

# Temporary files of all threads: removed at exit, which does not wait for daemon threads.
_unfinished: set[Path] = set()
_creating = threading.Lock()  # held to create a temporary file or rename a tree; at exit it is never released


@atexit.register
def _remove_unfinished() -> None:
    _creating.acquire(timeout=1)
    paths = tuple(_unfinished)
    for path in paths:
        for _ in range(TRIES):
            if not path.is_dir():
                break
            with contextlib.suppress(OSError):
                gone = path.rename(path.with_name(f"{path.name}.gone"))
                with contextlib.suppress(FileExistsError):
                    path.touch(exist_ok=False)  # a file, so that other threads cannot create the directory again
                remove_tree(gone)
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def temporary_file(directory: Path, prefix: str = TEMPORARY, suffix: str = "") -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new temporary file and its path. It is removed at the end of the block, unless it was renamed."""
    with _creating:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=prefix, suffix=suffix)
        path = Path(name)
        _unfinished.add(path)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _lock(descriptor)
            yield stream, path
    finally:
        path.unlink(missing_ok=True)
        _unfinished.discard(path)


@contextlib.contextmanager
def temporary_tree(directory: Path, prefix: str = TEMPORARY) -> Iterator[Path]:
    """Yield a new temporary directory. It is removed at the end of the block, unless it was renamed."""
    with _creating:
        path = Path(tempfile.mkdtemp(dir=directory, prefix=prefix))
        _unfinished.add(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield path
    finally:
        remove_tree(path)
        os.close(descriptor)
        _unfinished.discard(path)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a new directory in TMPDIR, removed at the end of the block. Raises StoreError if no TMPDIR is usable."""
    try:
        target = Path(tempfile.gettempdir())
    except OSError as error:
        raise StoreError(f"there is no directory for temporary files: {error.strerror}; set TMPDIR to one") from error
    with temporary_tree(target) as path:
        yield path


def finish_tree(unfinished: Path, path: Path) -> None:
    """Rename a complete tree to its final path, unless the process is exiting."""
    with _creating:
        unfinished.rename(path)


def make_output_directory(directory: Path) -> None:
    """Create the directory of a command's outputs. Raises StoreError, which names it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"--output: cannot create the directory {directory}: {error.strerror}; choose another"
        ) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file in the directory of `path`; rename it to `path` if the block succeeds, else remove it.

    Every output of a build is written by this function: a killed build leaves no incomplete file under its final name,
    and an earlier output is replaced only by a complete file. Raises StoreError, which names the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_file(path)
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
    """Return a value as indented JSON in UTF-8 with a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def is_cache(directory: Path) -> bool:
    """Return whether a directory contains a CACHEDIR.TAG, or is the context of a Dockerfile that hatch-docker wrote.

    Such a directory is not part of a project.
    """
    if directory.suffix == CONTEXT and directory.with_suffix(DOCKERFILE).is_file():
        return True
    try:
        with (directory / "CACHEDIR.TAG").open("rb") as stream:
            return stream.read(len(CACHE_TAG)) == CACHE_TAG
    except OSError:
        return False


def is_output(path: Path) -> bool:
    """Return whether a file is an output of a build: another output of the same image is in the same directory."""
    found = re.fullmatch(r"(.+?)(?:\.linux-[a-z0-9]+)?(\.(?:\w+\.json|oci\.tar|Dockerfile))", path.name)
    if found is None:
        return False
    stem, ending = found.groups()
    mates = {RECEIPT: (ARCHIVE, *DOCUMENTS), DOCKERFILE: (CONTEXT,), ARCHIVE: (RECEIPT,)}
    mates |= dict.fromkeys(DOCUMENTS, (RECEIPT,))
    return any(path.with_name(stem + mate).exists() for mate in mates.get(ending, ()))


def mark_as_cache(directory: Path) -> None:
    """Mark a directory as a cache with CACHEDIR.TAG, and make git ignore it."""
    write_file(directory / ".gitignore", b"*\n")
    write_file(directory / "CACHEDIR.TAG", CACHE_TAG + b"\n# A cache of hatch-docker's builds.\n")


def check_file(path: Path) -> None:
    """Raise StoreError if a directory is in the place of a file that is to be written."""
    if path.is_dir():
        raise StoreError(f"cannot write {path}: a directory is in the way; move it away")


def _lock(descriptor: int) -> None:
    """Lock a temporary file, to show that it is in use. On a file system without locks only its age can show that."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` that killed builds left in its directory: those that no process has locked."""
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.startswith(f".{path.name}.") and other.suffix == ".tmp":
                _remove_unlocked(other)


def remove_abandoned(directory: Path | None = None) -> None:
    """Remove temporary files of this user's killed processes from a directory (default: TMPDIR)."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(directory or tempfile.gettempdir())):
            if entry.name.startswith(TEMPORARY) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    """Remove a file or directory, unless a process has locked it or it is new. Other kinds of files are not opened."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return
        if time.time() - status.st_mtime <= LOCK_DELAY:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path) if stat.S_ISDIR(status.st_mode) else path.unlink()
        finally:
            os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a tree, including directories without write permission. Symlinks are not followed.

    Works at any depth: each directory is moved to the top directory before its contents are removed.
    """
    if path.is_symlink() or not path.is_dir():
        return
    token, number = os.urandom(8).hex(), 0
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError):
            if directory.is_symlink():  # a process of the build has replaced the directory meanwhile
                continue
            directory.chmod(0o700)
            entries = list(os.scandir(directory))
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    waiting.append(_move_to(Path(entry.path), path / f".{token}.{number}"))
                else:
                    Path(entry.path).unlink()
    shutil.rmtree(path, ignore_errors=True)


def _move_to(directory: Path, target: Path) -> Path:
    try:
        return directory.rename(target)
    except PermissionError:  # the rename needs write permission on the directory itself
        directory.chmod(0o700)
        return directory.rename(target)


def write_access_of_others(directory: Path, allowed: int = 0) -> str:
    """Return why users other than this one and root can write to a directory, as a clause; "" if they cannot.

    `allowed`: a combination of S_IWOTH and S_ISVTX that is accepted.
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
    """Return the members of a group other than this user and root; a user's private group has none."""
    import grp
    import pwd

    users = pwd.getpwall()
    names = {user.pw_name for user in users if user.pw_gid == group}
    with contextlib.suppress(KeyError):
        names.update(grp.getgrgid(group).gr_mem)
    return sorted(names - {user.pw_name for user in users if user.pw_uid in (0, os.geteuid())})
