"""Partial trees: a system out of the shared cache, with the files that builds open and a list of all that it has.

To compile one file, a builder opens a tenth of its system. So a build that writes a shared cache notes which files of
its trees are opened, and puts them into a layer of that cache. A machine that has nothing else unpacks this layer. In
the sandbox all other files are placeholders (`wheels/builder/sandbox_partial.py`), with their names, modes, sizes and
times. If one of them is opened, what was made is thrown away, and made again in the whole tree. So whatever is made is
what the whole tree gives.

The layer has the files at their paths, and LIST.
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
from hatch_docker.core.cache.tree_digest import Written, walk
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

KIND = "partial-tree"   # the layer of a tree's partial one, by the tree's key
TREES = "partial"       # kind of the trees in the store: the partial tree, by the whole one's key, and LIST beside it
LIST = "list.json"      # a table of all paths, parents first: a symlink's target, or the numbers of _is_row
LIMIT = 256 << 20       # bytes of the files that are opened
LIST_LIMIT = 32 << 20   # bytes of LIST
ROW_LIMITS = (0o2000, LAYER_LIMIT, 1 << 32)  # of mode, size and time
COMPRESSION = Compression("gzip", 1)

Made = TypeVar("Made")


class PartialTreeError(Exception):
    """A file that a partial tree lacks, the argument, was opened, or the kernel did not tell."""


def is_partial(tree: Path) -> bool:
    """Tell whether a directory is a partial tree of a store."""
    return tree.parent.parent.name == TREES and (tree.parent / LIST).is_file()


def find_partial(kind: str, key: str, ctx: Context) -> Path | None:
    """Return a partial tree in the place of the tree of a key, which is its name; None if the whole one is to be used.

    That is so if the whole one is there, or the shared cache has no other. A partial tree is used in the sandbox alone,
    by `watch`, in a function that `with_whole_trees` calls.
    """
    store = ctx.store
    if not isinstance(store, SharedStore) or key in store.shared.refused:
        return None
    if (store.root / "trees" / kind / key).is_dir():
        return None
    store.look_elsewhere()
    fact = store.keep(KIND, key)
    if fact is None or store.get(fact["digest"]) is None:
        return None
    store.recall(KIND, key)  # from here on all that is made is for builds with this shared cache
    if not store.borrowed:  # this machine's own, whose Python may run outside of the sandbox
        return None
    layer = partial_layer(fact, ctx)
    try:
        tree = store.tree(TREES, key_of(layer.diff_id), lambda place: _unpack(layer, place, key))
    except ImageError as error:
        ctx.progress.warn(f"a layer of the shared cache is made here instead: {error}")
        store.shared.refused[key] = set()
        return None
    return tree / key


def note_partial(key: str, ctx: Context) -> None:
    """Have the shared cache keep the partial tree for the tree of a key, which this build could use."""
    if isinstance(ctx.store, SharedStore):
        ctx.store.keep(KIND, key)


def partial_layer(fact: Mapping[str, Any], ctx: Context) -> Layer:
    """Return the layer that a fact of this kind describes."""
    return make_layer(LayerFacts(**fact), COMPRESSION, lambda: ctx.store.open(fact["digest"]))


def with_whole_trees(make: Callable[[], Made]) -> Made:
    """Return what a function makes in trees that may be partial; it is called again for each that has to be whole."""
    while True:
        try:
            return make()
        except PartialTreeError:
            continue


def watch(tree: Path, ctx: Context, work: Callable[[], Made]) -> Made:
    """Return what some work in a tree of the store gives, and note the files that it opens if the shared cache asks.

    If the sandbox says that a partial tree lacks one of them, have the whole one used from now on.
    """
    if is_partial(tree):
        try:
            return work()
        except PartialTreeError as error:
            _refuse(tree, str(error), ctx)
            raise
    files = None
    if _is_wanted(tree, ctx):
        ctx.store.check_trees()  # else it would read files meanwhile
        with contextlib.suppress(OSError):  # the kernel does not tell
            files = OpenedFiles(tree)
    if files is None:
        return work()
    try:
        made = work()
    finally:
        opened = files.end()
    if opened:
        assert isinstance(ctx.store, SharedStore)
        ctx.store.shared.opened.setdefault(tree, set(ctx.store.shared.refused.get(tree.name, ()))).update(opened)
    return made


def keep_partial_trees(ctx: Context) -> list[Layer]:
    """Have the shared cache keep the partial trees of this build, and return their layers.

    Those that it lacks are made, of the files that were opened.
    """
    store = ctx.store
    if not isinstance(store, SharedStore):
        return []
    if store.shared.opened:
        store.look_elsewhere()
    while store.shared.opened:
        tree, opened = store.shared.opened.popitem()
        if _is_wanted(tree, ctx):
            _make(tree, opened, ctx)
    return [partial_layer(value, ctx) for (kind, _), value in store.shared.noted.items() if kind == KIND]


def _is_wanted(tree: Path, ctx: Context) -> bool:
    """Tell whether the shared cache of a build shall get the partial tree of a tree of the store.

    It is of use to other machines only: where there are none, no push shall carry it.
    """
    store = ctx.store
    if not isinstance(store, SharedStore) or not store.shared.written or tree.parent.parent != store.root / "trees":
        return False
    if not store.borrowed and not ctx.runner:
        return False
    return tree.name in store.shared.refused or store.keep(KIND, tree.name) is None


def _refuse(tree: Path, path: str, ctx: Context) -> None:
    """Have the whole tree used instead of a partial one, unless that has the file at a path."""
    assert isinstance(ctx.store, SharedStore)
    listed = json.loads((tree.parent / LIST).read_bytes())
    row = listed.get(path.strip("/"))
    if not path.startswith("/") or (isinstance(row, list) and len(row) == 3):  # no path: the kernel does not tell
        ctx.store.shared.refused[tree.name] = {name for name, row in listed.items() if row == []}
        ctx.progress.detail(f"building again, in the whole system: of the part in the shared cache {path} is missing")


def _make(tree: Path, opened: set[str], ctx: Context) -> None:
    """Make the layer of a tree's partial one, and remember it. One that is too large, or has odd names, is not made."""
    listed, files = _listed(tree, opened)
    size = sum(entry.size for entry in files)
    data = json.dumps(listed, separators=(",", ":")).encode()
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


def _listed(tree: Path, opened: set[str]) -> tuple[dict[str, list[int] | str], list[Entry]]:
    """Return the rows of LIST, and the files that were opened."""
    timed = tree.parent.name == "base"  # else the times are those of unpacking
    listed: dict[str, list[int] | str] = {}
    files = []
    for name, status in sorted(walk(tree)):
        mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime) if timed else SOURCE_DATE
        if stat.S_ISDIR(status.st_mode):
            listed[name] = [mode]
        elif stat.S_ISLNK(status.st_mode):
            listed[name] = os.readlink(tree / name)  # noqa: PTH115 - as it is written
        elif stat.S_ISREG(status.st_mode):
            listed[name] = [] if name in opened else [mode, status.st_size, mtime]
            if name in opened:
                files.append(Entry(name, "file", mode, mtime, size=status.st_size, content=tree / name))
    return listed, files


def _is_row(row: object) -> bool:
    """Tell whether a value is a row of LIST.

    It is a symlink's target; or nothing for a file in the layer, the mode of a directory, or mode, size and time of a
    file that is left out.
    """
    if isinstance(row, str):
        return 0 < len(row) <= PATH_LIMIT and "\0" not in row
    if not isinstance(row, list) or len(row) not in (0, 1, 3):
        return False
    limits = zip(row, ROW_LIMITS, strict=False)
    return all(type(number) is int and 0 <= number < limit for number, limit in limits)


def _unpack(layer: Layer, place: Path, key: str) -> Written:
    """Unpack a partial tree into a directory; return digests of its files. Raise ImageError for one that no build made.
    """
    root = place / key
    root.mkdir()
    root.chmod(0o755)
    written: dict[str, bytes] = {}
    entries = extract([layer], root, written=written)
    found, wrong = entries.pop(LIST, None), LIST
    if found is not None and found.kind == "file" and found.size <= LIST_LIMIT:
        listed = parse_json((root / LIST).rename(place / LIST).read_bytes(), LIST)
        wrong = _misplaced(listed, {name for name, entry in entries.items() if entry.kind == "file"})
    if wrong:
        raise ImageError(f"the layer {layer.descriptor.digest} has a list of files that is wrong at {wrong}")
    return {name if name == LIST else f"{key}/{name}": digest for name, digest in written.items()}


def _misplaced(listed: Mapping[str, Any], files: set[str]) -> str:
    """Return the first path of a list that is not a normal one in a directory above it, or not as in the layer, or "".

    It is also that of a wrong row.
    """
    directories = {""}
    for name, row in listed.items():
        above = name.rpartition("/")[0]
        if not _is_row(row) or safe_path(name) != name or above not in directories or (row == []) != (name in files):
            return name or LIST
        if isinstance(row, list) and len(row) == 1:
            directories.add(name)
    return min(files - listed.keys(), default="")
