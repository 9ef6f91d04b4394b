"""Partial trees: they look like the whole tree to a command, and are replaced by it if insufficient or invalid."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hatch_docker.bases import partial_tree
from hatch_docker.bases.partial_tree import (
    COMPRESSION,
    KIND,
    LIST,
    find_partial,
    keep_partial_trees,
    watch,
    with_whole_trees,
)
from hatch_docker.core.cache.shared import CacheData, SharedCache, SharedStore
from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.cache.tree_digest import walk
from hatch_docker.core.context import Context
from hatch_docker.oci.layer import write_layer
from hatch_docker.oci.tar import Entry
from hatch_docker.wheels.builder import sandbox_partial
from hatch_docker.wheels.builder.sandbox import Bind, run_in
from hatch_docker.wheels.builder.sandbox_partial import Placeholders
from tests.fakes.layer_entries import directory, file, symlink
from tests.fakes.sandbox_roots import need_sandbox, program_root

KEY = "a" * 64
CI = {"CI": "true"}


def whole_tree(store: Store) -> Path:
    """Return a tree of the store with some programs and all kinds of entries."""

    def make(place: Path) -> None:
        program_root(place)
        (place / "etc/closed").mkdir(mode=0o750)
        (place / "etc/link").symlink_to("../etc/motd")
        (place / "etc/data").write_text("data\n" * 1000)
        (place / "usr/local/share").mkdir(parents=True)
        (place / "usr/local/share/text").write_text("text")

    return store.tree("base", KEY, make)


def sharing(ctx: Context, root: Path, fact: object = None, data: bytes = b"", environ: dict[str, str] = CI) -> Context:
    """Return a context with an empty cache and a shared cache, which has a partial tree if `fact` is given."""

    def read(_store: Store) -> CacheData:
        assert isinstance(fact, dict)
        return CacheData([(KIND, KEY, fact)], {fact["digest"]: lambda store: store.put(data)})

    shared = SharedCache("place" if fact else "", read, {KIND}, (), ctx.progress, written=True)
    return replace(ctx, store=SharedStore(open_store(root).root, shared=shared), environ=environ)


def next_build(ctx: Context, root: Path) -> Context:
    """Return a context with an empty cache and the shared cache that an earlier build wrote."""
    (layer,) = keep_partial_trees(ctx)
    with layer.open() as stream:
        return sharing(ctx, root, ctx.store.recall(KIND, KEY), stream.read())


def sh(tree: Path, ctx: Context, script: str, **options: object) -> str:
    """Return the output of a script in a tree."""
    command = ["sh", "-c", script]
    return watch(tree, ctx, lambda: run_in(tree, command, env={"PATH": "/bin"}, **options))  # type: ignore[arg-type]


@pytest.fixture
def first(ctx: Context, tmp_path: Path) -> Context:
    """The context of a build that opened two programs and a file in the whole tree."""
    need_sandbox()
    first = sharing(ctx, tmp_path / "first")
    sh(whole_tree(first.store), first, "cat /etc/link; stat /etc; cat /usr/local/share/text")
    return first


def test_partial_tree_looks_like_the_whole_tree(first: Context, tmp_path: Path) -> None:
    """Names, types, modes, sizes, times and symlinks are equal. Results are written to this shared cache only."""
    second = next_build(first, tmp_path / "second")
    tree = find_partial("base", KEY, second)
    assert tree is not None
    assert tree.name == KEY
    assert second.store.uses_shared
    names = " ".join(f"/{name}" for name, _ in walk(whole_tree(first.store)))
    script = f"cat /etc/link; stat -c '%n %f' {names}; stat -c '%N %s %Y' /bin/* /etc/[dm]*"
    assert sh(tree, second, script) == sh(whole_tree(first.store), first, script)
    with pytest.raises(Exception, match="No such file"):
        sh(tree, second, "cat /etc/passwd")
    (layer,) = keep_partial_trees(second)
    assert layer.descriptor.digest == first.store.recall(KIND, KEY)["digest"]  # the layer is made once
    assert find_partial("base", KEY, first) is None  # the whole tree is in the cache


def test_directory_of_partial_tree_is_mounted_in_another_tree(first: Context, tmp_path: Path) -> None:
    """The base's Python is mounted like this in the builder's root."""
    second = next_build(first, tmp_path / "second")
    tree = find_partial("base", KEY, second)
    assert tree is not None
    binds = [Bind(tree / "usr/local", "/usr/local")]
    for root in (tree, program_root_of(tmp_path)):
        assert sh(root, second, "cat /usr/local/share/text", binds=binds) == "text"


def program_root_of(directory: Path) -> Path:
    """Return a root that is not a tree of a store."""
    directory.chmod(0o755)
    (directory / "root").mkdir()
    return program_root(directory / "root")


@pytest.mark.parametrize("script", ["id -u", "cat /etc/data | sleep 100", "cat /etc/data > /dev/null; nothing"])
def test_missing_file_switches_to_the_whole_tree(script: str, first: Context, tmp_path: Path) -> None:
    """The command is killed, or fails. The next partial tree contains the files that both builds opened."""
    second = next_build(first, tmp_path / "second")
    partial = find_partial("base", KEY, second)
    trees: list[Path] = []

    def work() -> str:
        trees.append(find_partial("base", KEY, second) or whole_tree(second.store))
        return sh(trees[-1], second, script if trees[-1] == partial else "id -u; cat /etc/data")

    assert with_whole_trees(work).startswith("1000")
    assert trees == [partial, whole_tree(second.store)]
    third = next_build(second, tmp_path / "third")
    tree = find_partial("base", KEY, third)
    assert tree is not None
    assert sh(tree, third, "cat /etc/link; id -u; cat /etc/data").startswith("hello\n1000\ndata\n")


def test_partial_tree_is_shared_by_ci_runners_only(ctx: Context, tmp_path: Path) -> None:
    """So that pushes of developers stay small."""
    need_sandbox()
    alone = sharing(ctx, tmp_path / "alone", environ={})
    assert sh(whole_tree(alone.store), alone, "cat /etc/motd") == "hello\n"
    assert keep_partial_trees(alone) == []


@pytest.mark.parametrize("failure", ["no watch", "events are lost"])
def test_inotify_failure(
    failure: str, first: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No partial tree is stored, and every placeholder counts as opened."""

    class Broken(partial_tree.OpenedFiles):
        def __init__(self, tree: Path) -> None:
            if failure == "no watch":
                raise OSError(28, "No space left on device")
            super().__init__(tree)

        def end(self) -> set[str] | None:
            super().end()
            return None

    monkeypatch.setattr(partial_tree, "OpenedFiles", Broken)
    fresh = sharing(first, tmp_path / "fresh")
    assert sh(whole_tree(fresh.store), fresh, "cat /etc/motd") == "hello\n"
    assert keep_partial_trees(fresh) == []
    (tmp_path / "a").touch()
    placeholders = Placeholders([str(tmp_path / "a")])
    assert placeholders.find_opened() is None
    (tmp_path / "a").read_bytes()
    assert placeholders.find_opened() == str(tmp_path / "a")
    fails: Callable[..., int] = lambda *_arguments: -1  # noqa: E731
    monkeypatch.setattr(sandbox_partial, "_libc", SimpleNamespace(inotify_init1=fails, inotify_add_watch=fails))
    assert Placeholders([str(tmp_path / "a")]).find_opened() == "any of them"


def listing(rows: object) -> Entry:
    return file(LIST, json.dumps(rows).encode())


ROW = [0o644, 5, 0]


@pytest.mark.parametrize(
    "entries",
    [
        [file("name", b"")],
        [directory(LIST)],
        [file(LIST, b"{")],
        [listing([])],
        [listing({"name": []})],
        [listing({}), file("name", b"")],
        [listing({"name": [0o644, 5]})],
        [listing({"name": [0o644, -5, 0]})],
        [listing({"name": [0o644, 1 << 40, 0]})],
        [listing({"name": [0o4755, 5, 0]})],
        [listing({"name": ""})],
        [listing({"../outside": ROW})],
        [listing({"/outside": ROW})],
        [listing({"link": "../../../..", "link/outside": ROW})],
        [listing({"link/outside": [], "link": "../.."}), symlink("link", "../../../..")],
        [listing({"missing/name": ROW})],
        [listing({"name": ROW, "name/below": ROW})],
        [listing({"a/b": ROW, "a": [0o755]})],
    ],
)
def test_invalid_layer_is_not_used(entries: list[Entry], ctx: Context, tmp_path: Path) -> None:
    """No file is written outside of the directory; the whole tree is made instead."""
    out = io.BytesIO()
    facts = write_layer(entries, out, COMPRESSION)
    hostile = sharing(ctx, tmp_path / "cache", asdict(facts), out.getvalue())
    assert [find_partial("base", KEY, hostile) for _ in range(2)] == [None, None]
    assert not list(tmp_path.rglob("outside"))
