"""Page of `inspect --html`: one file that needs no other, with the same bytes for the same image and receipt."""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from hatch_docker.build.receipt import Receipt
from hatch_docker.cli.inspect.html.directories import Node, SizedPath, package_nodes, sorted_nodes
from hatch_docker.cli.inspect.html.tables import (
    files_table,
    kinds_bar,
    layers_table,
    left_out_note,
    packages_table,
    settings_list,
    short_size,
    text,
    timeline_table,
)
from hatch_docker.cli.inspect.model import HEADERS, REMOVED, TITLES, File, ImageContents
from hatch_docker.cli.inspect.named_image import NamedImage
from hatch_docker.core.text import sanitize

MAX_FILES = 12_000  # files with nodes of their own; the smaller ones of a directory are one node


def page(named: NamedImage, receipt: Receipt | None = None) -> bytes:
    """Return the page; with a receipt of the image also the time of each build step, and the layers it built."""
    contents = named.contents
    package = files("hatch_docker.cli.inspect.html")
    style, script = (package.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    unpacked, yours = short_size(contents.unpacked_size), short_size(contents.yours)
    fields = {
        "title": text(f"{named.name}: {unpacked}, {yours} of it yours"), "name": text(named.name),
        "unpacked": unpacked, "yours": yours, "facts": _facts(contents), "kinds": kinds_bar(contents),
        "layers": layers_table(contents, receipt) + left_out_note(named.left_out),
        "timeline": timeline_table(receipt), "packages": packages_table(contents), "files": files_table(contents),
        "settings": settings_list(contents), "data": _data(named.name, contents),
        "style": style, "script": script, "style-hash": _csp_hash(style), "script-hash": _csp_hash(script),
    }  # fmt: skip
    return _fill(package.joinpath("page.html").read_text("utf-8"), fields).encode()


def _fill(template: str, fields: dict[str, str]) -> str:
    """Return the template with its fields, in one pass: braces in a value stay as they are."""
    pieces: list[str] = []
    for piece in template.split("{"):
        name, brace, rest = piece.partition("}")
        pieces.append(f"{fields[name]}{rest}" if brace and name in fields else ("{" if pieces else "") + piece)
    return "".join(pieces)


def _csp_hash(content: str) -> str:
    """Return the source of an inline script or style in a Content-Security-Policy (CSP 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _facts(contents: ImageContents) -> str:
    image = contents.image
    compressed = f"{short_size(contents.size)} compressed" if contents.compressed else ""
    facts = (compressed, str(image.platform), contents.created[:10], contents.platform_text)
    spans = (f"<span>{text(fact)}</span>" for fact in facts if fact)
    return f"{' · '.join(spans)}<br><code>{escape(image.digest)}</code>"


def _data(name: str, contents: ImageContents) -> str:
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
            "k": layer.kind, "f": layer.files, "i": number, "c": sorted_nodes(nodes),
        })  # fmt: skip
    count = sum(layer.files for layer in contents.layers)
    return {"n": sanitize(name), "s": contents.unpacked_size, "f": count, "c": sorted_nodes(layers)}


def _group(contents: ImageContents, package: int, group: Sequence[File], least: int) -> Node:
    """Return the node of a package's files in a layer; -1 is for files of no package, -2 for removed ones."""
    if package >= 0:
        title = contents.packages[package].title
    else:
        title = TITLES[REMOVED] if package == -2 else "files of no package"
    directory, nodes = package_nodes([SizedPath(file.path, file.size) for file in group], least)
    return {
        "n": sanitize(title), "s": sum(file.size for file in group), "k": group[0].kind, "f": len(group), "i": package,
        "d": directory, "c": nodes,
    }  # fmt: skip
