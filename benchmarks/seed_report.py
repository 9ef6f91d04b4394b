"""The figures of benchmarks/seed.py as the table in README.md and the chart docs/seed.svg.

Pure text out of `seed.json`, so that table and chart always say what was measured; a test holds them together.
"""

from __future__ import annotations

import json
import re
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
CASES = {"cold": "cold", "unchanged": "unchanged", "python": "`.py` edited", "c": "C edited"}


@dataclass(frozen=True, slots=True)
class Figures:
    """One row: bytes, and seconds by case (medians). `pushed` is what a registry lacks after a .py was edited."""

    unpacked: int
    compressed: int
    pushed: int
    times: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {**asdict(self), "times": {case: round(seconds, 3) for case, seconds in self.times.items()}}


def read_figures() -> dict[str, Figures]:
    """The rows that were measured, in the order of TITLES."""
    known = json.loads(RESULTS.read_text())
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


def table(figures: Mapping[str, Figures]) -> str:
    """The Markdown table; the best of each column among the rows on the same base is bold."""
    heads = ["size", "compressed", "pushed again", *CASES.values()]
    lines = [f"| how | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    for name, row in figures.items():
        cells = [size(row.unpacked), size(row.compressed), size(row.pushed)]
        cells += [seconds(row.times[case]) for case in CASES]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


STYLE = """\
    text { font: 13px system-ui, sans-serif; fill: #1f2328; } .h { font-weight: 600; } .s { fill: #57606a; }
    .n { text-anchor: end; } .o { fill: #57606a; fill-opacity: .45; } .u { fill: #1f883d; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; } .s { fill: #9198a1; } .o { fill: #9198a1; } .u { fill: #3fb950; }
    }"""
LEFT, WIDTH, LINE, GAP, LABELS = 250, 140, 22, 38, 56


def chart(figures: Mapping[str, Figures]) -> str:
    """The chart: for each column that people ask about, a bar a row; ours in another colour."""
    columns: list[tuple[str, Callable[[Figures], float], Callable[[float], str]]] = [
        ("compressed size", lambda row: row.compressed, lambda value: size(int(value))),
        ("cold build", lambda row: row.times["cold"], seconds),
        (".py edited", lambda row: row.times["python"], seconds),
        ("C edited", lambda row: row.times["c"], seconds),
    ]
    step = WIDTH + LABELS + 12
    width, height = LEFT + step * len(columns), GAP + LINE * len(figures) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "  <title>Images of one compiled project: size and build times</title>", f"  <style>\n{STYLE}\n  </style>",
    ]
    for number, name in enumerate(figures):
        title = re.sub(r"[*`]", "", TITLES[name]).replace("ours, without Docker, on", "the same on")
        own = ' class="h"' if name in OURS else ""
        lines.append(f'  <text x="8" y="{GAP + LINE * number + 11}"{own}>{escaped(title)}</text>')
    for place, (title, value, shown) in enumerate(columns):
        left = LEFT + step * place
        longest = max(value(row) for row in figures.values())
        lines.append(f'  <text x="{left}" y="20" class="s">{title}</text>')
        for number, (name, row) in enumerate(figures.items()):
            top, long = GAP + LINE * number, max(2.0, WIDTH * value(row) / longest)
            own = "u" if name in OURS else "o"
            lines.append(f'  <rect x="{left}" y="{top}" width="{long:.1f}" height="14" rx="2" class="{own}"/>')
            lines.append(f'  <text x="{left + long + 5:.1f}" y="{top + 11.5}" class="s">{shown(value(row))}</text>')
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
