"""The cache: entries are verified on read and written atomically; concurrent builds share it."""

import errno
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from hatch_docker.core.cache.store import RECENT, DamagedBlobError, Store, key_of, open_store
from hatch_docker.core.errors import StoreError
from hatch_docker.core.files import atomic_write, is_cache, make_output_directory, remove_tree


def test_blob_round_trip(store: Store) -> None:
    digest = store.put(b"bytes")
    path = store.get(digest)
    assert path is not None
    assert path.read_bytes() == b"bytes"
    with store.open(digest) as stream:
        assert stream.read() == b"bytes"
        assert getattr(stream, "verified", "") == digest  # `copy_layer` does not hash it again


@pytest.mark.parametrize("damage", ["flip", "truncate", "symlink", "directory", "gone"])
def test_damaged_blob_is_removed(store: Store, tmp_path: Path, damage: str) -> None:
    """Flipped bits, a truncated file, a symlink, a directory."""
    digest = store.put(b"bytes")
    path = store.blob_path(digest)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"bytes")
    if damage == "flip":
        path.write_bytes(b"bytez")
    elif damage == "truncate":
        path.write_bytes(b"byt")
    else:
        path.unlink()
    if damage == "symlink":
        path.symlink_to(elsewhere)
    elif damage == "directory":
        path.mkdir()
    with pytest.raises(DamagedBlobError):
        store.open(digest)
    assert not path.exists()
    assert elsewhere.read_bytes() == b"bytes"
    assert store.put(b"bytes") == digest
    assert store.get(digest) == path


def test_unchanged_blob_is_hashed_once_per_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.put(b"bytes")
    time.sleep(2 * RECENT)
    hashed = Mock(side_effect=hashlib.file_digest)
    monkeypatch.setattr("hashlib.file_digest", hashed)
    assert [store.get(digest) for _ in range(3)] == [store.blob_path(digest)] * 3
    assert hashed.call_count == 1
    store.blob_path(digest).write_bytes(b"bytez")
    assert store.get(digest) is None


def test_unreadable_blob_is_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a read error of the disk the blob is removed, and can be stored again."""
    digest = store.put(b"content")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", broken)
        assert store.get(digest) is None
    assert not store.has(digest)
    assert store.put(b"content") == digest
    assert store.get(digest)


def test_uncommitted_blob_leaves_no_file(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.writer() as writer:
        writer.write(b"half")
        raise KeyboardInterrupt
    assert list((store.root / "tmp").iterdir()) == []
    assert list((store.root / "blobs").iterdir()) == []


def test_damaged_fact_is_removed(store: Store) -> None:
    store.remember("layer", "k", {"size": 1})
    assert store.recall("layer", "k") == {"size": 1}
    assert store.recall("layer", "other") is None
    path = store.root / "facts" / "layer" / "k"
    path.write_text(path.read_text().replace("1}", "2}"))
    assert store.recall("layer", "k") is None
    assert not path.exists()
    store.remember("layer", "k", 1)
    path.rename(path.with_name("l"))
    assert store.recall("layer", "l") is None  # the checksum includes the key


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "empty"])
def test_fact_that_is_no_regular_file_is_removed(kind: str, store: Store, tmp_path: Path) -> None:
    store.remember("layer", "k", {"size": 1})
    path = store.root / "facts/layer/k"
    path.rename(tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        (path / "x").mkdir(parents=True)
    else:
        path.touch()
    assert store.recall("layer", "k") is None
    assert not os.path.lexists(path)
    store.remember("layer", "k", 2)
    assert store.recall("layer", "k") == 2
    assert (tmp_path / "elsewhere").exists()


def test_fact_replaces_directory_of_its_name(store: Store) -> None:
    path = store.root / "facts/layer/k"
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    store.remember("layer", "k", 1)
    assert store.recall("layer", "k") == 1


def test_concurrent_threads_make_a_tree_once(store: Store) -> None:
    made = []

    def make(root: Path) -> None:
        made.append(root)
        time.sleep(0.05)
        (root / "file").write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        trees = pool.map(lambda _: store.tree("t", "k", make), range(8))
    assert [(tree / "file").read_text() for tree in trees] == ["whole"] * 8
    assert len(made) == 1


def test_failed_tree_leaves_no_directory(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "file").write_text("half")
        (root / "closed").mkdir(mode=0o500)
        raise ValueError

    with pytest.raises(ValueError):
        store.tree("t", "k", make)
    assert not (store.root / "trees" / "t" / "k").exists()
    assert list((store.root / "tmp").iterdir()) == []


def fill_tree(root: Path) -> None:
    """Write a tree with a directory, an executable, a symlink and a file."""
    (root / "bin").mkdir()
    (root / "bin/program").write_bytes(b"program")
    (root / "bin/program").chmod(0o755)
    (root / "bin/link").symlink_to("program")
    (root / "file").write_bytes(b"bytes")


def rewrite(path: Path, data: bytes) -> None:
    """Replace the contents without changing the mtime, like an error of the disk."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "bits": lambda tree: rewrite(tree / "file", b"bytez"),
    "a file that is cut": lambda tree: (tree / "file").write_bytes(b"byt"),
    "a file that is gone": lambda tree: (tree / "file").unlink(),
    "a file more": lambda tree: (tree / "bin/cc").write_bytes(b"evil"),
    "a directory more": lambda tree: (tree / "more").mkdir(),
    "another mode": lambda tree: (tree / "bin/program").chmod(0o644),
    "a link elsewhere": lambda tree: ((tree / "bin/link").unlink(), (tree / "bin/link").symlink_to("/etc/passwd")),
    "a link instead of a file": lambda tree: ((tree / "file").unlink(), (tree / "file").symlink_to("/etc/passwd")),
    "a link instead of a directory": lambda tree: (
        (tree / "bin").rename(tree.parent / "bin"), (tree / "bin").symlink_to("../bin")),
    "a directory instead of a file": lambda tree: ((tree / "file").unlink(), (tree / "file").mkdir()),
    "a link instead of the tree": lambda tree: (tree.rename(tree.parent / "x"), tree.symlink_to("x")),
    "a file instead of the tree": lambda tree: (remove_tree(tree), tree.write_bytes(b"x")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_tree_is_made_again(change: str, store: Store) -> None:
    """Targets of symlinks outside of the tree are not changed."""
    outside = store.root.parent / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    tree = store.tree("t", "k", fill_tree)
    CHANGES[change](tree)
    for _ in range(2):
        found = open_store(store.root.parent).tree("t", "k", fill_tree)
        assert found == tree
        assert not found.is_symlink()
        assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*")) == [
            "bin", "bin/link", "bin/program", "file"
        ]
        assert (tree / "file").read_bytes() == b"bytes"
        assert os.access(tree / "bin/program", os.X_OK)
    assert (outside / "canary").read_text() == "alive"
    assert list((store.root / "tmp").iterdir()) == []


def test_large_tree_is_read_again_only_after_a_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the contents takes a second. A moved or copied tree with equal contents is not made again."""
    monkeypatch.setattr("hatch_docker.core.cache.tree_digest.CONTENTS_LIMIT", 3)
    read = Mock(side_effect=hashlib.file_digest)
    monkeypatch.setattr("hatch_docker.core.cache.store.hashlib.file_digest", read)
    make = Mock(side_effect=fill_tree)
    tree = store.tree("t", "k", make)
    files = read.call_count
    os.utime(tree, (1, 1))
    os.utime(tree / "bin", (1, 1))
    assert open_store(store.root.parent).tree("t", "k", make) == tree
    assert read.call_count == files
    shutil.copytree(tree, tree.with_name("copy"), symlinks=True)
    remove_tree(tree)
    tree.with_name("copy").rename(tree)
    for _ in range(2):  # the second time it is not read
        assert open_store(store.root.parent).tree("t", "k", make) == tree
        assert read.call_count == 2 * files
    assert make.call_count == 1
    os.utime(tree / "file", (1, 1))
    open_store(store.root.parent).tree("t", "k", make)
    assert make.call_count == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_change_with_equal_size_and_mtime_is_detected(
    replaced: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatch_docker.core.cache.tree_digest.CONTENTS_LIMIT", 3)
    file = store.tree("t", "k", fill_tree) / "file"
    before = file.stat()
    if replaced:
        file.unlink()
    file.write_bytes(b"BYTES")
    file.chmod(stat.S_IMODE(before.st_mode))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (open_store(store.root.parent).tree("t", "k", fill_tree) / "file").read_bytes() == b"bytes"


def test_tree_is_checked_once_per_process(store: Store) -> None:
    """The process that made it does not check it. A build needs the tree of its compiler several times."""
    make = Mock(side_effect=fill_tree)
    tree = store.tree("t", "k", make)
    (tree / "file").unlink()
    store.tree("t", "k", make)
    assert make.call_count == 1
    other = open_store(store.root.parent)
    for _ in range(2):
        other.tree("t", "k", make)
        (tree / "file").unlink(missing_ok=True)
    assert make.call_count == 2


def test_atomic_write_replaces_file_only_on_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is renamed after fsync. If that fails, the old file is kept."""

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "dist" / "out"
    with atomic_write(path) as stream:
        stream.write(b"first")
    with pytest.raises(RuntimeError), atomic_write(path) as stream:
        stream.write(b"half of the sec")
        raise RuntimeError
    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(StoreError, match=r"cannot write .*/out: Input/output error"), atomic_write(path) as stream:
        stream.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_error_names_path(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="a directory is in the way"), atomic_write(tmp_path / "out"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/out"), atomic_write(tmp_path / "file" / "out"):
        pass


def test_unusable_cache_error_names_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="HATCH_DOCKER_CACHE_DIR"):
        open_store(tmp_path / "file")


def test_concurrent_builds_create_one_cache(tmp_path: Path) -> None:
    for number in range(8):
        root, start = tmp_path / str(number), threading.Barrier(16)

        def begin(_: int, root: Path = root, start: threading.Barrier = start) -> bool:
            start.wait()
            return is_cache(open_store(root).root)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(begin, range(16))) == [True] * 16


def test_open_store_while_temporary_files_disappear(store: Store) -> None:
    """Another build may rename or remove its files while this one cleans the directory."""
    ending = threading.Event()

    def work(name: str) -> None:
        path = store.root / "tmp" / name
        while not ending.is_set():
            path.touch()
            path.unlink()

    with ThreadPoolExecutor(3) as pool:
        for name in "abc":
            pool.submit(work, name)
        try:
            for _ in range(200):
                open_store(store.root.parent)
        finally:
            ending.set()


def test_cache_in_a_repository_is_ignored_by_git(tmp_path: Path) -> None:
    """CI pipelines often keep it in the project's directory."""
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    open_store(tmp_path / ".image-cache").put(b"bytes")
    status = [*git, "status", "--porcelain", "--untracked-files=normal"]
    assert subprocess.check_output(status) == b""
    (tmp_path / "mine").touch()
    open_store(tmp_path).put(b"bytes")  # a cache in the repository's root does not hide other files
    assert subprocess.check_output(status) == b"?? mine\n"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_an_error(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have no locks. Operations without a lock work."""
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(code, os.strerror(code))))
    store = open_store(tmp_path / "cache")
    store.put(b"bytes")
    with pytest.raises(StoreError, match=rf"^the cache .*/cache cannot be locked \({os.strerror(code)}\), which"):
        store.tree("kind", "key", fill_tree)
    assert list((store.root / "tmp").iterdir()) == []


def test_keys_do_not_depend_on_the_order_of_a_table() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of("a", "b") != key_of("ab")


@pytest.mark.parametrize("place", ["..", "", "trees", "blobs", "facts/pins", "trees/wheel"])
@pytest.mark.parametrize(("owner", "group", "mode", "words"), [
    (12345, -1, 0o755, "belongs to the user 12345"), (-1, -1, 0o777, "every user"),
    (-1, pwd.getpwnam("nobody").pw_gid, 0o775, "can be written by .*; set HATCH_DOCKER_CACHE_DIR"),
])
def test_cache_writable_by_others_is_rejected(
    owner: int, group: int, mode: int, words: str, place: str, tmp_path: Path
) -> None:
    """They could put code into images. A group without other members is accepted."""
    root = open_store(tmp_path).root / place
    root.mkdir(exist_ok=True)
    if max(owner, group) > 0 and os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(root, owner, group)
    root.chmod(mode)
    with pytest.raises(StoreError, match=words):
        open_store(tmp_path)
    if place == ".." and owner == -1:
        root.chmod(mode | stat.S_ISVTX)  # like /tmp
        open_store(tmp_path)
    if group != -1:
        os.chown(root, -1, 54321)
        root.chmod(mode)
        open_store(tmp_path)


def test_cache_permissions_do_not_depend_on_umask(tmp_path: Path) -> None:
    """Containers may have the umask 0."""
    before = os.umask(0)
    try:
        store = open_store(tmp_path / "cache")
        store.remember("kind", "key", 1)
        store.tree("kind", "key", lambda tree: (tree / "file").touch())
        assert open_store(tmp_path / "cache").recall("kind", "key") == 1
    finally:
        os.umask(before)


@pytest.mark.parametrize(("below", "why"), [("file", "File exists"), ("file/dist", "Not a directory")])
def test_output_directory_error_names_path(below: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"--output: cannot create the directory {tmp_path / below}: {why}; choose"):
        make_output_directory(tmp_path / below)
