"""The page of `inspect --html`: one file that needs no other, the same bytes for the same image and receipt."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hatch_docker.cli.inspect.html.directories import Found, in_one_place, sorted_nodes
from hatch_docker.cli.inspect.html.tables import (
    files_table,
    kinds_bar,
    layers_table,
    left_out_note,
    packages_table,
    settings_list,
    short,
    timeline_table,
)
from hatch_docker.cli.inspect.model import HEADERS, REMOVED, TITLES, Contents, File
from hatch_docker.cli.inspect.text import compressed
from hatch_docker.core.text import sanitize

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.cli.inspect.subject import Subject

FILES = 12_000  # that the map has one by one; the smaller ones of a directory are one tile


def page(subject: Subject, receipt: Receipt | None = None) -> bytes:
    """The page; a receipt of the image adds what its build took, and which layers it had to make."""
    contents = subject.contents
    parts = files("hatch_docker.cli.inspect.html")
    style, script = (parts.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    values = {
        "title": escape(sanitize(f"{subject.name}: {short(contents.unpacked)}, {short(contents.yours)} of it yours")),
        "name": escape(sanitize(subject.name)), "unpacked": short(contents.unpacked), "yours": short(contents.yours),
        "facts": _facts(subject), "kinds": kinds_bar(contents),
        "layers": layers_table(contents, receipt) + left_out_note(subject.left_out),
        "timeline": timeline_table(receipt), "packages": packages_table(contents), "files": files_table(contents),
        "settings": settings_list(contents), "data": _data(subject.name, contents),
        "style": style, "script": script, "style-hash": _source(style), "script-hash": _source(script),
    }  # fmt: skip
    return _filled(parts.joinpath("page.html").read_text("utf-8"), values).encode()


def _filled(template: str, values: dict[str, str]) -> str:
    """The template with its fields, in one pass: what a value holds is never looked into."""
    pieces: list[str] = []
    for piece in template.split("{"):
        name, brace, rest = piece.partition("}")
        pieces.append(f"{values[name]}{rest}" if brace and name in values else ("{" if pieces else "") + piece)
    return "".join(pieces)


def _source(text: str) -> str:
    """What a Content-Security-Policy calls an inline script or style (CSP 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(subject: Subject) -> str:
    contents = subject.contents
    image = contents.image
    stored = f"{short(contents.stored)} compressed" if compressed(contents) else ""
    system = ", ".join(filter(None, [contents.system, contents.python and f"Python {contents.python}"]))
    created = str(image.config_json.get("created") or "")[:10]
    facts = filter(None, (stored, str(image.platform), created, system))
    words = [f"<span>{escape(sanitize(fact))}</span>" for fact in facts]
    return f"{' · '.join(words)}<br><code>{image.digest}</code>"


def _data(name: str, contents: Contents) -> str:
    """The tree that the map draws, as JSON that no text in it can end: not even `</script>` has a `<` left."""
    text = json.dumps(tree(name, contents), separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def tree(name: str, contents: Contents) -> dict[str, Any]:
    """Layers, in each its packages, in each its files, the largest first; sizes add up to the layers' tars."""
    least = _least(contents)
    layers = []
    for number, layer in enumerate(contents.layers):
        groups: dict[int, list[File]] = {}
        for one in (file for file in contents.files if file.layer == number and file.size):
            groups.setdefault(one.package if one.shown else -2, []).append(one)
        nodes = [_group(contents, package, found, least) for package, found in groups.items()]
        rest = layer.unpacked - layer.size
        if rest > 0:
            nodes.append({"n": TITLES[HEADERS], "s": rest, "k": HEADERS})
        title = f"{number + 1}: {TITLES[layer.kind]}"
        layers.append({
            "n": sanitize(f"{title}, {layer.title[:100]}" if layer.title else title),
            "s": layer.unpacked, "k": layer.kind, "f": layer.files, "i": number, "c": sorted_nodes(nodes),
        })  # fmt: skip
    return {
        "n": sanitize(name), "s": contents.unpacked,
        "f": sum(layer["f"] for layer in layers), "c": sorted_nodes(layers),
    }  # fmt: skip


def _least(contents: Contents) -> int:
    """The size from which files have tiles of their own."""
    sizes = sorted((file.size for file in contents.files), reverse=True)
    return sizes[FILES] + 1 if len(sizes) > FILES else 1


def _group(contents: Contents, package: int, found: Iterable[File], least: int) -> dict[str, Any]:
    """The files that a package has in a layer: -1 is no package's, -2 what a later layer removed."""
    files = [Found(one.path, one.size) for one in found]
    kind = REMOVED if package == -2 else next(one.kind for one in found)
    if package >= 0:
        title = contents.packages[package].title
    else:
        title = TITLES[REMOVED] if package == -2 else "files of no package"
    place, nodes = in_one_place(files, least)
    return {
        "n": sanitize(title), "s": sum(one.size for one in files), "k": kind, "f": len(files), "i": package,
        "d": place, "c": nodes,
    }  # fmt: skip
