"""Partial trees: root file systems from the shared cache that have only the files which builds open.

Compiling one file opens a tenth of a builder's root. So a build that writes a shared cache records which files of its
trees are opened, and puts them into a layer of that cache, together with LIST, a table of all paths. A machine without
the whole tree unpacks this layer. In the sandbox all other files are placeholders
(`wheels/builder/sandbox_partial.py`) with the names, modes, sizes and times of the files. If a placeholder is opened,
the result is deleted and made again in the whole tree. So a partial tree never changes a result.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from hatch_docker.core.cache.shared import SharedStore
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.cache.tree_digest import FileDigests, walk
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ImageError
from hatch_docker.core.opened import OpenedFiles
from hatch_docker.oci.compression import LAYER_LIMIT, Compression
from hatch_docker.oci.filesystem import extract
from hatch_docker.oci.layer import LayerFacts, make_layer, write_layer
from hatch_docker.oci.manifest import parse_json
from hatch_docker.oci.model import Layer
from hatch_docker.oci.paths import PATH_LIMIT, SOURCE_DATE, safe_path
from hatch_docker.oci.tar import Entry

KIND = "partial-tree"   # facts about layers of partial trees, by the key of the whole tree
TREES = "partial"       # partial trees in the store: a directory named by the key of the whole tree, and LIST beside it
LIST = "list.json"      # a table of all paths, parents first; see _is_row
LIMIT = 256 << 20       # bytes of the files in a partial tree
LIST_LIMIT = 32 << 20   # bytes of LIST
ROW_LIMITS = (0o2000, LAYER_LIMIT, 1 << 32)  # of mode, size and time
COMPRESSION = Compression("gzip", 1)

Made = TypeVar("Made")


class PartialTreeError(Exception):
    """Error if a placeholder was opened; the argument is its path. Also if the kernel cannot report opened files."""


def is_partial(tree: Path) -> bool:
    """Return whether a directory is a partial tree of a store."""
    return tree.parent.parent.name == TREES and (tree.parent / LIST).is_file()


def find_partial(kind: str, key: str, ctx: Context) -> Path | None:
    """Return a partial tree for the tree with a kind and a key; None if the whole tree has to be used.

    The whole tree is used if it exists, or if the shared cache has no partial tree. Use a partial tree only in the
    sandbox, through `watch`, and in a function that is called by `with_whole_trees`.
    """
    store = ctx.store
    if not isinstance(store, SharedStore) or key in store.shared.whole_trees:
        return None
    if (store.root / "trees" / kind / key).is_dir():
        return None
    store.load_shared()
    fact = store.keep(KIND, key)
    if fact is None or store.get(fact["digest"]) is None:
        return None
    store.recall(KIND, key)  # sets `uses_shared`: all later results are only for builds with this shared cache
    if not store.uses_shared:  # the fact is this machine's own, so the Python may run outside of the sandbox
        return None
    layer = partial_layer(fact, ctx)
    try:
        tree = store.tree(TREES, key_of(layer.diff_id), lambda place: _unpack(layer, place, key))
    except ImageError as error:
        ctx.progress.warn(f"a layer of the shared cache is made here instead: {error}")
        store.shared.whole_trees[key] = set()
        return None
    return tree / key


def note_partial(key: str, ctx: Context) -> None:
    """Keep the partial tree for the tree of a key in the shared cache, although this build does not use it."""
    if isinstance(ctx.store, SharedStore):
        ctx.store.keep(KIND, key)


def partial_layer(fact: Mapping[str, Any], ctx: Context) -> Layer:
    """Return the layer that a fact of the kind KIND describes."""
    return make_layer(LayerFacts(**fact), COMPRESSION, lambda: ctx.store.open(fact["digest"]))


def with_whole_trees(make: Callable[[], Made]) -> Made:
    """Return the result of `make`, which may use partial trees; call it again whenever one has to be replaced."""
    while True:
        try:
            return make()
        except PartialTreeError:
            continue


def watch(tree: Path, ctx: Context, work: Callable[[], Made]) -> Made:
    """Return the result of `work`, and record the files of `tree` that it opens if the shared cache needs them.

    If `work` opened a placeholder of a partial tree, raise PartialTreeError; later calls use the whole tree.
    """
    if is_partial(tree):
        try:
            return work()
        except PartialTreeError as error:
            _refuse(tree, str(error), ctx)
            raise
    files = None
    if _is_wanted(tree, ctx):
        ctx.store.check_trees()  # a check during the work would open all files
        with contextlib.suppress(OSError):  # the kernel cannot report opened files
            files = OpenedFiles(tree)
    if files is None:
        return work()
    try:
        result = work()
    finally:
        opened = files.end()
    if opened:
        assert isinstance(ctx.store, SharedStore)
        shared = ctx.store.shared
        shared.opened_files.setdefault(tree, set(shared.whole_trees.get(tree.name, ()))).update(opened)
    return result


def keep_partial_trees(ctx: Context) -> list[Layer]:
    """Put the partial trees of this build into the shared cache, and return their layers.

    Partial trees that the cache lacks are made of the files that were opened.
    """
    store = ctx.store
    if not isinstance(store, SharedStore):
        return []
    if store.shared.opened_files:
        store.load_shared()
    while store.shared.opened_files:
        tree, opened = store.shared.opened_files.popitem()
        if _is_wanted(tree, ctx):
            _make(tree, opened, ctx)
    return [partial_layer(value, ctx) for (kind, _), value in store.shared.written_facts.items() if kind == KIND]


def _is_wanted(tree: Path, ctx: Context) -> bool:
    """Return whether the shared cache needs a (new) partial tree of a tree of the store.

    Partial trees help other machines only. So they are made if the cache was used by this build, or on a CI runner.
    """
    store = ctx.store
    if not isinstance(store, SharedStore) or not store.shared.written or tree.parent.parent != store.root / "trees":
        return False
    if not store.uses_shared and not ctx.is_ci_runner:
        return False
    return tree.name in store.shared.whole_trees or store.keep(KIND, tree.name) is None


def _refuse(tree: Path, path: str, ctx: Context) -> None:
    """Refuse a partial tree for the rest of the build. `path`: a placeholder, or any text that is not a path.

    A path that is not a placeholder in LIST is ignored.
    """
    assert isinstance(ctx.store, SharedStore)
    rows = json.loads((tree.parent / LIST).read_bytes())
    row = rows.get(path.strip("/"))
    if not path.startswith("/") or (isinstance(row, list) and len(row) == 3):
        ctx.store.shared.whole_trees[tree.name] = {name for name, row in rows.items() if row == []}
        ctx.progress.detail(
            f"building again with the whole builder: the part of it in the shared cache does not have {path}"
        )


def _make(tree: Path, opened: set[str], ctx: Context) -> None:
    """Make the layer of a partial tree and keep its fact. Skip a tree that is too large or has names not allowed."""
    rows, files = _list_tree(tree, opened)
    size = sum(entry.size for entry in files)
    data = json.dumps(rows, separators=(",", ":")).encode()
    if size > LIMIT or len(data) > LIST_LIMIT:
        ctx.progress.detail(f"the shared cache gets no part of {tree.name}: builds open {size} bytes of it")
        return
    files.append(Entry(LIST, "file", 0o644, SOURCE_DATE, size=len(data), content=data))
    with ctx.progress.task("packing the files that builds open", size, part=True), ctx.store.writer() as writer:
        try:
            facts = write_layer(files, writer, COMPRESSION)
        except ImageError as error:
            ctx.progress.detail(f"the shared cache gets no part of {tree.name}: {error}")
            return
        writer.commit()
    ctx.store.remember(KIND, tree.name, asdict(facts))


def _list_tree(tree: Path, opened: set[str]) -> tuple[dict[str, list[int] | str], list[Entry]]:
    """Return the rows of LIST, and the entries of the files that were opened."""
    timed = tree.parent.name == "base"  # in other trees, a file's time is the time of unpacking
    rows: dict[str, list[int] | str] = {}
    files = []
    for name, status in sorted(walk(tree)):
        mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime) if timed else SOURCE_DATE
        if stat.S_ISDIR(status.st_mode):
            rows[name] = [mode]
        elif stat.S_ISLNK(status.st_mode):
            rows[name] = os.readlink(tree / name)  # noqa: PTH115 - Path would normalize the text
        elif stat.S_ISREG(status.st_mode):
            rows[name] = [] if name in opened else [mode, status.st_size, mtime]
            if name in opened:
                files.append(Entry(name, "file", mode, mtime, size=status.st_size, content=tree / name))
    return rows, files


def _is_row(row: object) -> bool:
    """Return whether a value is a row of LIST.

    A symlink's row is its target. Other rows are lists: [] for a file in the layer, [mode] for a directory, and
    [mode, size, time] for a file that is not in the layer (a placeholder).
    """
    if isinstance(row, str):
        return 0 < len(row) <= PATH_LIMIT and "\0" not in row
    if not isinstance(row, list) or len(row) not in (0, 1, 3):
        return False
    limits = zip(row, ROW_LIMITS, strict=False)
    return all(type(number) is int and 0 <= number < limit for number, limit in limits)


def _unpack(layer: Layer, place: Path, key: str) -> FileDigests:
    """Unpack a partial tree and return the digests of its files. Raises ImageError if LIST does not fit the files."""
    root = place / key
    root.mkdir()
    root.chmod(0o755)
    written: dict[str, bytes] = {}
    entries = extract([layer], root, file_digests=written)
    found, wrong = entries.pop(LIST, None), LIST
    if found is not None and found.kind == "file" and found.size <= LIST_LIMIT:
        rows = parse_json((root / LIST).rename(place / LIST).read_bytes(), LIST)
        wrong = _first_wrong(rows, {name for name, entry in entries.items() if entry.kind == "file"})
    if wrong:
        raise ImageError(f"the layer {layer.descriptor.digest} has a list of files that is wrong at {wrong}")
    return {name if name == LIST else f"{key}/{name}": digest for name, digest in written.items()}


def _first_wrong(rows: Mapping[str, Any], files: set[str]) -> str:
    """Return the first wrong path of LIST, "" if there is none. `files`: the files in the layer.

    A path is wrong if it is not normalized, if its directory is not listed before it, if its row is malformed, or if
    the row and the layer disagree about a file.
    """
    directories = {""}
    for name, row in rows.items():
        above = name.rpartition("/")[0]
        if not _is_row(row) or safe_path(name) != name or above not in directories or (row == []) != (name in files):
            return name or LIST
        if isinstance(row, list) and len(row) == 1:
            directories.add(name)
    return min(files - rows.keys(), default="")
