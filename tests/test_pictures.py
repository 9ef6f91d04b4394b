"""The pictures in docs/: diagrams are up to date, and pictures load no other file."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

if not Path(__file__).parent.parent.joinpath("benchmarks").is_dir():
    pytest.skip("an sdist has no benchmarks", allow_module_level=True)

from benchmarks.diagrams import DIAGRAMS, WIDTH
from benchmarks.recording import HOLD, Shown, picture, timeline
from tests.pages import DOCS


@pytest.mark.parametrize("name", DIAGRAMS)
def test_diagram_is_up_to_date(name: str) -> None:
    """`python benchmarks/diagrams.py` writes the diagrams. All shapes are inside of the frame."""
    text = DIAGRAMS[name]()
    assert text == (DOCS / f"{name}.svg").read_text("utf-8")
    for shape in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}rect"):
        assert float(shape.attrib["x"]) + float(shape.attrib["width"]) <= WIDTH


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.svg")), ids=lambda path: path.name)
def test_picture_has_title_and_loads_no_file(path: Path) -> None:
    root = ET.fromstring(path.read_text("utf-8"))
    assert root.findtext("{http://www.w3.org/2000/svg}title")
    assert not [element for element in root.iter() if any(key.endswith("href") for key in element.attrib)]
    assert "url(http" not in path.read_text("utf-8")
    assert "@import" not in path.read_text("utf-8")


def test_recording_shows_rows_at_their_times() -> None:
    """A row that does not change is one element. Without animations the last screen is visible."""
    stays, goes, ends = (("$ build", "bold"),), (("working", "cyan"),), (("done <1 s", ""),)
    shown, total = timeline(iter([(0.0, (stays, goes)), (0.3, (stays, goes)), (0.3, (stays, ends))]))
    assert total == pytest.approx(0.6 + HOLD)
    assert shown == [
        Shown(0, stays, 0.0, total, last=True), Shown(1, goes, 0.0, 0.6, last=False),
        Shown(1, ends, 0.6, total, last=True),
    ]  # fmt: skip
    text = picture(shown, total)
    assert text == picture(shown, total)
    rows = list(ET.fromstring(text).iter("{http://www.w3.org/2000/svg}g"))
    assert ["class" in row.attrib for row in rows] == [False, True, False]
