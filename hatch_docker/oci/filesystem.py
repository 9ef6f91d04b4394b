"""The file system of an image: its layers applied in order (layer.md, Applying Changesets).

The tree is merged in memory without file contents. There symlinks in the paths of entries are followed, inside the
root. On disk symlinks are created last, so that no file is written through a symlink.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from hatch_docker.core.errors import ImageError
from hatch_docker.core.progress import Advance, no_progress
from hatch_docker.core.streams import RawReader, pieces
from hatch_docker.oci.layer import Entry, ReadersOf, layer_entries
from hatch_docker.oci.model import Layer, open_content
from hatch_docker.oci.paths import DEPTH_LIMIT, SOURCE_DATE

CHUNK = 1 << 18
CONTENT_LIMIT = 32 << 20  # bytes of content that `merge_layers` keeps in memory
TREE_LIMIT = 200 << 20    # bytes of memory of a merged tree: some 300 000 entries
ENTRY_COST = 560          # bytes of memory of an entry without its names
STEP_LIMIT = 8_000_000    # lookups of names while layers are merged; an entry needs as many as its depth
LINKS_LIMIT = 40          # symlinks in one path, as in Linux


FileReader = Callable[[str, BinaryIO], bytes | None]
"""Function that gets the path and the content of a file; its result becomes the entry's content."""


@dataclass(slots=True)
class _Node:
    """A path of the merged tree. `source`: the numbers of the layer and of the member of its entry."""

    entry: Entry
    source: tuple[int, int]
    children: dict[str, _Node]

    @property
    def is_directory(self) -> bool:
        return self.entry.kind == "directory"


_NONE: dict[str, _Node] = {}  # the children of everything but directories


class _Tree:
    """The merged tree, to which entries of layers are applied in order."""

    def __init__(self) -> None:
        self.root = _Node(Entry("", "directory", 0o755, 0), (-1, 0), {})
        self._memory_left = TREE_LIMIT
        self._steps_left = STEP_LIMIT
        self.hashes: dict[tuple[int, int], bytes] = {}  # SHA-256 of the written files, by source

    def apply(self, entry: Entry, source: tuple[int, int]) -> _Node | None:
        """Apply an entry and return its node, None for whiteouts. Raises ImageError."""
        self._count_memory(entry.path, entry.target)
        parts = entry.path.split("/") if entry.path else []
        if entry.kind == "opaque":
            node = self._walk(parts, None)
            if node is not None:
                for name in list(node.children):
                    self._prune(node, name, source[0])
            return None
        if entry.kind == "whiteout":
            if (parent := self._walk(parts[:-1], None)) is not None:
                self._prune(parent, parts[-1], source[0])
            return None
        parent = self._walk(parts[:-1], source)
        assert parent is not None
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
        """Return the directory at a path, following symlinks inside the root.

        Missing directories are created with the source `create`; if `create` is None, the result is None.
        """
        stack = [self.root]
        todo = list(reversed(parts))
        links = 0
        while todo:
            part = todo.pop()
            self._count_step()
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
                self._count_memory(path)
                child = _Node(Entry(path, "directory", 0o755, 0), create, {})
                here.children[part] = child
            if child.entry.kind == "symlink":
                links += 1
                if links > LINKS_LIMIT:
                    raise ImageError(f"a layer's path {'/'.join(parts)} goes through too many symlinks")
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
        """Remove the entries of lower layers at a name and below. Entries of `layer` stay."""
        self._count_step()
        node = parent.children.get(name)
        if node is None:
            return
        for child in list(node.children):
            self._prune(node, child, layer)
        if node.source[0] < layer and not node.children:
            del parent.children[name]

    def _count_memory(self, path: str, target: str = "") -> None:
        self._memory_left -= ENTRY_COST + 2 * len(path) + len(target)
        if self._memory_left < 0:
            raise ImageError(f"the names of the image's files take more than {TREE_LIMIT >> 20} MB of memory: refused")

    def _count_step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ImageError("the layers take too long to merge: they have too many links or whiteouts")

    def nodes(self) -> Iterator[_Node]:
        """Yield all nodes except the root, sorted, parents before children."""
        todo = [self.root]
        while todo:
            node = todo.pop()
            if node is not self.root:
                yield node
            todo.extend(node.children[name] for name in sorted(node.children, reverse=True))


def _join(parent: _Node, name: str) -> str:
    return f"{parent.entry.path}/{name}" if parent.entry.path else name


def _merge(
    layers: Sequence[Layer], read_file: FileReader | None,
    all_nodes: list[_Node] | None = None, sizes: list[int] | None = None, advance: Advance = no_progress,
    spool: Path | None = None, readers_of: ReadersOf = lambda _layer: (),
) -> _Tree:
    """Merge layers (see `merge_layers`), and append the node of each member to `all_nodes`.

    With `spool` files are written into that directory, as "LAYER-MEMBER", and `readers_of` may return readers.
    """
    tree = _Tree()
    content_left = CONTENT_LIMIT
    report_size = None if sizes is None else sizes.append
    for number, layer in enumerate(layers):
        readers = readers_of(layer)
        for ordinal, (entry, stream) in enumerate(layer_entries(layer, report_size=report_size)):
            node = tree.apply(entry, (number, ordinal))
            if all_nodes is not None and node is not None:
                all_nodes.append(node)
            if spool is not None and stream is not None and node is not None:
                path = f"{spool}/{number}-{ordinal}"  # a Path would take a third of the time of a small file
                hashed = hashlib.sha256()
                write_file(path, stream, entry.mode & 0o1777 | stat.S_IRUSR, hashed.update, entry.mtime)
                tree.hashes[number, ordinal] = hashed.digest()
                stream = _open_lazily(path)
                for reader in readers:
                    with contextlib.closing(_open_lazily(path)) as own:
                        reader.read_entry(entry, own)
            else:
                for reader in readers:
                    reader.read_entry(entry, None)
            data = None if read_file is None or stream is None or node is None else read_file(node.entry.path, stream)
            if data is not None and node is not None:
                content_left -= len(data)
                if content_left < 0:
                    raise ImageError(f"{entry.path} and others of the layers are too large to keep in memory")
                node.entry = dataclasses.replace(node.entry, content=data)
        for reader in readers:
            reader.store_fact()
        advance(layer.descriptor.size)
    return tree


def merge_layers(
    layers: Sequence[Layer], read_file: FileReader | None = None, sizes: list[int] | None = None,
    advance: Advance = no_progress,
) -> dict[str, Entry]:
    """Return the merged tree of layers, base first: entries by path without symlinks, sorted, parents first.

    Whiteouts are applied, hard links become files, missing parent directories get the mode 0755. The result of
    `read_file` becomes `Entry.content`. Each layer is read once and its diff-id is verified. The size of its tar in
    bytes is appended to `sizes`; `advance` gets its compressed size. Raises ImageError.
    """
    tree = _merge(layers, read_file, sizes=sizes, advance=advance)
    return {node.entry.path: node.entry for node in tree.nodes()}


@dataclass(frozen=True, slots=True)
class LayerMember:
    """A member of layer number `layer`. `visible` is False if a later layer removes or replaces it."""

    entry: Entry
    layer: int
    visible: bool


def list_members(layers: Sequence[Layer], read_file: FileReader | None = None) -> tuple[list[LayerMember], list[int]]:
    """Return all members of layers in their order, and the size of each layer's tar in bytes.

    The result includes members that a later layer removes or replaces. Hard links have the kind "hardlink" and the
    size 0. Everything else is as in `merge_layers`.
    """
    all_nodes: list[_Node] = []
    sizes: list[int] = []
    visible = {id(node) for node in _merge(layers, read_file, all_nodes, sizes).nodes()}
    seen: set[tuple[int, int]] = set()
    members = []
    for node in all_nodes:
        entry, again = node.entry, node.source in seen
        seen.add(node.source)
        if again and entry.kind == "file":
            entry = dataclasses.replace(entry, kind="hardlink", size=0)
        members.append(LayerMember(entry, node.source[0], id(node) in visible))
    return members, sizes


def extract(
    layers: Sequence[Layer], root: Path, advance: Advance = no_progress, *, read_file: FileReader | None = None,
    sizes: list[int] | None = None, readers_of: ReadersOf = lambda _layer: (),
    file_digests: dict[str, bytes] | None = None,
) -> dict[str, Entry]:
    """Write the merged tree of layers into the empty directory `root`, and return it. Needs no privileges.

    Owners, devices, and the setuid and setgid bits are omitted; the owner can write to directories and read files. Each
    layer is read once: its files are written to temporary names, and renamed after the last layer. `readers_of`:
    returns the readers of a layer. `file_digests` gets the SHA-256 of each file by path. The other arguments are as in
    `merge_layers`. Raises ImageError, and OSError for a failed write.
    """
    spool = root / f".{os.urandom(8).hex()}"  # random: no layer can contain this name
    spool.mkdir()
    try:
        merged = _merge(layers, read_file, sizes=sizes, advance=advance, spool=spool, readers_of=readers_of)
        nodes = {node.entry.path: node for node in merged.nodes()}
        _place_nodes(nodes, root, spool)
    finally:
        shutil.rmtree(spool)
    if file_digests is not None:
        file_digests |= {path: merged.hashes[node.source] for path, node in nodes.items() if node.entry.kind == "file"}
    return {path: node.entry for path, node in nodes.items()}


def _place_nodes(nodes: Mapping[str, _Node], root: Path, spool: Path) -> None:
    """Create directories and links, and rename the files from `spool`."""
    for path, node in nodes.items():
        if node.is_directory:
            (root / path).mkdir()
            (root / path).chmod(node.entry.mode & 0o1777 | stat.S_IRWXU)
    written: dict[tuple[int, int], str] = {}
    for path, node in nodes.items():
        if node.entry.kind != "file":
            continue
        if first := written.get(node.source):
            os.link(first, f"{root}/{path}")
        else:
            written[node.source] = f"{root}/{path}"
            os.rename(f"{spool}/{node.source[0]}-{node.source[1]}", f"{root}/{path}")  # noqa: PTH104 - faster
    for path, node in nodes.items():
        if node.entry.kind == "symlink":
            (root / path).symlink_to(node.entry.target)


def write_entries(entries: Iterable[Entry], root: Path) -> None:
    """Write directories, files and symlinks into a tree; replace existing files. The paths must be safe.

    The owner can write to every directory. Raises OSError.
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


class _LazyFile(RawReader):
    """A written file, which is opened at the first read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: io.FileIO | None = None

    def readinto(self, buffer: Any, /) -> int:
        if self._file is None:
            self._file = io.FileIO(self._path)
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def _open_lazily(path: str) -> BinaryIO:
    """Return a stream of a written file, which is opened at the first read."""
    return cast("BinaryIO", _LazyFile(path))


def write_file(
    path: str, stream: BinaryIO, mode: int, watch: Callable[[bytes], object], mtime: int | None = None
) -> None:
    """Write a new file; `watch` gets its contents in pieces. Raises OSError, also if the file exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        for piece in pieces(stream, CHUNK):
            watch(piece)
            out.write(piece)
        out.flush()  # a later write would change the mtime
        os.fchmod(descriptor, mode)
        if mtime is not None:
            mtime = min(max(mtime, 0), 0xFFFFFFFF)
            os.utime(descriptor, (mtime, mtime))


def tree_entries(root: Path, top: str = "") -> list[Entry]:
    """Return the entries of `root`/`top` and everything below, except devices and sockets; paths relative to `root`.

    All entries belong to root and have the mtime SOURCE_DATE. Directories keep their mode; files get 0755 or 0644.
    """
    start = root / top if top else root
    entries = [path_entry(start, top)] if top else []
    entries += [path_entry(path, path.relative_to(root).as_posix()) for path in _walk(start)]
    return [entry for entry in entries if entry is not None]


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def path_entry(path: Path, name: str) -> Entry | None:
    """Return the entry `name` for a path of this machine, None for a device, a pipe or a socket."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, "symlink", 0o777, SOURCE_DATE, target=os.readlink(path))  # noqa: PTH115 - the exact target
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, "directory", status.st_mode & 0o1777, SOURCE_DATE)
    if not stat.S_ISREG(status.st_mode):
        return None
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return Entry(name, "file", mode, SOURCE_DATE, size=status.st_size, content=path)
