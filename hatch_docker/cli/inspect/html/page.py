"""The page of `inspect --html`: one self-contained file, with the same bytes for the same image and receipt.

Without JavaScript, its tables show the same contents as the map. This module escapes all text of the image.

The map shows a tree of layers, packages and directories. A node is a JSON object: n is the name, s the size in bytes, k
the kind, f the number of files, c the child nodes, d the directory of the child nodes, i the index of the layer or
package. Directories with only one entry are joined: "a/b/".
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from hatch_docker.build.receipt import LayerReceipt, Receipt, Step, left_out_lines
from hatch_docker.cli.inspect.model import (
    HEADERS,
    REMOVED,
    TITLES,
    File,
    ImageContents,
    largest_files,
    largest_packages,
)
from hatch_docker.cli.inspect.reader import NamedImage
from hatch_docker.cli.inspect.text import TYPES
from hatch_docker.core.text import abbreviate, percentage, plural, sanitize
from hatch_docker.engines.layer_cache import layer_title

LARGEST = 50    # rows in the table of the largest files
MAX_PATHS = 20  # paths in a list; the others are in a closed <details>
MAX_DEPTH = 3     # levels of nested steps
TITLE_STARTS = {
    "archive": "writing ", "load": "loading the image ", "push": "pushing to ", "check": "checking the image",
}  # fmt: skip
STEPS = {
    "build": "make the layers", "libraries": "look for shared libraries", "check": "run the check",
    "documents": "write SBOM and provenance",
    "archive": "write the archive", "load": "load it into the daemon", "push": "push it",
    "cache": "write the shared cache",
}  # fmt: skip
MAX_FILES = 12_000  # files that have their own node; the smaller files of a directory are one node
NEARLY_ALL = 0.97   # share of the bytes
MAX_NODES = 200     # nodes of a directory; the smaller ones are joined to one node

Node = dict[str, Any]


def page(named: NamedImage) -> bytes:
    """Return the page. If the image has a receipt, it also shows the times of build steps and the new layers."""
    contents, receipt = named.contents, named.receipt
    package = files("hatch_docker.cli.inspect.html")
    style, script = (package.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    left_out = "<br>".join(_text(" ".join(line.split())) for line in left_out_lines(named.left_out))
    unpacked, yours = short_size(contents.unpacked_size), short_size(contents.yours)
    compressed = f"{short_size(contents.size)} compressed" if contents.compressed else ""
    known = (compressed, str(contents.image.platform), contents.created[:10], contents.platform_text)
    facts = (f"<span>{_text(fact)}</span>" for fact in known if fact)
    fields = {
        "title": _text(f"{named.name}: {unpacked}, {yours} of it yours"), "name": _text(named.name),
        "unpacked": unpacked, "yours": yours, "kinds": _kinds_bar(contents),
        "facts": f"{' · '.join(facts)}<br><code>{escape(contents.image.digest)}</code>",
        "layers": _layers_table(contents, receipt) + (f'<p class="dim">{left_out}</p>' if left_out else ""),
        "timeline": _timeline_table(receipt), "packages": _packages_table(contents), "files": _files_table(contents),
        "settings": _settings_list(contents), "data": tree_json(named.name, contents),
        "style": style, "script": script, "style-hash": _csp_hash(style), "script-hash": _csp_hash(script),
    }  # fmt: skip
    template = package.joinpath("page.html").read_text("utf-8")  # replaced in one pass: values may contain braces
    return re.sub(r"\{([a-z-]+)\}", lambda match: fields[match[1]], template).encode()


def _csp_hash(content: str) -> str:
    """Return the hash-source of an inline script or style for a Content-Security-Policy (CSP 3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def short_size(size: int) -> str:
    """Return a number of bytes with three digits and a unit."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= 0.9995 * unit:
            value = size / unit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {name}"
    return plural(size, "byte")


def _text(words: object) -> str:
    """Return a text escaped for HTML, without control characters and bidirectional controls."""
    return escape(sanitize(str(words)))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _bar(kind: str, part: int, whole: int, start: int = 0) -> str:
    """Return a bar for a part of a whole, as SVG: inline CSS would need an exception in the security policy."""
    x, width = _percent(start, whole), max(_percent(part, whole), 0.6)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{min(x, 99.4):.2f}" width="{width:.2f}" height="8"/></svg>'
    )


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""


def _cell(content: object, css: str = "", value: object = None) -> str:
    """Return a table cell with HTML content. `value`: the sort key for the script."""
    key = "" if value is None else f' data-v="{value}"'
    return f"<td{_class(css)}{key}>{content}</td>"


def _header(content: str, css: str = "") -> str:
    return f'<th scope="row"{_class(css)}>{content}</th>'


def _size(size: int, css: str = "n") -> str:
    return _cell(short_size(size), css, size)


def _map_button(label: str, layer: int, package: int) -> str:
    return f'<button type="button" data-at="{layer} {package}" title="show in the map">{label}</button>'


def _table(name: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, sort: str = "") -> str:
    """Return a table. `columns`: titles and CSS classes; a user can sort by columns of the class "sorts".

    `sort`: the title of the column by which the rows are sorted, largest first.
    """
    heads = []
    for title, css in columns:
        sorts = "sorts" in css.split()
        order = f' aria-sort="{"descending" if title == sort else "none"}"' if sorts else ""
        label = f'<button type="button">{title}</button>' if sorts else title
        heads.append(f'<th scope="col"{_class(css.replace("sorts", "").strip())}{order}>{label}</th>')
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    table = f'<table id="{name}"{_class("sorts" if sort else "")}>'
    return (
        f'<div class="scroll">{table}<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _kinds_bar(contents: ImageContents) -> str:
    """Return a bar with the kinds of files, and its legend. Small parts are drawn with a minimum width."""
    whole = contents.unpacked_size
    widths = [max(_percent(kind.unpacked_size, whole), 0.5) for kind in contents.kinds]
    scale = 100 / sum(widths) if widths else 0
    rects, items, x = [], [], 0.0
    for kind, width in zip(contents.kinds, widths, strict=True):
        rects.append(f'<rect class="k-{kind.kind}" x="{x:.2f}" width="{width * scale:.2f}" height="10"/>')
        x += width * scale
        items.append(
            f'<li class="k-{kind.kind}">{TITLES[kind.kind]} <b>{short_size(kind.unpacked_size)}</b> '
            f"<span>{_text(percentage(kind.unpacked_size, whole))}</span></li>"
        )
    return (
        '<svg class="whole" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(rects)}</svg>\n<ul class="legend">{"".join(items)}</ul>'
    )


def _layers_table(contents: ImageContents, receipt: Receipt | None) -> str:
    """Return the table of layers. With a receipt of all layers, it also shows whether each was made or reused."""
    platforms = receipt.platforms if receipt else ()
    known = {layer.digest: layer for platform in platforms for layer in platform.layers}
    complete = known and known.keys() >= {layer.digest for layer in contents.layers}
    columns = [("#", "n"), ("kind", ""), ("what", "wide"), ("unpacked", "n"), ("share", "wide")]
    columns += [("compressed", "n wide")] if contents.compressed else []
    columns += [("this build", "")] if complete else []
    rows = []
    for number, layer in enumerate(contents.layers):
        size = short_size(layer.removed_size)
        removed = f'<br><span class="dim">{size} of it removed again</span>' if layer.removed_size else ""
        if receipt and layer.digest in known and (steps := _steps_of(known[layer.digest], receipt)):
            removed += f'<br><span class="dim">{_text(steps)}</span>'
        cells = [
            _cell(number + 1, "n"), _header(_map_button(TITLES[layer.kind], number, -9), f"dot k-{layer.kind}"),
            _cell(f"{_text(layer.title)}{removed}", "what wide"), _size(layer.unpacked_size),
            _cell(_bar(f"k-{layer.kind}", layer.unpacked_size, contents.unpacked_size), "wide"),
        ]  # fmt: skip
        cells += [_size(layer.size, "n wide")] if contents.compressed else []
        cells += [_cell("reused" if known[layer.digest].cached else "made")] if complete else []
        rows.append(cells)
    return _table("layers", columns, rows)


def _nested(steps: Sequence[Step], everything: Sequence[Step], depth: int = 1) -> Iterator[tuple[Step, int]]:
    """Yield steps with their depths, the longest first; the parts of a step follow it. `everything`: all steps."""
    for step in sorted(steps, key=lambda step: -step.seconds):
        yield step, depth
        parts = [part for part in everything if part.within == step.title and part != step]
        yield from _nested(parts, everything, depth + 1) if depth < MAX_DEPTH else ()


def _steps_of(layer: LayerReceipt, receipt: Receipt) -> str:
    """Return a text about the steps that created a layer and took a second or more, "" if there are none."""
    titles = {layer_title(layer.contents), *(f"running {content}" for content in layer.contents)}
    if layer.kind == "base":
        titles |= {step.title for step in receipt.steps if step.title.startswith("making the base ")}
    steps = [] if layer.cached else [step for step in receipt.steps if step.title in titles]
    found = _nested(steps, receipt.steps)
    return ", ".join(f"{'made' if depth == 1 else step.title} in {step.seconds:.1f} s" for step, depth in found)


def _timeline_table(receipt: Receipt | None) -> str:
    """Return the table of the build's steps in order, with their longer nested steps; "" without a receipt."""
    timings = {step: seconds for step, seconds in (receipt.timings if receipt else {}).items() if seconds >= 0}
    whole = round(1000 * sum(timings.values()))
    if receipt is None or not whole:
        return ""
    rows, start = [], 0
    titles = {step.title for step in receipt.steps}
    outer = [step for step in receipt.steps if step.within not in titles]
    for name, seconds in timings.items():
        took = round(1000 * seconds)
        bar = _bar("step", took, whole, start)
        rows.append([_header(_text(STEPS.get(name, name))), _cell(f"{seconds:.2f} s", "n"), _cell(bar)])
        start += took
        within = [step for step in outer if _timing_of(step) == name]
        for step, depth in _nested(within, receipt.steps):
            rows.append([_header(_text(step.title), f"part-{depth}"), _cell(f"{step.seconds:.2f} s", "n"), _cell("")])
    layers = [layer for platform in receipt.platforms for layer in platform.layers]
    count = sum(not layer.cached for layer in layers)
    table = _table("timeline", [("step", ""), ("time", "n"), ("", "")], rows)
    return (
        '<section aria-labelledby="timeline-title">\n<h2 id="timeline-title">The build</h2>\n'
        f"<p>{whole / 1000:.2f} s; {count} of {plural(len(layers), 'layer')} had to be made.</p>\n{table}\n</section>"
    )


def _timing_of(step: Step) -> str:
    """Return the key of the receipt's `timings` to which a step belongs."""
    return next((name for name, start in TITLE_STARTS.items() if step.title.startswith(start)), "build")


def _packages_table(contents: ImageContents) -> str:
    """Return the table of all packages, largest first. The script sorts and filters it."""
    if not contents.packages:
        return "<p>None that can be read.</p>"
    numbers = {id(package): number for number, package in enumerate(contents.packages)}
    requirers: dict[int, set[str]] = {}
    for package in contents.packages:
        for dependency in package.dependencies:
            requirers.setdefault(dependency.package, set()).add(package.name)
    rows = []
    for package in largest_packages(contents.packages):
        number, name = numbers[id(package)], _text(package.name)
        rows.append([
            _header(_map_button(name, package.layer, number) if package.size else name, f"dot k-{package.kind}"),
            _cell(_text(package.version), "what"), _cell(TYPES[package.type], "wide"), _size(package.size),
            _cell(package.files, "n wide", package.files),
            _cell(package.layer + 1 if package.layer >= 0 else "", "n wide", package.layer),
            _cell(_text(abbreviate(sorted(requirers.get(number, ())))), "what wide"),
        ])  # fmt: skip
    columns = [
        ("name", "sorts"), ("version", "sorts"), ("of", "wide sorts"), ("size", "n sorts"), ("files", "n wide sorts"),
        ("layer", "n wide sorts"), ("required by", "wide"),
    ]  # fmt: skip
    count = len(rows)
    tools = (
        '<p class="tools" data-script hidden><label for="filter">Search</label>'
        f'<input id="filter" type="search" autocomplete="off">'
        f'<span id="found" role="status">{count} of {count}</span></p>'
    )
    return f"{tools}\n{_table('packages', columns, rows, sort='size')}"


def _files_table(contents: ImageContents) -> str:
    """Return the table of the largest files, including removed ones."""
    rows = [
        [
            _cell(f"/{_text(file.path)}", f"what dot k-{file.kind}"), _size(file.size),
            _cell(_text(contents.package_of(file, "" if file.present else TITLES[file.kind])), "wide"),
            _cell(file.layer + 1, "n wide"),
        ]
        for file in largest_files(contents)[:LARGEST] if file.size
    ]  # fmt: skip
    columns = [("file", ""), ("size", "n"), ("package", "wide"), ("layer", "n wide")]
    return _table("largest", columns, rows) if rows else "<p>None.</p>"


def _settings_list(contents: ImageContents) -> str:
    """Return the list of settings: command, user, environment variables, labels, owners and writable paths."""
    settings, facts = contents.settings, contents.permissions
    owners = [f"{name}: {short_size(owned.size)} in {plural(owned.files, 'file')}" for name, owned in contents.owners]
    rows: list[tuple[str, Sequence[str]]] = [
        ("runs", [contents.command]),
        ("as", [contents.user]),
        ("ports", sorted(settings.get("ExposedPorts") or ())),
        ("volumes", sorted(settings.get("Volumes") or ())),
        ("environment", settings.get("Env") or ()),
        ("labels", [f"{name}={value}" for name, value in contents.labels.items()]),
        ("owners", owners),
        ("set-user-ID programs", facts.setuid or ["none"]),
        ("writable by its user", ["everything: it runs as root"] if facts.user == 0 else facts.writable or ["nothing"]),
        ("writable by everybody", facts.writable_by_everybody or ["nothing"]),
    ]
    items = []
    for title, lines in rows:
        codes = [f"<code>{_text(line)}</code>" for line in lines]
        first, rest = "".join(codes[:MAX_PATHS]), "".join(codes[MAX_PATHS:])
        more = f"<details><summary>{len(codes) - MAX_PATHS} more</summary>{rest}</details>" if rest else ""
        items += [f"<dt>{title}</dt><dd>{first}{more}</dd>"] if codes else []
    return "<dl>" + "\n".join(items) + "</dl>"


def tree_json(name: str, contents: ImageContents) -> str:
    """Return the data of the map as JSON without `<`, so that it cannot end its script element (`</script>`)."""
    data = json.dumps(tree(name, contents), separators=(",", ":"), sort_keys=True)
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def tree(name: str, contents: ImageContents) -> Node:
    """Return the root node of the map: layers, packages in layers, files in packages, each sorted by size.

    The sum of the sizes of a layer's nodes is the size of its tar.
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
    """Return the node of a package's files in a layer. `package`: an index, -1 for no package, -2 for removed files."""
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
    """Return the directory that contains NEARLY_ALL bytes of `files`, and its nodes.

    The files outside that directory are one node, "elsewhere". Files smaller than `least` bytes have no own node.
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
    """Return the deepest common directory of files, as an absolute path: "/", "/usr/lib/"."""
    return sanitize("/" + "".join(f"{name}/" for name in files[0].path.split("/")[: _common_depth(files, 0)]))


def _nodes(files: Sequence[File], least: int, depth: int) -> list[Node]:
    """Return the nodes of the deepest common directory of files, which has at least `depth` parts.

    There are at most MAX_NODES nodes, and one for all smaller nodes and files.
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
        below = _common_depth(inner, depth)  # directories with only one entry are joined: `a/b/`
        name = "".join(f"{name}/" for name in inner[0].path.split("/")[depth:below])
        nodes.append(_node(name, inner, least, below))
    nodes = _sorted(nodes)
    rest = nodes[MAX_NODES:]
    count = sum(node.get("f", 1) for node in rest) + len(small)
    size = sum(node["s"] for node in rest) + _total(small)
    smaller = [{"n": f"{count} smaller files", "s": size, "f": count}] if count else []
    return _sorted([*nodes[:MAX_NODES], *smaller])


def _common_depth(files: Sequence[File], depth: int) -> int:
    """Return the depth of the deepest common directory of files, which is at least `depth`."""
    first = files[0].path.split("/")
    common = len(first) - 1
    for file in files:
        names = file.path.split("/")
        common = min(common, len(names) - 1)
        while names[depth:common] != first[depth:common]:
            common -= 1
    return common


def _sorted(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes with a size above 0, largest first."""
    return sorted((node for node in nodes if node["s"]), key=lambda node: (-node["s"], node["n"], node.get("i", 0)))
