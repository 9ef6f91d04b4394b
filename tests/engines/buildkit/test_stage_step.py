"""The program of a step's stage: what it finds new, changed, gone, and written elsewhere."""

import os
from pathlib import Path

import pytest

from hatch_docker.engines.buildkit import stage_step
from tests.projects import write_files


def test_what_a_step_changed(tmp_path: Path) -> None:
    """Against two trees, of which the first that has a path decides."""
    write_files(tmp_path, {
        "upper/srv/a": "1", "lower/srv/a": "0", "lower/srv/same": "s", "lower/srv/gone": "g", "lower/srv/mode": "m",
        "after/srv/a": "1", "after/srv/same": "s", "after/srv/mode": "m", "after/srv/d/new": "n", "after/srv/b": "b",
    })  # fmt: skip
    (tmp_path / "after/srv/mode").chmod(0o755)
    (tmp_path / "lower/srv/b").symlink_to("a")
    (tmp_path / "after/srv/link").symlink_to("a")
    new, gone = stage_step.changed([f"{tmp_path}/upper", f"{tmp_path}/lower"], f"{tmp_path}/after", "srv")
    assert new == ["srv/b", "srv/d", "srv/d/new", "srv/link", "srv/mode"]
    assert gone == ["srv/gone"]


def test_no_link_of_a_tree_is_followed(tmp_path: Path) -> None:
    """It would lead to a file of this machine: what is below it in another tree is that tree's, or nobody's."""
    write_files(tmp_path, {
        "host/f": "1", "upper/srv/d/f": "1", "lower/srv/e/f": "1", "after/srv/d/f": "1", "after/srv/e/f": "1",
    })  # fmt: skip
    for link in ("lower/srv/d", "upper/srv/e", "upper/link"):
        (tmp_path / link).symlink_to(tmp_path / "host")
    trees = [f"{tmp_path}/upper", f"{tmp_path}/lower"]
    found = [(path, Path(place).relative_to(tmp_path).parts[0]) for path, place in stage_step.merged(trees, "srv")]
    assert found == [("srv/d", "upper"), ("srv/d/f", "upper"), ("srv/e", "upper")]
    assert stage_step.find(trees, "link/f") == ("", [])
    assert stage_step.changed(trees, f"{tmp_path}/after", "srv") == (["srv/e", "srv/e/f"], [])
    assert stage_step.changed(trees, f"{tmp_path}/after", "link") == ([], [])


@pytest.mark.parametrize(("change", "found"), [
    (lambda top: (top / "b/new").write_text("x"), "b/new"),
    (lambda top: (top / "b/f").write_text("longer"), "b/f"),
    (lambda top: (top / "b/f").chmod(0o600), "b/f"),
    (lambda top: (top / "b/f").unlink(), "b/f"),
    (lambda top: (top / "out/f").write_text("x"), ""),
])  # fmt: skip
def test_a_write_elsewhere(change: object, found: str, tmp_path: Path) -> None:
    """By time, size, mode and name; a directory above an output may be new."""
    before, top = tmp_path / "before", tmp_path / "now"
    for root in (Path(f"{before}{top}"), top):
        write_files(root, {"b/f": "x", "out/e": "x"})
        os.utime(root / "b/f", (1, 1))
    write_files(top, {"new/out/file": "x"})
    change(top)  # type: ignore[operator]
    outputs = [f"{top}/out", f"{top}/new/out"]
    strays = list(stage_step.written_elsewhere(str(before), str(top), outputs))
    assert strays == ([f"{top}/{found}"] if found else [])
