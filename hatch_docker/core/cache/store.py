"""The user's cache: bytes by digest, facts by key, trees by key. Verified on read, written atomically.

    <root>/blobs/<hex>          any bytes, named by their sha256
    <root>/facts/<kind>/<key>   a small JSON value, after its own checksum
    <root>/trees/<kind>/<key>/  an unpacked file tree, complete once it has this name
    <root>/compilers/<key>/     the compiler cache of a project, to which its builds write
    <root>/locks/, <root>/tmp/  locks of concurrent builds, and unfinished entries

Keys are contents (digests, versions, recipes), never paths or times, so that a fresh checkout hits too. The one
exception is the memory of whole builds (`build/unchanged.py`), which is about the files of one checkout.
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

from hatch_docker.core.cache.tree_digest import Written, seal_of, tree_digest
from hatch_docker.core.errors import StoreError
from hatch_docker.core.files import (
    finish_tree,
    mark_as_cache,
    others_rights,
    remove_abandoned,
    remove_tree,
    temporary_file,
    temporary_tree,
)
from hatch_docker.core.os_errors import FULL, reason
from hatch_docker.core.streams import HashingStream

Fact = TypeVar("Fact")

CACHE_DIR = "HATCH_DOCKER_CACHE_DIR"
NO_CACHE = "HATCH_DOCKER_NO_CACHE"
FORMAT = "v1"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system without flock
RECENT = 0.05         # seconds: more than a file system's clock is behind
USED_LATELY = 600     # seconds for which a time of last use is not set again, less than the pruning's GRACE
TMP_LIFETIME = 24 * 3600  # seconds after which an unfinished file is abandoned, held or not


class DamagedBlobError(StoreError):
    """An entry of the cache was missing or did not match its digest; it has been removed."""


class ChangedTreeError(Exception):
    """A tree that was used before it was checked had changed."""


def key_of(*parts: object) -> str:
    """Return a key for some JSON values: the hexadecimal sha256 of their canonical form."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return `sha256:` and the hexadecimal digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


class BlobWriter(HashingStream):
    """A stream into the store; `commit` gives the blob its digest as its name."""

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
    """An open blob whose bytes were just found to match `verified`, its digest."""

    def __init__(self, path: Path, digest: str) -> None:
        super().__init__(io.FileIO(path))
        self.verified = digest


@dataclass(frozen=True, slots=True)
class Store:
    """The cache under one directory; safe to share between processes. Made by `open_store`."""

    root: Path
    # Blobs and trees that matched their digest in this process; of a blob inode, size and time of change.
    verified: dict[Path, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    # Trees that were given unchecked, with the inodes of their directories; None if each is checked before.
    unchecked: dict[Path, int] | None = field(default=None, repr=False, compare=False)

    def before_checks(self) -> Self:
        """Return the store for a sandbox that starts while its trees are checked: `tree` gives one that is there.

        Nothing is kept of what is made in it before `check_trees`.
        """
        return replace(self, unchecked={})

    def check_trees(self) -> None:
        """Check the trees that were given unchecked; raise ChangedTreeError if one had changed or was removed."""
        for path, inode in sorted((self.unchecked or {}).items()):
            if not self._is_sound(path) or _inode(path) != inode:  # else others have made it again
                raise ChangedTreeError

    @property
    def borrowed(self) -> bool:
        """True if anything that this build does may rest on a fact of a shared cache."""
        return False

    @property
    def own(self) -> Store:
        """The store without the shared cache, if it looks in one."""
        return self

    def note(self, kind: str, key: str, fact: Any) -> None:
        """Have the shared cache that a build writes hold a fact, which need not be remembered here."""

    def kept_under(self, _kind: str, key: str) -> str:
        """Return the key under which a fact is kept here that `recall` returns for a key."""
        return key

    def blob_path(self, digest: str) -> Path:
        """Return the path of the bytes of a digest, whether they are there or not."""
        return self.root / "blobs" / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Return whether a blob of that digest exists; its bytes are verified when they are read."""
        path = self.blob_path(digest)
        _touch(path)
        return path.is_file()

    def look_elsewhere(self) -> bool:
        """Return whether facts of a shared cache were added, so that to recall again may find more."""
        return False

    def obtainable(self, digest: str) -> bool:
        """Return whether `get` may give a blob; `has` does not look elsewhere."""
        return self.has(digest)

    def get(self, digest: str) -> Path | None:
        """Return the path of a verified blob, or None; a blob with other bytes is removed."""
        path = self.blob_path(digest)
        if path.is_symlink() or path.is_dir():
            self.discard(path)
        if not path.is_file():
            return None  # nothing to remove: another thread may be giving a file this name right now
        try:
            if self._matches(path, digest):
                _touch(path)
                return path
        except OSError:
            pass  # the disk cannot read it
        self.discard(path)
        return None

    def _matches(self, path: Path, digest: str) -> bool:
        """Return whether a file has a digest; one that had it in this process is not read again until it changes."""
        status = path.stat()
        seen = (status.st_ino, status.st_size, status.st_ctime_ns)
        if self.verified.get(path) == seen:
            return True
        if file_digest(path) != digest:
            return False
        if time.time() - status.st_ctime > RECENT:  # else a change that follows might not be seen
            self.verified[path] = seen
        return True

    def open(self, digest: str) -> BinaryIO:
        """Open a blob that must be there and verify it; raise DamagedBlobError, after which the caller makes it again.
        """
        path = self.get(digest)
        if path is None:
            raise DamagedBlobError(f"the cache entry {digest} was missing or damaged; making it anew")
        return VerifiedFile(path, digest)

    def discard(self, path: Path) -> None:
        """Remove an entry; a tree is renamed first, so that no build finds one that is partly removed."""
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError), temporary_tree(self.root / "tmp") as doomed:
                path.chmod(0o700)  # only who may write to a directory can move it
                path.rename(doomed / path.name)
        else:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Yield a BlobWriter; what is not committed when the block ends is removed. Raises StoreError."""
        with _writing(self.root), temporary_file(self.root / "tmp") as (stream, temporary):
            yield BlobWriter(self, stream, temporary)

    def put(self, data: bytes) -> str:
        """Keep some bytes and return their digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def recall(self, kind: str, key: str) -> Any:
        """Return the JSON value remembered under a key, or None; a damaged one is removed."""
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

    def is_sound(self, path: Path, *, deep: bool = True) -> bool:
        """Return whether a blob, a fact or a tree matches its name, checksum or digest; raise OSError if it cannot be
        read.

        Unless it is `deep`, the contents of a large tree are read only if an inode or a time of change differs from
        those that were seen last.
        """
        kind, *names = path.relative_to(self.root).parts
        if kind == "blobs":
            return file_digest(path) == f"sha256:{path.name}"
        if kind == "trees":
            return self._is_sound_tree(path, "-".join(names), deep)
        return _read_fact(path) is not None

    def _is_sound_tree(self, path: Path, key: str, deep: bool) -> bool:
        seal = self.recall("seal", key)
        if not isinstance(seal, dict):
            return False
        here = tree_digest(path, portable=False)
        if not deep and here == seal.get("here"):
            return True
        if tree_digest(path, portable=True) != seal.get("portable"):
            return False
        if here != seal.get("here"):
            with contextlib.suppress(StoreError):  # a cache that can only be read
                self.remember("seal", key, {**seal, "here": here})
        return True

    def remember(self, kind: str, key: str, fact: Any) -> None:
        """Keep a small JSON value under a key: one line of checksum, then the value. Raises StoreError.

        The file is not flushed to the disk: after a power failure its checksum does not match, and it is ignored.
        """
        text = json.dumps(fact, sort_keys=True).encode()
        path = self.root / "facts" / kind / key
        with _writing(self.root):
            _make(path.parent)
            with temporary_file(self.root / "tmp") as (stream, temporary):
                stream.writelines((_fact_sum(key, text), b"\n", text))
                stream.close()
                _rename(temporary, path)

    def remembered(self, kind: str, key: str, make: Callable[[], Fact]) -> Fact:
        """Return the JSON value remembered under a key; where there is none, it is the one that `make` returns."""
        known: Fact | None = self.recall(kind, key)
        if known is None:
            known = make()
            self.remember(kind, key, known)
        return known

    def tree(self, kind: str, key: str, make: Callable[[Path], Written | None]) -> Path:
        """Return the directory under a key, made once: `make` fills an empty directory, which is then renamed.

        It may return digests of the files that it wrote, which are not read again then. A directory that has changed
        since is made again; it is checked once per process, by its digest.
        """
        path = self.root / "trees" / kind / key
        if self.unchecked is not None and path not in self.verified and (inode := _inode(path)) is not None:
            self.unchecked.setdefault(path, inode)
        elif not self._is_sound(path):
            with self.lock(f"{kind}-{key}"), _writing(self.root):
                if not self._is_sound(path):
                    self._make_tree(path, make)
        _touch(path)
        return path

    def _is_sound(self, path: Path) -> bool:
        if not path.is_dir() or path.is_symlink():
            return False
        with contextlib.suppress(OSError):
            if path in self.verified or self.is_sound(path, deep=False):
                self.verified[path] = ()
                return True
        return False

    def _make_tree(self, path: Path, make: Callable[[Path], Written | None]) -> None:
        _make(path.parent)
        with temporary_tree(self.root / "tmp") as temporary:
            temporary.chmod(0o755)
            seal = seal_of(temporary, make(temporary) or {})
            self.remember("seal", f"{path.parent.name}-{path.name}", seal)
            self.discard(path)
            finish_tree(temporary, path)
            self.verified[path] = ()

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a machine-wide lock: look again after taking it, because another build may have done the work.

        Raises StoreError if no lock can be taken.
        """
        with contextlib.ExitStack() as stack:
            with _writing(self.root):
                stream = stack.enter_context((self.root / "locks" / f"{key_of(name)[:32]}.lock").open("ab"))
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX)
                except OSError as error:
                    if error.errno not in NO_LOCKS:
                        raise
                    raise StoreError(
                        f"the cache {self.root.parent} cannot be locked ({error.strerror}), which builds at once need; "
                        "set HATCH_DOCKER_CACHE_DIR to a directory on a disk of this machine"
                    ) from error
            yield


def _read_fact(path: Path) -> bytes | None:
    """Return the JSON of a fact, None if it is damaged; raise OSError for anything but a regular file.

    Pipes are not waited for, links not followed.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        checksum, text = stream.readline().rstrip(b"\n"), stream.read()
    return text if checksum == _fact_sum(path.name, text) else None


def _fact_sum(key: str, text: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\n")
    digest.update(text)  # which may have megabytes
    return digest.hexdigest().encode()


def _inode(directory: Path) -> int | None:
    """Return the inode of a directory, None if there is none."""
    with contextlib.suppress(OSError):
        status = directory.lstat()
        return status.st_ino if stat.S_ISDIR(status.st_mode) else None
    return None


def _rename(temporary: Path, path: Path) -> None:
    """Give a finished file its name, replacing a directory too, which cannot be an entry of the store."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    temporary.replace(path)


def _touch(path: Path) -> None:
    """Set an entry's time of last use, for the pruning, unless it was set a short while ago."""
    with contextlib.suppress(OSError):
        if not 0 <= time.time() - path.stat().st_mtime < USED_LATELY:
            os.utime(path)


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return the directory of the cache: $HATCH_DOCKER_CACHE_DIR, else one in the user's cache directory."""
    if environ.get(CACHE_DIR):
        return Path(environ[CACHE_DIR])
    import platformdirs

    return platformdirs.user_cache_path("hatch-docker", appauthor=False)


@contextlib.contextmanager
def without_cache(environ: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield the variables of a build; with HATCH_DOCKER_NO_CACHE they name an empty cache, which is removed afterwards.

    It is on the disk of the user's cache.
    """
    if environ.get(NO_CACHE, "") in ("", "0"):
        yield environ
        return
    with temporary_tree(open_store(cache_root(environ)).root / "tmp", "no-cache-") as cache:
        yield {**environ, CACHE_DIR: str(cache)}


def open_store(root: Path) -> Store:
    """Open the store under `root`, made if missing, and remove what killed builds left; raise StoreError.

    A store is refused if another user owns it or a directory of it, or may write there, and so put code into images.
    """
    store = Store(root / FORMAT)
    try:
        if store.root.is_symlink():
            store.root.unlink()
        _make(root)
        _make(store.root)
        _check_owner(root, stat.S_IWOTH | stat.S_ISVTX)  # with the sticky bit, as /tmp, others cannot rename ours
        _check_owner(store.root)
        # Marked, because pipelines keep the cache inside the project, which must not include it.
        if not (store.root / "CACHEDIR.TAG").exists():
            mark_as_cache(store.root)
        _check_entries(store.root)
        for name in ("blobs", "facts", "trees", "locks", "tmp"):
            _make(store.root / name)
        for name in ("facts", "trees", "locks"):
            _check_entries(store.root / name)
        remove_abandoned(store.root / "tmp")
        for path in (store.root / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):  # another build may finish or remove its own file meanwhile
                if path.lstat().st_mtime < time.time() - TMP_LIFETIME:
                    remove_tree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise StoreError(
            f"cannot use the cache {root}: {reason(error, root)}; "
            "set HATCH_DOCKER_CACHE_DIR to a directory that can be written"
        ) from error
    return store


def find_store(root: Path, kind: str) -> Store:
    """Return the store under `root` for a look at the facts of a kind; nothing is made or removed.

    Raise StoreError where `open_store` would refuse the store, OSError where it would make or mend it.
    """
    store = Store(root / FORMAT)
    facts = store.root / "facts"
    if any(directory.is_symlink() for directory in (store.root, facts, facts / kind)):
        raise NotADirectoryError(store.root)
    _check_owner(root, stat.S_IWOTH | stat.S_ISVTX)
    for directory in (store.root, facts, facts / kind):
        _check_owner(directory)
    return store


def _make(directory: Path) -> None:
    """Make a directory of the store, into which others may not write, whatever the umask is."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)


def _check_owner(directory: Path, allowed: int = 0) -> None:
    """Raise StoreError for a directory of another user but root, or that others may write to, by a mode not allowed."""
    if who := others_rights(directory, allowed):
        raise StoreError(
            f"the cache {directory} {who}, who could put code into your images; set HATCH_DOCKER_CACHE_DIR to a "
            f"directory of your own, or correct it (chown -R {os.geteuid()}, chmod -R go-w)"
        )


def _check_entries(directory: Path) -> None:
    """Remove symbolic links from a directory of the store, which never makes any: cleaning must not leave the store.

    Raise StoreError for a directory in it that another user owns or may write to.
    """
    for entry in list(os.scandir(directory)):
        with contextlib.suppress(FileNotFoundError):  # another build makes and removes entries meanwhile
            if entry.is_symlink():
                Path(entry.path).unlink()
            elif entry.is_dir():
                _check_owner(Path(entry.path))


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError with the ways out."""
    try:
        yield
    except OSError as error:
        empties = "`hatch-docker clean --all` empties it, " if error.errno in FULL else ""
        raise StoreError(
            f"cannot write to the cache {root}: {reason(error, root)}; {empties}HATCH_DOCKER_CACHE_DIR names another"
        ) from error
