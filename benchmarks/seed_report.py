"""The figures of benchmarks/seed.py as the table in README.md and the chart docs/seed.svg.

Pure text out of `seed.json`, so that table and chart always say what was measured; a test holds them together.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("seed.json")
README = ROOT / "README.md"
CHART = ROOT / "docs" / "seed.svg"

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
UNIT = "embedded"         # the row that the others are told as multiples of
ON_OTHER = ("embedded-debian",)  # on another base, so never the best of a column
CASES = {
    "cold": "cold", "unchanged": "unchanged", "python": "`.py` edited", "c": "C edited", "dependency": "new dependency",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """One row: bytes, and seconds by case (medians). `pushed` is what a registry lacks after a .py was edited.

    `code` are the bytes of the project's own files, None where a run before those were counted was the last; `run`
    says when, how often and where it was measured.
    """

    unpacked: int
    compressed: int
    pushed: int
    times: Mapping[str, float]
    code: int | None = None
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {**asdict(self), "times": {case: round(seconds, 3) for case, seconds in self.times.items()}}


def read_figures(path: Path = RESULTS) -> dict[str, Figures]:
    """The rows that were measured, in the order of TITLES."""
    known = json.loads(path.read_text())
    return {name: Figures(**known[name]) for name in TITLES if name in known}


def size(count: int) -> str:
    """Bytes, with three figures."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:#.3g} {unit}".replace(". ", " ")
    return f"{count} B"


def seconds(value: float) -> str:
    """Two figures, three from ten seconds on."""
    return f"{value:.1f} s" if value >= 9.95 else f"{value:.2f} s"


Column = tuple[str, Callable[[Figures], float], Callable[[float], str]]


def columns(figures: Mapping[str, Figures]) -> list[Column]:
    """What every row has: a title, the figure, and how it is written."""
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
    """The Markdown table, and what is to be known of it; the best of each column on the same base is bold."""
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
    """How many times a unit, with two figures, three from a hundred on."""
    ratio = value / unit if unit else 0.0
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.995 else f"{ratio:.2f}"


STYLE = """\
    text { font: 13px system-ui, sans-serif; fill: #1f2328; } .h { font-weight: 600; } .s { fill: #57606a; }
    .n { text-anchor: end; } .o { fill: #57606a; fill-opacity: .45; } .u { fill: #1f883d; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; } .s { fill: #9198a1; } .o { fill: #9198a1; } .u { fill: #3fb950; }
    }"""
LEFT, WIDTH, LINE, GAP, LABELS = 250, 140, 22, 38, 56


def chart(figures: Mapping[str, Figures]) -> str:
    """The chart: for each column that people ask about, a bar a row; ours in another colour."""
    shown: list[Column] = [
        ("compressed size", lambda row: row.compressed, lambda value: size(int(value))),
        ("cold build", lambda row: row.times["cold"], seconds),
        (".py edited", lambda row: row.times["python"], seconds),
        ("C edited", lambda row: row.times["c"], seconds),
    ]
    step = WIDTH + LABELS + 12
    width, height = LEFT + step * len(shown), GAP + LINE * len(figures) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "  <title>Images of one compiled project: size and build times</title>", f"  <style>\n{STYLE}\n  </style>",
    ]
    for number, name in enumerate(figures):
        title = re.sub(r"[*`]", "", TITLES[name]).replace("ours, without Docker, on", "the same on")
        own = ' class="h"' if name in OURS else ""
        lines.append(f'  <text x="8" y="{GAP + LINE * number + 11}"{own}>{escaped(title)}</text>')
    for place, (title, value, text) in enumerate(shown):
        left = LEFT + step * place
        longest = max(value(row) for row in figures.values())
        lines.append(f'  <text x="{left}" y="20" class="s">{title}</text>')
        for number, (name, row) in enumerate(figures.items()):
            top, long = GAP + LINE * number, max(2.0, WIDTH * value(row) / longest)
            own = "u" if name in OURS else "o"
            lines.append(f'  <rect x="{left}" y="{top}" width="{long:.1f}" height="14" rx="2" class="{own}"/>')
            lines.append(f'  <text x="{left + long + 5:.1f}" y="{top + 11.5}" class="s">{text(value(row))}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def escaped(text: str) -> str:
    """Text between tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def with_table(readme: str, figures: Mapping[str, Figures]) -> str:
    """README's text with the table between its markers."""
    start, end = "<!-- seed -->\n", "<!-- /seed -->"
    before, found, rest = readme.partition(start)
    assert found, "README has no place for the table"
    return f"{before}{start}{table(figures)}\n{end}{rest.partition(end)[2]}"


def write_report() -> None:
    """Write both."""
    figures = read_figures()
    README.write_text(with_table(README.read_text("utf-8"), figures), "utf-8")
    CHART.write_text(chart(figures), "utf-8")
