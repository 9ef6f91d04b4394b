"""Nodes of the HTML page's map for the files of a package: directories, as far as there is a choice.

A node is JSON: n its name, s its size, f its number of files, c the nodes in it, d the directory where they are.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hatch_docker.core.text import sanitize

NEARLY_ALL = 0.97   # of the bytes
MAX_NODES = 200     # of a directory; the smallest ones beyond are one node

Node = dict[str, Any]


class SizedPath(NamedTuple):
    """A file: its path from the root, and its size in bytes, which is not 0."""

    path: str
    size: int


def package_nodes(files: Sequence[SizedPath], least: int) -> tuple[str, list[Node]]:
    """Return the directory that has nearly all of some files, and its nodes; the other files are one, "elsewhere".

    Files of less than `least` bytes have no node of their own.
    """
    main, depth = list(files), 0
    while True:
        depth = _common_depth(main, depth)
        inner: dict[str, list[SizedPath]] = {}
        for file in main:
            if file.path.count("/") > depth:
                inner.setdefault(file.path.split("/", depth + 1)[depth], []).append(file)
        largest = max(inner.values(), key=_total, default=[])
        if _total(largest) < NEARLY_ALL * _total(files):
            break
        main, depth = largest, depth + 1
    chosen = {*main}
    nodes = _nodes(main, least, depth)
    others = [file for file in files if file not in chosen]
    if others:
        nodes = sorted_nodes([*nodes, {**_node("elsewhere", others, least, 0), "d": _directory(others)}])
    return _directory(main), nodes


def _node(name: str, files: Sequence[SizedPath], least: int, depth: int) -> Node:
    return {"n": sanitize(name), "s": _total(files), "f": len(files), "c": _nodes(files, least, depth)}


def _total(files: Iterable[SizedPath]) -> int:
    return sum(file.size for file in files)


def _directory(files: Sequence[SizedPath]) -> str:
    """Return the directory that all of some files are in, from the root: "/", "/usr/lib/"."""
    return sanitize("/" + "".join(f"{name}/" for name in files[0].path.split("/")[: _common_depth(files, 0)]))


def _nodes(files: Sequence[SizedPath], least: int, depth: int) -> list[Node]:
    """Return the nodes of the directory that all of some files are in; it is at least `depth` names deep."""
    depth = _common_depth(files, depth)
    directories: dict[str, list[SizedPath]] = {}
    nodes, small = [], []
    for file in files:
        names = file.path.split("/", depth + 1)
        if len(names) > depth + 1:
            directories.setdefault(names[depth], []).append(file)
        elif file.size < least:
            small.append(file)
        else:
            nodes.append({"n": sanitize(names[depth]), "s": file.size})
    for inner in directories.values():
        below = _common_depth(inner, depth)  # directories without a choice are one node: `a/b/`
        name = "".join(f"{name}/" for name in inner[0].path.split("/")[depth:below])
        nodes.append(_node(name, inner, least, below))
    return _bounded(sorted_nodes(nodes), small)


def _common_depth(files: Sequence[SizedPath], depth: int) -> int:
    """Return the depth of the deepest directory that all files are in, at least `depth`."""
    first = files[0].path.split("/")
    common = len(first) - 1
    for file in files:
        names = file.path.split("/")
        common = min(common, len(names) - 1)
        while names[depth:common] != first[depth:common]:
            common -= 1
    return common


def _bounded(nodes: Sequence[Node], small: Sequence[SizedPath]) -> list[Node]:
    """Return at most MAX_NODES nodes, and one for the smaller ones and the small files together."""
    rest = nodes[MAX_NODES:]
    count = sum(node.get("f", 1) for node in rest) + len(small)
    size = sum(node["s"] for node in rest) + _total(small)
    if not count:
        return list(nodes)
    return sorted_nodes([*nodes[:MAX_NODES], {"n": f"{count} smaller files", "s": size, "f": count}])


def sorted_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes that have a size, the largest first."""
    return sorted((node for node in nodes if node["s"]), key=lambda node: (-node["s"], node["n"], node.get("i", 0)))
