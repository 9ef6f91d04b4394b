"""The report of benchmarks/seed.py: the table and the chart of docs/comparison.md, and the shorter chart of the README.

They are generated from `seed.json`; a test checks that they agree with it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("seed.json")
PAGE = ROOT / "docs" / "comparison.md"

TITLES = {
    "naive": "compiler left in",
    "uninstall": "compiler removed in a later layer",
    "one-run": "everything in one `RUN`",
    "two-stage": "two stages, by hand",
    "uv": "two stages, uv's guide",
    "buildkit": '**ours, `engine = "buildkit"`**',
    "embedded": "**ours, without Docker**",
    "embedded-debian": "ours, without Docker, on `debian:trixie`",
}
OURS = ("buildkit", "embedded", "embedded-debian")
UNIT = "embedded"         # the other rows are multiples of this row
ON_OTHER = ("embedded-debian",)  # rows on another base, which are never marked as the best of a column
CASES = {
    "cold": "cold", "unchanged": "unchanged", "python": "`.py` edited", "c": "C edited", "dependency": "new dependency",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a row: sizes in bytes, and medians in seconds by case.

    `pushed`: the bytes that a registry does not have after an edit of a .py file. `code`: the bytes of the project's
    own files (None in old results). `run`: date, rounds and machine of the measurement.
    """

    unpacked: int
    compressed: int
    pushed: int
    times: Mapping[str, float]
    code: int | None = None
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they are saved in seed.json."""
        return {**asdict(self), "times": {case: round(seconds, 3) for case, seconds in self.times.items()}}


def read_figures(path: Path = RESULTS) -> dict[str, Figures]:
    """Return the measured rows, in the order of TITLES."""
    known = json.loads(path.read_text())
    return {name: Figures(**known[name]) for name in TITLES if name in known}


def size(count: int) -> str:
    """Return bytes as a text with three significant digits."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:#.3g} {unit}".replace(". ", " ")
    return f"{count} B"


def seconds(value: float) -> str:
    """Return seconds as a text: two decimals, one from ten seconds on."""
    return f"{value:.1f} s" if value >= 9.95 else f"{value:.2f} s"


Column = tuple[str, Callable[[Figures], float], Callable[[float], str]]


def columns(figures: Mapping[str, Figures]) -> list[Column]:
    """Return the columns of the table: title, function that returns the figure, function that formats it."""
    found: list[Column] = [
        ("size", lambda row: row.unpacked, lambda value: size(int(value))),
        ("compressed", lambda row: row.compressed, lambda value: size(int(value))),
        ("pushed again", lambda row: row.pushed, lambda value: size(int(value))),
    ]
    for case, title in CASES.items():
        if all(case in row.times for row in figures.values()):
            found.append((title, lambda row, case=case: row.times[case], seconds))  # type: ignore[misc]
    return found


def table(figures: Mapping[str, Figures]) -> str:
    """Return the Markdown table and a note about it; the best figure of each column on the same base is bold."""
    shown, same = columns(figures), [row for name, row in figures.items() if name not in ON_OTHER]
    counted = all(row.code is not None for row in figures.values())
    heads = [title for title, _, _ in shown]
    heads[2:2] = ["of it yours"] if counted else []
    lines = [f"| how | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    for name, row in figures.items():
        cells = []
        for _, value, text in shown:
            ratio = multiple(value(row), value(figures[UNIT]))
            best = row in same and text(value(row)) == text(min(value(other) for other in same))
            cells.append(f"{f'**{ratio}**' if best else ratio} ({text(value(row))})")
        cells[2:2] = [f"{100 * (row.code or 0) / row.unpacked:.2g} %"] if counted else []
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    runs = list(dict.fromkeys(row.run for row in figures.values()))
    which = f"Measured {runs[0]}." if len(runs) == 1 else f"Rows of {len(runs)} runs, so beware: {'; '.join(runs)}."
    what = "Each figure is a multiple of ours without Docker, then as measured; the best on the same base is bold."
    return "\n".join([*lines, "", *textwrap.wrap(f"{which} {what}", 118)])


def multiple(value: float, unit: float) -> str:
    """Return the ratio of a value to a unit as a text with about two significant digits."""
    ratio = value / unit if unit else 0.0
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.995 else f"{ratio:.2f}"


STYLE = """\
    text { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2328; }
    .h { font-weight: 600; } .s { fill: #4c5560; } .back { fill: #fff; stroke: #d0d7de; } .o { fill: #afb8c1; }
    .u { fill: #1f883d; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; } .s { fill: #c3cbd4; } .back { fill: #161b22; stroke: #3d444d; } .o { fill: #59636e; }
      .u { fill: #3fb950; }
    }"""
# Pixels: width of the chart, width of the labels, length of the longest bar, height of a row and of a title.
WIDTH, LEFT, LONGEST, LINE, HEAD = 520, 244, 190, 21, 38
SIZE: Column = ("compressed size", lambda row: row.compressed, lambda value: size(int(value)))
PUSHED: Column = ("sent to the registry after an edit", lambda row: row.pushed, lambda value: size(int(value)))
EDITED: Column = ("build after an edit", lambda row: row.times["python"], seconds)
COLD: Column = ("first build", lambda row: row.times["cold"], seconds)
C_EDITED: Column = ("build after an edit of C", lambda row: row.times["c"], seconds)
# The charts: columns and rows.
CHARTS: Mapping[str, tuple[tuple[Column, ...], tuple[str, ...]]] = {
    "seed.svg": ((SIZE, PUSHED, COLD, EDITED, C_EDITED), tuple(TITLES)),
    "why.svg": ((SIZE, PUSHED, EDITED), ("two-stage", "uv", "embedded", "embedded-debian")),
}
# Labels of rows in the charts, if they differ from those of the table.
SHORT = {
    "two-stage": "Dockerfile, two stages", "uv": "Dockerfile, uv's guide", "embedded": "hatch-docker, same base",
    "embedded-debian": "hatch-docker, debian:trixie", "buildkit": "hatch-docker, buildkit",
}


def chart(figures: Mapping[str, Figures], shown: Sequence[Column], names: Sequence[str]) -> str:
    """Return a chart: the columns below each other, with a bar for each row; hatch-docker's bars are green."""
    step = HEAD + LINE * len(names) + 6
    height = step * len(shown) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "  <title>Images of one compiled project: size, pushes and build times</title>",
        f"  <style>\n{STYLE}\n  </style>",
        f'  <rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10" class="back"/>',
    ]
    for place, (title, value, text) in enumerate(shown):
        above = step * place
        longest = max(value(figures[name]) for name in names)
        lines.append(f'  <text x="14" y="{above + 27}" class="h">{title}</text>')
        for number, name in enumerate(names):
            top, row = above + HEAD + LINE * number, figures[name]
            long = max(2.0, LONGEST * value(row) / longest)
            label, own = SHORT.get(name, re.sub(r"[*`]", "", TITLES[name])), "u" if name in OURS else "o"
            lines.append(f'  <text x="14" y="{top + 11}" class="s">{escaped(label)}</text>')
            lines.append(f'  <rect x="{LEFT}" y="{top}" width="{long:.1f}" height="14" rx="2" class="{own}"/>')
            lines.append(f'  <text x="{LEFT + long + 6:.1f}" y="{top + 11.5}">{text(value(row))}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def escaped(text: str) -> str:
    """Return a text with `&` and `<` escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def with_table(page: str, figures: Mapping[str, Figures]) -> str:
    """Return the page's text with the table between its markers."""
    start, end = "<!-- seed -->\n", "<!-- /seed -->"
    before, found, rest = page.partition(start)
    assert found, "the page has no place for the table"
    return f"{before}{start}{table(figures)}\n{end}{rest.partition(end)[2]}"


def write_report() -> None:
    """Write the table and the charts."""
    figures = read_figures()
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), figures), "utf-8")
    for name, (shown, names) in CHARTS.items():
        PAGE.with_name(name).write_text(chart(figures, shown, names), "utf-8")
