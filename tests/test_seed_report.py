"""The README's table of benchmarks/seed.py and its chart say what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

if not Path(__file__).parent.parent.joinpath("benchmarks").is_dir():
    pytest.skip("an sdist has no benchmarks", allow_module_level=True)

from benchmarks.seed_report import CASES, CHART, README, RESULTS, TITLES, Figures, chart, read_figures, size, with_table

FIGURES = {
    name: Figures(200_000_000 + number, 80_000_000, 30_690 * (1 + number), dict.fromkeys(CASES, 1.5 + number))
    for number, name in enumerate(TITLES)
}


def test_the_readme_and_the_chart_are_what_was_measured() -> None:
    figures = read_figures()
    assert list(figures) == list(TITLES), "a row was not measured"
    assert with_table(README.read_text("utf-8"), figures) == README.read_text("utf-8")
    assert chart(figures) == CHART.read_text("utf-8")


def test_figures_survive_their_file() -> None:
    assert Figures(**json.loads(json.dumps(FIGURES["naive"].to_json()))) == FIGURES["naive"]
    assert all(Figures(**row) for row in json.loads(RESULTS.read_text("utf-8")).values())


def test_the_chart_is_well_formed_and_inside_its_frame() -> None:
    root = ET.fromstring(chart(FIGURES))
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        left, top, long, tall = (float(shape.attrib[name]) for name in ("x", "y", "width", "height"))
        assert left + long <= width
        assert top + tall <= height


@pytest.mark.parametrize(
    ("count", "text"),
    [(223_456_789, "223 MB"), (82_672_633, "82.7 MB"), (1_000_000, "1.00 MB"), (30_689, "30.7 kB"), (17, "17 B")],
)
def test_sizes_have_three_figures(count: int, text: str) -> None:
    assert size(count) == text
