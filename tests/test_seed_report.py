"""The table of benchmarks/seed.py in docs/comparison.md and its charts match the measured figures."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

if not Path(__file__).parent.parent.joinpath("benchmarks").is_dir():
    pytest.skip("an sdist has no benchmarks", allow_module_level=True)

from benchmarks.seed_report import (
    CASES,
    CHARTS,
    ON_OTHER,
    PAGE,
    RESULTS,
    TITLES,
    Figures,
    chart,
    multiple,
    read_figures,
    size,
    table,
    with_table,
)

FIGURES = {
    name: Figures(200_000_000 + number, 80_000_000, 30_690 * (1 + number), dict.fromkeys(CASES, 1.5 + number))
    for number, name in enumerate(TITLES)
}


def test_page_and_charts_match_the_figures() -> None:
    figures = read_figures()
    assert list(figures) == list(TITLES), "a row was not measured"
    assert with_table(PAGE.read_text("utf-8"), figures) == PAGE.read_text("utf-8")
    for name, (shown, names) in CHARTS.items():
        assert chart(figures, shown, names) == PAGE.with_name(name).read_text("utf-8")


def test_figures_round_trip_through_json() -> None:
    assert Figures(**json.loads(json.dumps(FIGURES["naive"].to_json()))) == FIGURES["naive"]
    assert all(Figures(**row) for row in json.loads(RESULTS.read_text("utf-8")).values())


def test_shapes_of_chart_are_inside_the_frame() -> None:
    root = ET.fromstring(chart(FIGURES, *CHARTS["seed.svg"]))
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        left, top, long, tall = (float(shape.attrib[name]) for name in ("x", "y", "width", "height"))
        assert left + long <= width
        assert top + tall <= height


@pytest.mark.parametrize(
    ("count", "text"),
    [(223_456_789, "223 MB"), (82_672_633, "82.7 MB"), (1_000_000, "1.00 MB"), (30_689, "30.7 kB"), (17, "17 B")],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_best_value_of_a_column_is_bold() -> None:
    """Only rows with the same base are compared. Equal values are all bold."""
    figures = {name: replace(row, times={**row.times, "cold": 9.0}) for name, row in FIGURES.items()}
    figures["naive"] = replace(figures["naive"], times={**figures["naive"].times, "cold": 1.0, "c": 99.0})
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table(figures).splitlines()}
    assert "| **0.11** (1.00 s) |" in rows[TITLES["naive"]]
    assert "| **" in rows[TITLES["uninstall"]]  # its C edit
    assert not any("| **" in rows[TITLES[name]] for name in ON_OTHER)
    near = {name: replace(row, unpacked=211_000_000 + at) for at, (name, row) in enumerate(FIGURES.items())}
    assert table(near).count("| **1.0** (211 MB) |") == len(FIGURES) - len(ON_OTHER)  # equal after rounding


def test_column_is_shown_only_if_all_rows_have_a_value() -> None:
    assert "of it yours" not in table(FIGURES)
    counted = {name: replace(row, code=200_000) for name, row in FIGURES.items()}
    assert "| of it yours |" in table(counted)
    assert "| 0.1 % |" in table(counted)
    without = {name: value for name, value in FIGURES["uv"].times.items() if name != "dependency"}
    assert "new dependency" not in table({**FIGURES, "uv": replace(FIGURES["uv"], times=without)})


def test_rows_of_several_runs_give_a_warning() -> None:
    assert "Measured 2026-01-01." in table({name: replace(row, run="2026-01-01") for name, row in FIGURES.items()})
    mixed = {**FIGURES, "uv": replace(FIGURES["uv"], run="2026-01-02")}
    assert "Rows of 2 runs, so beware: " in table(mixed)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.50"), (0.999, "1.0"), (1, "1.0"), (9.94, "9.9"), (9.96, "10"), (936.2, "936")]
)
def test_multiples_have_two_digits(value: float, text: str) -> None:
    assert multiple(value * 3, 3) == text
