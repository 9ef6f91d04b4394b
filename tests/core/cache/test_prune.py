"""Pruning removes abandoned temporary files and the oldest entries above a size limit, nothing outside of the cache."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hatch_docker
from hatch_docker.core.cache.prune import prune, prune_now_and_then
from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.files import TEMPORARY, remove_abandoned, remove_tree


def test_old_temporary_files_are_removed(store: Store) -> None:
    old = store.root / "tmp" / "old"
    new = store.root / "tmp" / "new"
    old.write_text("")
    new.write_text("")
    os.utime(old, (1, 1))
    open_store(store.root.parent)
    assert not old.exists()
    assert new.exists()


LEAVING = """
import os, sys, time
from pathlib import Path
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.cache.store import open_store
store = open_store(Path(sys.argv[1]))
def fill(tree):
    (tree / "closed").mkdir(mode=0)
    print("ready", flush=True)
    time.sleep(600)
with temporary_directory() as directory, store.writer() as writer:
    writer.write(b"half")
    store.tree("base", "key", fill)
"""


def test_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Files, trees and temporary directories. While the process lives, they are kept at any age."""
    places = [tmp_path / "cache/v1/tmp", tmp_path / "tmp"]
    places[1].mkdir()
    link = places[1] / f"{TEMPORARY}link"
    link.symlink_to(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVING, str(tmp_path / "cache")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(places[1])},
    )  # fmt: skip
    assert process.stdout
    process.stdout.readline()
    unfinished = [path for place in places for path in place.iterdir() if path != link]
    assert len(unfinished) == 3
    for path in [*unfinished, link]:
        os.utime(path, (1000, 1000), follow_symlinks=False)
    for place in places:
        remove_abandoned(place)
    assert all(path.exists() for path in unfinished)
    process.kill()
    process.communicate()
    for place in places:
        remove_abandoned(place)
    assert not any(path.exists() for path in unfinished)
    assert link.is_symlink()


def test_prune_removes_oldest_first_and_keeps_recently_used(store: Store) -> None:
    digests = [store.put(bytes([number]) * 1000) for number in range(4)]
    now = time.time()
    for age, digest in zip((40, 30, 20, 0), digests, strict=True):
        os.utime(store.blob_path(digest), (now - age * 3600, now - age * 3600))
    done = prune(store, max_age=35 * 3600, max_bytes=2500)
    assert [store.blob_path(digest).exists() for digest in digests] == [False, False, True, True]
    assert (done.removed, done.removed_bytes, done.kept_bytes) == (2, 2000, 2000)
    prune(store, max_age=0, max_bytes=0)
    assert [store.blob_path(digest).exists() for digest in digests] == [False, False, False, True]


def test_prune_removes_tree_with_read_only_directory(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "closed").mkdir()
        (root / "closed" / "file").write_text("x" * 10_000)
        (root / "closed").chmod(0o500)

    tree = store.tree("t", "k", make)
    os.utime(tree, (1, 1))
    prune(store)
    assert not tree.exists()
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("used", [1, 2**33])
def test_prune_removes_compiler_cache(used: int, store: Store) -> None:
    """With any mode and time of last use, which builds can set. A recently used one is kept."""
    place, other = store.root / "compilers/old", store.root / "compilers/new"
    for path in (place, other):
        (path / "deep").mkdir(parents=True)
        (path / "deep/file").write_text("x" * 10_000)
    for path in (place / "deep", place):
        path.chmod(0)
    os.utime(place, (used, used))
    assert prune(store).removed_bytes >= (10_000 if os.geteuid() == 0 else 0)
    assert list((store.root / "compilers").iterdir()) == [other]
    assert list((store.root / "tmp").iterdir()) == []


SWAP = """
import os, sys
from pathlib import Path
from hatch_docker.core.files import remove_tree
tree, outside = map(Path, sys.argv[1:])
def swap(event, arguments):
    if event == "os.rename" and Path(arguments[0]).name == "directory":
        directory = Path(arguments[0])
        if not directory.is_symlink():
            os.rmdir(directory)
            directory.symlink_to(outside)
sys.addaudithook(swap)
remove_tree(tree)
"""


def test_remove_tree_does_not_follow_swapped_directory(tmp_path: Path) -> None:
    """A process of a killed build may replace a directory by a symlink during the removal."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    for directory in (outside, tree / "a" / "directory"):
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    (outside / "file").touch()
    root = Path(hatch_docker.__file__).parents[1]
    subprocess.run([sys.executable, "-c", SWAP, tree, outside], check=True, cwd=root)
    assert not tree.exists()
    assert (outside / "file").exists()
    assert outside.stat().st_mode & 0o777 == 0o755


def test_remove_tree_does_not_follow_symlinks(store: Store, tmp_path: Path) -> None:
    """A hostile build can leave directories without permissions, with symlinks to other files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o555)
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o444)
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "directory").symlink_to(outside)
    (tree / "closed" / "file").symlink_to(tmp_path / "file")
    (tree / "closed").chmod(0o500)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside.stat().st_mode & 0o777, (tmp_path / "file").stat().st_mode & 0o777) == (0o555, 0o444)
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    assert outside.exists()


@pytest.mark.parametrize(
    "place",
    ["", "tmp", "blobs", "facts", "trees", "locks", "compilers", "tmp/x", "facts/x", "trees/x", "locks/x",
     "compilers/x"],
)
def test_symlinks_in_a_cache_are_not_followed(place: str, tmp_path: Path) -> None:
    """A cache may come from another machine (CI). Cleaning must remove nothing outside of it."""
    outside, root = tmp_path / "outside", tmp_path / "cache/v1"
    for path in (outside / "tmp/letter", outside / "x/letter", outside / "letter"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("dear")
    for path in (*outside.rglob("*"), outside):
        os.utime(path, (1000, 1000))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(outside)
    store = open_store(tmp_path / "cache")
    store.remember("x", "key", 1)
    store.tree("x", "key", lambda directory: (directory / "file").touch())
    with store.lock("x"):
        prune(store, max_age=0, max_bytes=0, grace=-1)
    assert {str(path.relative_to(outside)) for path in outside.rglob("*")} == {
        "letter", "tmp", "tmp/letter", "x", "x/letter",
    }  # fmt: skip
    assert store.put(b"bytes")


def test_automatic_prune_runs_once_a_day(store: Store) -> None:
    prune_now_and_then(store)
    digest = store.put(b"old")
    os.utime(store.blob_path(digest), (1, 1))
    prune_now_and_then(store)
    assert store.blob_path(digest).exists()
    os.utime(store.root / "pruned", (1, 1))
    prune_now_and_then(store)
    assert not store.blob_path(digest).exists()
