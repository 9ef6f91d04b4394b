"""The pictures of docs/: the diagrams are those of benchmarks/diagrams.py, and none of them loads anything."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

if not Path(__file__).parent.parent.joinpath("benchmarks").is_dir():
    pytest.skip("an sdist has no benchmarks", allow_module_level=True)

from benchmarks.diagrams import DIAGRAMS, WIDTH
from benchmarks.recording import HOLD, Shown, picture, timeline
from tests.pages import DOCS


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_diagram_is_as_its_script_writes_it(name: str) -> None:
    """`python benchmarks/diagrams.py` writes all of them; every shape is inside of the frame."""
    text = DIAGRAMS[name]()
    assert text == (DOCS / f"{name}.svg").read_text("utf-8")
    for shape in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}rect"):
        assert float(shape.attrib["x"]) + float(shape.attrib["width"]) <= WIDTH


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_loads_nothing_and_has_a_title(path: Path) -> None:
    root = ET.fromstring(path.read_text("utf-8"))
    assert root.findtext("{http://www.w3.org/2000/svg}title")
    assert not [element for element in root.iter() if any(key.endswith("href") for key in element.attrib)]
    assert "url(http" not in path.read_text("utf-8")
    assert "@import" not in path.read_text("utf-8")


def test_a_recording_shows_each_row_while_it_is_there() -> None:
    """A row that stays is one element; the last screen is visible without animations."""
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
