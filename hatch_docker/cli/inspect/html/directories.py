"""The files of a package as the map goes into them: by directories, as far as there is a choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hatch_docker.core.text import sanitize

NEARLY = 0.97
ROOM = 200   # tiles of a directory; the smallest beyond are one


class Found(NamedTuple):
    """A file: its path from the root, and its size in bytes, which is not 0."""

    path: str
    size: int


def in_one_place(files: Sequence[Found], least: int) -> tuple[str, list[dict[str, Any]]]:
    """The directory that nearly all of some files are in, and what lies there; the others are one tile, "elsewhere"."""
    main, depth = list(files), 0
    while True:
        depth = _depth(main, depth)
        inner: dict[str, list[Found]] = {}
        for one in main:
            if one.path.count("/") > depth:
                inner.setdefault(one.path.split("/", depth + 1)[depth], []).append(one)
        largest = max(inner.values(), key=_weight, default=[])
        if _weight(largest) < NEARLY * _weight(files):
            break
        main, depth = largest, depth + 1
    place, chosen = place_of(main), {*main}
    nodes = within(main, least, depth)
    others = [one for one in files if one not in chosen]
    if others:
        nodes = sorted_nodes([*nodes, {
            "n": "elsewhere", "s": _weight(others), "f": len(others), "d": place_of(others), "c": within(others, least),
        }])  # fmt: skip
    return place, nodes


def _weight(files: Iterable[Found]) -> int:
    return sum(one.size for one in files)


def place_of(files: Sequence[Found]) -> str:
    """The directory that all of some files are in, as it is named from the root: "/", "/usr/lib/"."""
    return sanitize("/" + "".join(f"{name}/" for name in files[0].path.split("/")[: _depth(files, 0)]))


def within(files: Sequence[Found], least: int, depth: int = 0) -> list[dict[str, Any]]:
    """What lies in the directory that all of some files are in: files of `least` bytes and more, directories, the rest.

    They are known to be in one that is `depth` names deep.
    """
    depth = _depth(files, depth)
    directories: dict[str, list[Found]] = {}
    nodes, small = [], []
    for one in files:
        names = one.path.split("/", depth + 1)
        if len(names) > depth + 1:
            directories.setdefault(names[depth], []).append(one)
        elif one.size < least:
            small.append(one)
        else:
            nodes.append({"n": sanitize(names[depth]), "s": one.size})
    nodes += [_directory(inner, least, depth) for inner in directories.values()]
    return _bounded(sorted_nodes(nodes), small)


def _depth(files: Sequence[Found], depth: int) -> int:
    """How deep the directory is that all are in."""
    first = files[0].path.split("/")
    common = len(first) - 1
    for one in files:
        names = one.path.split("/")
        common = min(common, len(names) - 1)
        while names[depth:common] != first[depth:common]:
            common -= 1
    return common


def _directory(files: Sequence[Found], least: int, depth: int) -> dict[str, Any]:
    """A directory, with those in it as long as there is but one: `a/b/`."""
    below = _depth(files, depth)
    return {
        "n": sanitize("".join(f"{name}/" for name in files[0].path.split("/")[depth:below])),
        "s": sum(one.size for one in files), "f": len(files), "c": within(files, least, below),
    }  # fmt: skip


def _bounded(nodes: Sequence[dict[str, Any]], small: Sequence[Found]) -> list[dict[str, Any]]:
    """No more tiles than there is room for: what is smaller, files and directories, is one."""
    rest = nodes[ROOM:]
    count = sum(one.get("f", 1) for one in rest) + len(small)
    size = sum(one["s"] for one in rest) + sum(one.size for one in small)
    if not count:
        return list(nodes)
    return sorted_nodes([*nodes[:ROOM], {"n": f"{count} smaller files", "s": size, "f": count}])


def sorted_nodes(nodes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The largest first, those without size left out."""
    return sorted((node for node in nodes if node["s"]), key=lambda node: (-node["s"], node["n"], node.get("i", 0)))
