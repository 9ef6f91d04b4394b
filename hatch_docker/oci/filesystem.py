"""The file tree that layers make when laid on each other (layer.md, Applying Changesets).

The tree is merged in memory, names only. Whatever symlinks layers bring are followed there, inside of the
root; on disk they are made last, so nothing is ever written through one.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import pieces
from hatch_docker.oci.layer import Entry, layer_entries
from hatch_docker.oci.model import Layer, open_content
from hatch_docker.oci.paths import DEPTH_LIMIT

KEPT_LIMIT = 32 << 20     # bytes of files that `listing` brings along
TREE_LIMIT = 200 << 20    # bytes of memory that a merged tree may take: some 300 000 entries
ENTRY_COST = 560          # bytes of memory of an entry, beside its names
STEP_LIMIT = 8_000_000    # names that are looked up while layers are merged; an entry takes as many as it is deep
LINKS_LIMIT = 40          # symlinks in one path, as in Linux


Look = Callable[[str, BinaryIO], bytes | None]
"""Looks into a file of a layer, given its path in the tree; what it returns is kept as the entry's content."""


@dataclass(slots=True)
class _Node:
    """A path of the merged tree: what is there, and which layer and member of it brought it."""

    entry: Entry
    source: tuple[int, int]
    children: dict[str, _Node]

    @property
    def is_directory(self) -> bool:
        return self.entry.kind == "directory"


_NONE: dict[str, _Node] = {}  # the children of everything that is no directory


class _Tree:
    """Layers' entries applied one after the other."""

    def __init__(self) -> None:
        self.root = _Node(Entry("", "directory", 0o755, 0), (-1, 0), {})
        self._room = TREE_LIMIT
        self._steps = STEP_LIMIT

    def apply(self, entry: Entry, source: tuple[int, int]) -> _Node | None:
        """Apply an entry; the node it became, None for whiteouts. Raises ImageError."""
        self._take(entry.path, entry.target)
        parts = entry.path.split("/") if entry.path else []
        if entry.kind == "opaque":
            node = self._walk(parts, None)
            if node is not None:
                for name in list(node.children):
                    self._prune(node, name, source[0])
            return None
        parent = self._walk(parts[:-1], None if entry.kind == "whiteout" else source)
        if parent is None or entry.kind == "whiteout":
            if parent is not None:
                self._prune(parent, parts[-1], source[0])
            return None
        node = self._node(entry, source, _join(parent, parts[-1]))
        before = parent.children.get(parts[-1])
        if node.is_directory and before is not None and before.is_directory:
            node.children = before.children
        parent.children[parts[-1]] = node
        return node

    def _node(self, entry: Entry, source: tuple[int, int], path: str) -> _Node:
        if entry.kind == "hardlink":
            *parents, name = entry.target.split("/")
            parent = self._walk(parents, None)
            target = parent.children.get(name) if parent else None
            if target is None or target.is_directory:
                raise ImageError(f"the hard link {entry.path} in a layer points to no file: {entry.target}")
            entry, source = target.entry, target.source
        if entry.path != path:
            entry = dataclasses.replace(entry, path=path)
        return _Node(entry, source, {} if entry.kind == "directory" else _NONE)

    def _walk(self, parts: Sequence[str], create: tuple[int, int] | None) -> _Node | None:
        """The directory of a path, symlinks followed inside the root; made where `create` is its source."""
        stack = [self.root]
        todo = list(reversed(parts))
        links = 0
        while todo:
            part = todo.pop()
            self._step()
            if part in ("", "."):
                continue
            if part == "..":
                del stack[max(1, len(stack) - 1) :]
                continue
            here = stack[-1]
            child = here.children.get(part)
            if child is None:
                if create is None:
                    return None
                path = _join(here, part)
                self._take(path)
                child = _Node(Entry(path, "directory", 0o755, 0), create, {})
                here.children[part] = child
            if child.entry.kind == "symlink":
                links += 1
                if links > LINKS_LIMIT:
                    raise ImageError(f"a layer's path {'/'.join(parts)} runs through too many symlinks")
                if child.entry.target.startswith("/"):
                    del stack[1:]
                todo.extend(reversed(child.entry.target.split("/")))
            elif not child.is_directory:
                if create is None:
                    return None
                raise ImageError(f"a layer has entries below {child.entry.path}, a {child.entry.kind}")
            elif len(stack) > DEPTH_LIMIT:
                raise ImageError(f"a layer's path is more than {DEPTH_LIMIT} directories deep")
            else:
                stack.append(child)
        return stack[-1]

    def _prune(self, parent: _Node, name: str, layer: int) -> None:
        """Remove what lower layers put at a name; what this layer brought itself stays."""
        self._step()
        node = parent.children.get(name)
        if node is None:
            return
        for child in list(node.children):
            self._prune(node, child, layer)
        if node.source[0] < layer and not node.children:
            del parent.children[name]

    def _take(self, path: str, target: str = "") -> None:
        self._room -= ENTRY_COST + 2 * len(path) + len(target)
        if self._room < 0:
            raise ImageError(f"the names of the image's files take more than {TREE_LIMIT >> 20} MB of memory: refused")

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise ImageError("the layers take too long to be merged: their links or whiteouts lead on and on")

    def nodes(self) -> Iterator[_Node]:
        """All but the root, sorted, parents first."""
        todo = [self.root]
        while todo:
            node = todo.pop()
            if node is not self.root:
                yield node
            todo.extend(node.children[name] for name in sorted(node.children, reverse=True))


def _join(parent: _Node, name: str) -> str:
    return f"{parent.entry.path}/{name}" if parent.entry.path else name


def _merge(
    layers: Sequence[Layer], look: Look | None, every: list[_Node] | None = None, sizes: list[int] | None = None
) -> _Tree:
    tree = _Tree()
    room = KEPT_LIMIT
    measured = None if sizes is None else sizes.append
    for number, layer in enumerate(layers):
        for ordinal, (entry, stream) in enumerate(layer_entries(layer, measured=measured)):
            node = tree.apply(entry, (number, ordinal))
            if every is not None and node is not None:
                every.append(node)
            kept = None if look is None or stream is None or node is None else look(node.entry.path, stream)
            if kept is not None and node is not None:
                room -= len(kept)
                if room < 0:
                    raise ImageError(f"{entry.path} and others of the layers are too large to be kept in memory")
                node.entry = dataclasses.replace(node.entry, content=kept)
    return tree


def listing(
    layers: Sequence[Layer], look: Look | None = None, sizes: list[int] | None = None
) -> dict[str, Entry]:
    """The merged tree of some layers, base first: entries by real path, sorted, parents first.

    Whiteouts are applied, hard links are files, directories that no layer names are there with mode 0755.
    What `look` returns of a file comes along as `Entry.content`. Each layer is read once, and its diff-id checked;
    the size of its tar, in bytes, is added to `sizes`. Raises ImageError.
    """
    return {node.entry.path: node.entry for node in _merge(layers, look, sizes=sizes).nodes()}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a layer, by its number, as it was applied: `shown` is whether it is there in the end."""

    entry: Entry
    layer: int
    shown: bool


def survey(layers: Sequence[Layer], look: Look | None = None) -> tuple[list[Member], list[int]]:
    """Every member that some layers brought, in their order, also what a later one removed or replaced; and the size
    of each layer's tar, in bytes.

    As `listing` otherwise, but that a hard link is a "hardlink" still, of no size.
    """
    every: list[_Node] = []
    sizes: list[int] = []
    shown = {id(node) for node in _merge(layers, look, every, sizes).nodes()}
    seen: set[tuple[int, int]] = set()
    members = []
    for node in every:
        entry, again = node.entry, node.source in seen
        seen.add(node.source)
        if again and entry.kind == "file":
            entry = dataclasses.replace(entry, kind="hardlink", size=0)
        members.append(Member(entry, node.source[0], id(node) in shown))
    return members, sizes


def extract(layers: Sequence[Layer], root: Path) -> None:
    """Write the merged tree of some layers into the empty directory `root`, as any user.

    Owners and devices are left out, and so are the set-user-ID and set-group-ID bits; directories can be written
    and files read by their owner. Raises ImageError, and OSError where the disk refuses.
    """
    nodes = {node.entry.path: node for node in _merge(layers, None).nodes()}
    for path, node in nodes.items():
        if node.is_directory:
            (root / path).mkdir()
            (root / path).chmod(node.entry.mode & 0o1777 | stat.S_IRWXU)
    files: dict[tuple[int, int], list[str]] = {}
    for path, node in nodes.items():
        if node.entry.kind == "file":
            files.setdefault(node.source, []).append(path)
    for number, layer in enumerate(layers):
        if any(source[0] == number for source in files):
            for ordinal, (entry, stream) in enumerate(layer_entries(layer)):
                paths = files.get((number, ordinal))
                if paths and stream is not None:
                    _write_file(root, paths, entry, stream)
    for path, node in nodes.items():
        if node.entry.kind == "symlink":
            (root / path).symlink_to(node.entry.target)


def write_entries(entries: Iterable[Entry], root: Path) -> None:
    """Write directories, files and symbolic links, whose paths are safe, into a tree; an existing file is replaced.

    The owner may write into every directory. Raises OSError.
    """
    for entry in sorted(entries, key=lambda entry: entry.path):
        path = root / entry.path
        if entry.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(entry.mode | stat.S_IRWXU)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if entry.kind == "symlink":
            path.symlink_to(entry.target)
        elif entry.kind == "file":
            with open_content(entry.content) as stream, path.open("wb") as out:
                shutil.copyfileobj(stream, out)
            path.chmod(entry.mode)


def _write_file(root: Path, paths: list[str], entry: Entry, stream: BinaryIO) -> None:
    first = f"{root}/{paths[0]}"
    descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        for piece in pieces(stream):
            out.write(piece)
        os.fchmod(descriptor, entry.mode & 0o1777 | stat.S_IRUSR)
        mtime = min(max(entry.mtime, 0), 0xFFFFFFFF)
        os.utime(descriptor, (mtime, mtime))
    for path in paths[1:]:
        os.link(first, f"{root}/{path}")
