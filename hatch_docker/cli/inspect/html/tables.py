"""The parts of the page that need no script: what the map shows, in words. All text of strangers is escaped here."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from hatch_docker.build.receipt import left_out_lines
from hatch_docker.cli.inspect.model import TITLES, Contents
from hatch_docker.cli.inspect.text import TYPES, by_size, compressed
from hatch_docker.core.text import abbreviate, counted, sanitize, share

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.engines.model import Excluded

FILES = 50          # rows of the largest files
PATHS = 20          # paths of a list, before it is folded
_STEPS = {
    "build": "make the layers", "libraries": "look for shared libraries", "check": "run the check",
    "documents": "write SBOM and provenance",
    "archive": "write the archive", "load": "load it into the daemon", "push": "push it",
}  # fmt: skip


def short(size: int) -> str:
    """A number of bytes in three digits."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= 0.9995 * unit:
            value = size / unit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {name}"
    return counted(size, "byte")


def text(words: object) -> str:
    """Text as HTML shows it, and nothing else: orders of terminals and of writing direction are spelt out."""
    return escape(sanitize(str(words)))


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _bar(kind: str, part: int, whole: int, start: int = 0) -> str:
    """A bar of a whole; in SVG, for which the page's policy needs no exception."""
    x, width = _share(start, whole), max(_share(part, whole), 0.6)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{min(x, 99.4):.2f}" width="{width:.2f}" height="8"/></svg>'
    )


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _size(size: int | None, css: str = "n") -> str:
    return f'<td class="{css}" data-v="{size or 0}">{"" if size is None else short(size)}</td>'


def _table(name: str, heads: Sequence[tuple[str, str, bool]], rows: Iterable[str], *, first: int = -1) -> str:
    """A table that sorts where a column may; `first` is the column that it is sorted by, largest first."""
    cells = []
    for number, (title, css, sorts) in enumerate(heads):
        order = f' aria-sort="{"descending" if number == first else "none"}"' if sorts else ""
        inner = f'<button type="button">{title}</button>' if sorts else title
        cells.append(f'<th scope="col" class="{css}"{order}>{inner}</th>')
    css = ' class="sorts"' if any(sorts for _, _, sorts in heads) else ""
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table id="{name}"{css}><thead><tr>{"".join(cells)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def kinds_bar(contents: Contents) -> str:
    """The whole image as one bar, and what its colours stand for. The smallest part is wide enough to be seen."""
    whole = contents.unpacked
    widths = [max(_share(part.size, whole), 0.5) for part in contents.parts]
    scale = 100 / sum(widths) if widths else 0
    rects, at = [], 0.0
    for part, width in zip(contents.parts, widths, strict=True):
        rects.append(f'<rect class="k-{part.kind}" x="{at:.2f}" width="{width * scale:.2f}" height="10"/>')
        at += width * scale
    items = [
        f'<li class="k-{part.kind}">{TITLES[part.kind]} <b>{short(part.size)}</b> '
        f"<span>{text(share(part.size, whole))}</span></li>"
        for part in contents.parts
    ]
    return (
        '<svg class="whole" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(rects)}</svg>\n<ul class="legend">{"".join(items)}</ul>'
    )


def layers_table(contents: Contents, receipt: Receipt | None) -> str:
    """The layers from the base on; with a receipt, whether the build had to make each."""
    states = _states(contents, receipt)
    heads = [("#", "n", False), ("kind", "", False), ("what", "wide", False), ("unpacked", "n", False),
             ("share", "wide", False)]  # fmt: skip
    heads += [("compressed", "n wide", False)] if compressed(contents) else []
    heads += [("this build", "", False)] if states else []
    rows = []
    for number, layer in enumerate(contents.layers):
        gone = f'<br><span class="dim">{short(layer.removed)} of it removed again</span>' if layer.removed else ""
        shows = f'<button type="button" data-at="{number} -9" title="show in the map">{TITLES[layer.kind]}</button>'
        cells = [
            f'<td class="n">{number + 1}</td>', f'<th scope="row" class="dot k-{layer.kind}">{shows}</th>',
            f'<td class="what wide">{text(layer.title)}{gone}</td>', _size(layer.unpacked),
            f'<td class="wide">{_bar(f"k-{layer.kind}", layer.unpacked, contents.unpacked)}</td>',
        ]  # fmt: skip
        cells += [_size(layer.stored, "n wide")] if compressed(contents) else []
        cells += [f"<td>{states[layer.digest]}</td>"] if states else []
        rows.append(_row(cells))
    return _table("layers", heads, rows)


def left_out_note(left_out: Sequence[Excluded]) -> str:
    """What is not in the image of what its wheels have, where something was left out."""
    lines = "<br>".join(text(" ".join(line.split())) for line in left_out_lines(left_out))
    return f'<p class="dim">{lines}</p>' if lines else ""


def _states(contents: Contents, receipt: Receipt | None) -> dict[str, str]:
    """Whether each layer was made, by its digest; nothing where no receipt tells of all."""
    known = {
        layer.digest: "reused" if layer.cached else "made"
        for platform in (receipt.platforms if receipt else ()) for layer in platform.layers
    }
    return known if known.keys() >= {layer.digest for layer in contents.layers} else {}


def timeline_table(receipt: Receipt | None) -> str:
    """What each step of the build took, one after the other; nothing without a receipt."""
    timings = {step: seconds for step, seconds in (receipt.timings if receipt else {}).items() if seconds >= 0}
    whole = round(1000 * sum(timings.values()))
    if receipt is None or not whole:
        return ""
    rows, at = [], 0
    for step, seconds in timings.items():
        took = round(1000 * seconds)
        rows.append(_row([
            f'<th scope="row">{text(_STEPS.get(step, step))}</th>', f'<td class="n">{seconds:.2f} s</td>',
            f"<td>{_bar('step', took, whole, at)}</td>",
        ]))  # fmt: skip
        at += took
    made = [layer for platform in receipt.platforms for layer in platform.layers if not layer.cached]
    count = sum(len(platform.layers) for platform in receipt.platforms)
    table = _table("timeline", [("step", "", False), ("time", "n", False), ("", "", False)], rows)
    return (
        '<section aria-labelledby="timeline-title">\n<h2 id="timeline-title">The build</h2>\n'
        f"<p>{whole / 1000:.2f} s; {len(made)} of {counted(count, 'layer')} had to be made.</p>\n{table}\n</section>"
    )


def packages_table(contents: Contents) -> str:
    """Every package, the largest first, to be sorted and searched where there is a script."""
    if not contents.packages:
        return "<p>None that can be read.</p>"
    numbers = {id(one): number for number, one in enumerate(contents.packages)}
    users: dict[int, set[str]] = {}
    for one in contents.packages:
        for need in one.needs:
            users.setdefault(need.package, set()).add(one.name)
    rows = []
    for one in by_size(contents.packages):
        number = numbers[id(one)]
        name = text(one.name)
        at = f'<button type="button" data-at="{one.layer} {number}" title="show in the map">{name}</button>'
        rows.append(_row([
            f'<th scope="row" class="dot k-{one.kind}">{at if one.size else name}</th>',
            f'<td class="what">{text(one.version)}</td>', f'<td class="wide">{TYPES[one.type]}</td>', _size(one.size),
            f'<td class="n wide" data-v="{one.files}">{one.files}</td>',
            f'<td class="n wide" data-v="{one.layer}">{one.layer + 1 if one.layer >= 0 else ""}</td>',
            f'<td class="what wide">{text(abbreviate(sorted(users.get(number, ()))))}</td>',
        ]))  # fmt: skip
    heads = [
        ("name", "", True), ("version", "", True), ("of", "wide", True), ("size", "n", True),
        ("files", "n wide", True), ("layer", "n wide", True), ("asked for by", "wide", False),
    ]  # fmt: skip
    count = len(rows)
    tools = (
        '<p class="tools" data-script hidden><label for="filter">Look for</label>'
        f'<input id="filter" type="search" autocomplete="off">'
        f'<span id="found" role="status">{count} of {count}</span></p>'
    )
    return f"{tools}\n{_table('packages', heads, rows, first=3)}"


def files_table(contents: Contents) -> str:
    """The largest files, those that were removed again too."""
    found = sorted((one for one in contents.files if one.size), key=lambda one: (-one.size, one.path, one.layer))
    rows = []
    for one in found[:FILES]:
        owner = contents.packages[one.package].name if one.package >= 0 else "" if one.shown else TITLES[one.kind]
        rows.append(_row([
            f'<td class="what dot k-{one.kind}">/{text(one.path)}</td>', _size(one.size),
            f'<td class="wide">{text(owner)}</td>', f'<td class="n wide">{one.layer + 1}</td>',
        ]))  # fmt: skip
    heads = [("file", "", False), ("size", "n", False), ("package", "wide", False), ("layer", "n wide", False)]
    return _table("largest", heads, rows) if rows else "<p>None.</p>"


def settings_list(contents: Contents) -> str:
    """What the image runs, as whom, and who may write what."""
    settings, facts = contents.settings, contents.permissions
    command = [*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ())]
    rows = [
        ("runs", [shlex.join(command)] if command else ["nothing that it names itself"]),
        ("as", [f"{settings.get('User') or 'root'} in {settings.get('WorkingDir') or '/'}"]),
        ("ports", sorted(settings.get("ExposedPorts") or ())),
        ("volumes", sorted(settings.get("Volumes") or ())),
        ("environment", settings.get("Env") or ()),
        ("labels", [f"{name}={value}" for name, value in sorted(contents.labels.items())]),
        ("owners", [
            f"{name}: {short(size)} in {counted(count, 'file')}"
            for name, (count, size) in sorted(facts.owners.items(), key=lambda row: (-row[1][1], row[0])) if count
        ]),
        ("set-user-ID programs", facts.privileged or ["none"]),
        ("writable by its user", ["everything: it runs as root"] if facts.user == 0 else facts.writable or ["nothing"]),
        ("writable by everybody", facts.open or ["nothing"]),
    ]  # fmt: skip
    return "<dl>" + "\n".join(f"<dt>{title}</dt><dd>{_lines(lines)}</dd>" for title, lines in rows if lines) + "</dl>"


def _lines(lines: Sequence[str]) -> str:
    shown = [f"<code>{text(line)}</code>" for line in lines]
    if len(shown) <= PATHS:
        return "".join(shown)
    rest = "".join(shown[PATHS:])
    return f"{''.join(shown[:PATHS])}<details><summary>{len(shown) - PATHS} more</summary>{rest}</details>"
