"""The user's cache: blobs by digest, facts and trees by key. Entries are verified on read and written atomically.

    <root>/blobs/<hex>          any bytes, named by their sha256
    <root>/facts/<kind>/<key>   a small JSON value; its checksum is in the first line
    <root>/trees/<kind>/<key>/  an unpacked file tree, complete once it has this name
    <root>/compilers/<key>/     the compiler cache of a project, written by its builds
    <root>/locks/, <root>/tmp/  locks of concurrent builds, and unfinished entries

Keys are made of contents (digests, versions, recipes), never of paths or times, so that a fresh checkout finds the
entries too. The one exception are the facts of whole builds (`build/unchanged.py`), whose keys contain paths.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, TypeVar

from hatch_docker.core.cache.tree_digest import FileDigests, tree_digest, tree_digests
from hatch_docker.core.errors import StoreError
from hatch_docker.core.files import (
    finish_tree,
    mark_as_cache,
    remove_abandoned,
    remove_tree,
    temporary_file,
    temporary_tree,
    write_access_of_others,
)
from hatch_docker.core.os_errors import FULL, reason
from hatch_docker.core.streams import HashingStream

Fact = TypeVar("Fact")

CACHE_DIR = "HATCH_DOCKER_CACHE_DIR"
NO_CACHE = "HATCH_DOCKER_NO_CACHE"
FORMAT = "v1"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # errors of a file system without flock
RECENT = 0.05         # seconds; the resolution of a file's ctime is finer
TOUCH_INTERVAL = 600  # seconds until a time of last use is set again; less than the pruning's GRACE
TMP_LIFETIME = 24 * 3600  # seconds after which an unfinished file is removed, locked or not


class DamagedBlobError(StoreError):
    """A blob of the cache is missing or does not match its digest. A damaged blob has been removed."""


class ChangedTreeError(Exception):
    """A tree that was used before its check has changed since it was stored."""


def key_of(*parts: object) -> str:
    """Return the key for some JSON values: the hexadecimal SHA-256 of their canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file, "sha256:<hex>"."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


class BlobWriter(HashingStream):
    """A stream that writes a blob of the store. `commit` renames the temporary file to the blob's digest."""

    def __init__(self, store: Store, stream: IO[bytes], temporary: Path) -> None:
        super().__init__(stream)
        self._store = store
        self._temporary = temporary

    def commit(self) -> str:
        """Finish the blob and return its digest."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        _rename(self._temporary, self._store.blob_path(self.digest))
        return self.digest


class VerifiedFile(io.BufferedReader):
    """An open blob whose bytes were verified just before; `verified` is its digest."""

    def __init__(self, path: Path, digest: str) -> None:
        super().__init__(io.FileIO(path))
        self.verified = digest


@dataclass(frozen=True, slots=True)
class Store:
    """The cache in one directory. Processes can share it. Made by `open_store`."""

    root: Path
    # Blobs and trees that matched their digests in this process. Values: inode, size and ctime of a blob.
    verified: dict[Path, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    # Trees that `tree` returned without a check, with their inodes; None if `tree` checks each tree first.
    unchecked_trees: dict[Path, int] | None = field(default=None, repr=False, compare=False)

    def with_deferred_checks(self) -> Self:
        """Return a store whose `tree` returns an existing tree without a check; `check_trees` checks it later.

        A sandbox can start meanwhile. Its results must not be stored before `check_trees` has succeeded.
        """
        return replace(self, unchecked_trees={})

    def check_trees(self) -> None:
        """Check the trees that were returned without a check; raise ChangedTreeError if one has changed."""
        for path, inode in sorted((self.unchecked_trees or {}).items()):
            if not self._check_tree_once(path) or _inode(path) != inode:  # another inode: another build made it again
                raise ChangedTreeError

    @property
    def uses_shared(self) -> bool:
        """True if this build has used a fact of a shared cache."""
        return False

    @property
    def local(self) -> Store:
        """The store of this machine, without a shared cache."""
        return self

    def note(self, kind: str, key: str, fact: Any) -> None:
        """Note a fact for the shared cache that this build writes; without a shared cache do nothing."""

    def stored_key(self, _kind: str, key: str) -> str:
        """Return the key under which this store has the fact that `recall` returns."""
        return key

    def blob_path(self, digest: str) -> Path:
        """Return the path of a blob, which may not exist."""
        return self.root / "blobs" / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Return whether a blob exists in this store. Its bytes are verified when they are read."""
        path = self.blob_path(digest)
        _touch(path)
        return path.is_file()

    def load_shared(self) -> bool:
        """Read the shared cache if it was not read yet; return whether `recall` may find more facts now."""
        return False

    def is_available(self, digest: str) -> bool:
        """Return whether `get` may return a blob, from here or from the shared cache."""
        return self.has(digest)

    def get(self, digest: str) -> Path | None:
        """Return the path of a verified blob, or None. A damaged blob is removed."""
        path = self.blob_path(digest)
        if path.is_symlink() or path.is_dir():
            self.discard(path)
        if not path.is_file():
            return None  # not discarded: another thread may be renaming its file to this path
        try:
            if self._matches(path, digest):
                _touch(path)
                return path
        except OSError:
            pass  # a read error of the disk
        self.discard(path)
        return None

    def _matches(self, path: Path, digest: str) -> bool:
        """Return whether a file has a digest. A file that was verified in this process is not read again."""
        status = path.stat()
        state = (status.st_ino, status.st_size, status.st_ctime_ns)
        if self.verified.get(path) == state:
            return True
        if file_digest(path) != digest:
            return False
        if time.time() - status.st_ctime > RECENT:  # otherwise the next change could have the same ctime
            self.verified[path] = state
        return True

    def open(self, digest: str) -> BinaryIO:
        """Open a blob and verify it. Raises DamagedBlobError if it is missing or damaged; the caller makes it again."""
        path = self.get(digest)
        if path is None:
            raise DamagedBlobError(f"the cache entry {digest} was missing or damaged; making it anew")
        return VerifiedFile(path, digest)

    def discard(self, path: Path) -> None:
        """Remove an entry. A tree is renamed first, so that no build can use a partly removed tree."""
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError), temporary_tree(self.root / "tmp") as temporary:
                path.chmod(0o700)  # a rename needs write permission on the directory itself
                path.rename(temporary / path.name)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Yield a BlobWriter. Without `commit` the blob is removed at the end of the block. Raises StoreError."""
        with _store_errors(self.root), temporary_file(self.root / "tmp") as (stream, temporary):
            yield BlobWriter(self, stream, temporary)

    def put(self, data: bytes) -> str:
        """Store some bytes as a blob and return its digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def recall(self, kind: str, key: str) -> Any:
        """Return the JSON value stored under a key, or None. A damaged value is removed."""
        path = self.root / "facts" / kind / key
        try:
            text = _read_fact(path)
        except FileNotFoundError:
            return None
        except OSError:
            text = None
        if text is None:
            self.discard(path)
            return None
        _touch(path)
        return json.loads(text)

    def is_intact(self, path: Path, *, deep: bool = True) -> bool:
        """Return whether a blob, fact or tree matches its name, checksum or digest. Raises OSError if it is unreadable.

        If `deep` is False, the contents of a large tree are read only if an inode or ctime has changed since the last
        check.
        """
        kind, *names = path.relative_to(self.root).parts
        if kind == "blobs":
            return file_digest(path) == f"sha256:{path.name}"
        if kind == "trees":
            return self._is_intact_tree(path, "-".join(names), deep)
        return _read_fact(path) is not None

    def _is_intact_tree(self, path: Path, key: str, deep: bool) -> bool:
        digests = self.recall("seal", key)
        if not isinstance(digests, dict):
            return False
        here = tree_digest(path, portable=False)
        if not deep and here == digests.get("here"):
            return True
        if tree_digest(path, portable=True) != digests.get("portable"):
            return False
        if here != digests.get("here"):
            with contextlib.suppress(StoreError):  # a read-only cache
                self.remember("seal", key, {**digests, "here": here})
        return True

    def remember(self, kind: str, key: str, fact: Any) -> None:
        """Store a small JSON value under a key: a line with its checksum, then the value. Raises StoreError.

        The file is not synced to the disk (fsync). If a power failure damages it, its checksum does not match, and the
        value is ignored.
        """
        text = json.dumps(fact, sort_keys=True).encode()
        path = self.root / "facts" / kind / key
        with _store_errors(self.root):
            _make_directory(path.parent)
            with temporary_file(self.root / "tmp") as (stream, temporary):
                stream.writelines((_fact_checksum(key, text), b"\n", text))
                stream.close()
                _rename(temporary, path)

    def recall_or_make(self, kind: str, key: str, make: Callable[[], Fact]) -> Fact:
        """Return the JSON value stored under a key. If there is none, call `make` and store its result."""
        known: Fact | None = self.recall(kind, key)
        if known is None:
            known = make()
            self.remember(kind, key, known)
        return known

    def tree(self, kind: str, key: str, make: Callable[[Path], FileDigests | None]) -> Path:
        """Return the directory under a key. If it is missing or has changed, `make` fills a new directory.

        `make` may return the digests of files that it wrote; these are not read again to compute the tree's digest.
        The directory is checked by its digest once per process.
        """
        path = self.root / "trees" / kind / key
        if self.unchecked_trees is not None and path not in self.verified and (inode := _inode(path)) is not None:
            self.unchecked_trees.setdefault(path, inode)
        elif not self._check_tree_once(path):
            with self.lock(f"{kind}-{key}"), _store_errors(self.root):
                if not self._check_tree_once(path):
                    self._make_tree(path, make)
        _touch(path)
        return path

    def _check_tree_once(self, path: Path) -> bool:
        """Return whether a tree exists and is intact; in each process it is read only the first time."""
        if not path.is_dir() or path.is_symlink():
            return False
        with contextlib.suppress(OSError):
            if path in self.verified or self.is_intact(path, deep=False):
                self.verified[path] = ()
                return True
        return False

    def _make_tree(self, path: Path, make: Callable[[Path], FileDigests | None]) -> None:
        _make_directory(path.parent)
        with temporary_tree(self.root / "tmp") as temporary:
            temporary.chmod(0o755)
            digests = tree_digests(temporary, make(temporary) or {})
            self.remember("seal", f"{path.parent.name}-{path.name}", digests)
            self.discard(path)
            finish_tree(temporary, path)
            self.verified[path] = ()

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock against the other builds of this machine during the block.

        Check again for the entry after this call: another build may have made it. Raises StoreError if the file system
        has no locks.
        """
        with contextlib.ExitStack() as stack:
            with _store_errors(self.root):
                stream = stack.enter_context((self.root / "locks" / f"{key_of(name)[:32]}.lock").open("ab"))
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX)
                except OSError as error:
                    if error.errno not in NO_LOCKS:
                        raise
                    raise StoreError(
                        f"the cache {self.root.parent} cannot be locked ({error.strerror}), which parallel builds "
                        "need; set HATCH_DOCKER_CACHE_DIR to a directory on a disk of this machine"
                    ) from error
            yield


def _read_fact(path: Path) -> bytes | None:
    """Return the JSON of a fact, None if it is damaged. Raises OSError if the file cannot be opened.

    Symlinks are not followed, and opening a pipe does not block.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        checksum, text = stream.readline().rstrip(b"\n"), stream.read()
    return text if checksum == _fact_checksum(path.name, text) else None


def _fact_checksum(key: str, text: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\n")
    digest.update(text)  # not concatenated: it may be several megabytes
    return digest.hexdigest().encode()


def _inode(directory: Path) -> int | None:
    """Return the inode of a directory, None if it does not exist."""
    with contextlib.suppress(OSError):
        status = directory.lstat()
        return status.st_ino if stat.S_ISDIR(status.st_mode) else None
    return None


def _rename(temporary: Path, path: Path) -> None:
    """Rename a finished file to its final path. A directory at that path is not an entry of the store: remove it."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    temporary.replace(path)


def _touch(path: Path) -> None:
    """Set the time of an entry's last use (for `prune`), unless it was set less than TOUCH_INTERVAL seconds ago."""
    with contextlib.suppress(OSError):
        if not 0 <= time.time() - path.stat().st_mtime < TOUCH_INTERVAL:
            os.utime(path)


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return the directory of the cache: $HATCH_DOCKER_CACHE_DIR, or hatch-docker in the user's cache directory."""
    if environ.get(CACHE_DIR):
        return Path(environ[CACHE_DIR])
    import platformdirs

    return platformdirs.user_cache_path("hatch-docker", appauthor=False)


@contextlib.contextmanager
def without_cache(environ: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield the environment variables of a build.

    With HATCH_DOCKER_NO_CACHE, HATCH_DOCKER_CACHE_DIR is a new empty directory inside the user's cache, which is
    removed at the end of the block.
    """
    if environ.get(NO_CACHE, "") in ("", "0"):
        yield environ
        return
    with temporary_tree(open_store(cache_root(environ)).root / "tmp", "no-cache-") as cache:
        yield {**environ, CACHE_DIR: str(cache)}


def open_store(root: Path) -> Store:
    """Open the store under `root`, create it if it is missing, and remove unfinished files of killed builds.

    Raises StoreError, also if another user owns a directory of the store or may write to it: that user could put code
    into images.
    """
    store = Store(root / FORMAT)
    try:
        if store.root.is_symlink():
            store.root.unlink()
        _make_directory(root)
        _make_directory(store.root)
        _check_owner(root, stat.S_IWOTH | stat.S_ISVTX)  # allowed: with the sticky bit others cannot rename our files
        _check_owner(store.root)
        # CI pipelines often keep the cache inside the project: the mark keeps it out of git and of images.
        if not (store.root / "CACHEDIR.TAG").exists():
            mark_as_cache(store.root)
        _check_entries(store.root)
        for name in ("blobs", "facts", "trees", "locks", "tmp"):
            _make_directory(store.root / name)
        for name in ("facts", "trees", "locks"):
            _check_entries(store.root / name)
        remove_abandoned(store.root / "tmp")
        for path in (store.root / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):  # another build may rename or remove its file at any time
                if path.lstat().st_mtime < time.time() - TMP_LIFETIME:
                    remove_tree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise StoreError(
            f"cannot use the cache {root}: {reason(error, root)}; "
            "set HATCH_DOCKER_CACHE_DIR to a directory that can be written"
        ) from error
    return store


def find_store(root: Path, kind: str) -> Store:
    """Return the store under `root` for reading facts of one kind; create and remove nothing.

    Raises StoreError if `open_store` would reject the store, OSError if `open_store` would create or repair it.
    """
    store = Store(root / FORMAT)
    facts = store.root / "facts"
    if any(directory.is_symlink() for directory in (store.root, facts, facts / kind)):
        raise NotADirectoryError(store.root)
    _check_owner(root, stat.S_IWOTH | stat.S_ISVTX)
    for directory in (store.root, facts, facts / kind):
        _check_owner(directory)
    return store


def _make_directory(directory: Path) -> None:
    """Create a directory of the store without write permission for others, whatever the umask is."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)


def _check_owner(directory: Path, allowed: int = 0) -> None:
    """Raise StoreError if another user than root owns a directory or may write to it.

    `allowed`: mode bits that are accepted although they let others write.
    """
    if who := write_access_of_others(directory, allowed):
        raise StoreError(
            f"the cache {directory} {who}, who could put code into your images; set HATCH_DOCKER_CACHE_DIR to a "
            f"directory of your own, or correct it (chown -R {os.geteuid()}, chmod -R go-w)"
        )


def _check_entries(directory: Path) -> None:
    """Remove symlinks from a directory of the store: the store makes none, and `prune` must not follow one.

    Raises StoreError if another user owns a directory in it or may write to it.
    """
    for entry in list(os.scandir(directory)):
        with contextlib.suppress(FileNotFoundError):  # another build may remove an entry at any time
            if entry.is_symlink():
                Path(entry.path).unlink()
            elif entry.is_dir():
                _check_owner(Path(entry.path))


@contextlib.contextmanager
def _store_errors(root: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError that says what the user can do."""
    try:
        yield
    except OSError as error:
        empties = "`hatch-docker clean --all` empties it, " if error.errno in FULL else ""
        raise StoreError(
            f"cannot write to the cache {root}: {reason(error, root)}; {empties}HATCH_DOCKER_CACHE_DIR names another"
        ) from error
