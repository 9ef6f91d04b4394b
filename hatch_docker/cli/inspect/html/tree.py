"""Tree of the HTML page's map: layers, their packages, and the directories of these, as far as there is a choice.

A node is JSON: n its name, s its size, k its kind, f its number of files, c the nodes in it, d the directory where they
are, i the number of the layer or package.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from hatch_docker.cli.inspect.model import HEADERS, REMOVED, TITLES, File, ImageContents
from hatch_docker.core.text import sanitize

MAX_FILES = 12_000  # files with nodes of their own; the smaller ones of a directory are one node
NEARLY_ALL = 0.97   # of the bytes
MAX_NODES = 200     # of a directory; the smallest ones beyond are one node

Node = dict[str, Any]


def tree_json(name: str, contents: ImageContents) -> str:
    """Return the map's data as JSON that cannot end its script element: it has no `<`, not even in `</script>`."""
    data = json.dumps(tree(name, contents), separators=(",", ":"), sort_keys=True)
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def tree(name: str, contents: ImageContents) -> Node:
    """Return the map's root node: layers, in each its packages, in each its files, the largest first.

    The sizes of a layer's nodes add up to that of its tar.
    """
    sizes = sorted((file.size for file in contents.files), reverse=True)
    least = sizes[MAX_FILES] + 1 if len(sizes) > MAX_FILES else 1
    layers = []
    for number, layer in enumerate(contents.layers):
        groups: dict[int, list[File]] = {}
        for file in (file for file in contents.files if file.layer == number and file.size):
            groups.setdefault(file.package if file.present else -2, []).append(file)
        nodes = [_group(contents, package, group, least) for package, group in groups.items()]
        nodes.append({"n": TITLES[HEADERS], "s": max(0, layer.unpacked_size - layer.files_size), "k": HEADERS})
        title = f"{number + 1}: {TITLES[layer.kind]}"
        layers.append({
            "n": sanitize(f"{title}, {layer.title[:100]}" if layer.title else title), "s": layer.unpacked_size,
            "k": layer.kind, "f": layer.files, "i": number, "c": _sorted(nodes),
        })  # fmt: skip
    count = sum(layer.files for layer in contents.layers)
    return {"n": sanitize(name), "s": contents.unpacked_size, "f": count, "c": _sorted(layers)}


def _group(contents: ImageContents, package: int, group: Sequence[File], least: int) -> Node:
    """Return the node of a package's files in a layer; -1 is for files of no package, -2 for removed ones."""
    if package >= 0:
        title = contents.packages[package].title
    else:
        title = TITLES[REMOVED] if package == -2 else "files of no package"
    directory, nodes = _package_nodes(group, least)
    return {
        "n": sanitize(title), "s": sum(file.size for file in group), "k": group[0].kind, "f": len(group), "i": package,
        "d": directory, "c": nodes,
    }  # fmt: skip


def _package_nodes(files: Sequence[File], least: int) -> tuple[str, list[Node]]:
    """Return the directory that has nearly all of some files, and its nodes; the other files are one, "elsewhere".

    Files of less than `least` bytes have no node of their own.
    """
    main, depth = list(files), 0
    while True:
        depth = _common_depth(main, depth)
        inner: dict[str, list[File]] = {}
        for file in main:
            if file.path.count("/") > depth:
                inner.setdefault(file.path.split("/", depth + 1)[depth], []).append(file)
        largest = max(inner.values(), key=_total, default=[])
        if _total(largest) < NEARLY_ALL * _total(files):
            break
        main, depth = largest, depth + 1
    chosen = {file.path for file in main}
    nodes = _nodes(main, least, depth)
    if others := [file for file in files if file.path not in chosen]:
        nodes = _sorted([*nodes, {**_node("elsewhere", others, least, 0), "d": _directory(others)}])
    return _directory(main), nodes


def _node(name: str, files: Sequence[File], least: int, depth: int) -> Node:
    return {"n": sanitize(name), "s": _total(files), "f": len(files), "c": _nodes(files, least, depth)}


def _total(files: Iterable[File]) -> int:
    return sum(file.size for file in files)


def _directory(files: Sequence[File]) -> str:
    """Return the directory that all of some files are in, from the root: "/", "/usr/lib/"."""
    return sanitize("/" + "".join(f"{name}/" for name in files[0].path.split("/")[: _common_depth(files, 0)]))


def _nodes(files: Sequence[File], least: int, depth: int) -> list[Node]:
    """Return the nodes of the directory that all of some files are in, which is at least `depth` names deep.

    These are MAX_NODES at most, and one for the smaller ones and the small files together.
    """
    depth = _common_depth(files, depth)
    directories: dict[str, list[File]] = {}
    nodes: list[Node] = []
    small: list[File] = []
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
    nodes = _sorted(nodes)
    rest = nodes[MAX_NODES:]
    count = sum(node.get("f", 1) for node in rest) + len(small)
    size = sum(node["s"] for node in rest) + _total(small)
    smaller = [{"n": f"{count} smaller files", "s": size, "f": count}] if count else []
    return _sorted([*nodes[:MAX_NODES], *smaller])


def _common_depth(files: Sequence[File], depth: int) -> int:
    """Return the depth of the deepest directory that all files are in, at least `depth`."""
    first = files[0].path.split("/")
    common = len(first) - 1
    for file in files:
        names = file.path.split("/")
        common = min(common, len(names) - 1)
        while names[depth:common] != first[depth:common]:
            common -= 1
    return common


def _sorted(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes that have a size, the largest first."""
    return sorted((node for node in nodes if node["s"]), key=lambda node: (-node["s"], node["n"], node.get("i", 0)))
