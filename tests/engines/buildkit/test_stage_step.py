"""The program of a step's stage: new, changed and removed paths, and writes outside of the outputs."""

import os
from pathlib import Path

import pytest

from hatch_docker.engines.buildkit import stage_step
from tests.projects import write_files


def test_changed_and_removed_paths(tmp_path: Path) -> None:
    """Of two trees before the step, the first one that has a path is used."""
    write_files(tmp_path, {
        "upper/srv/a": "1", "lower/srv/a": "0", "lower/srv/same": "s", "lower/srv/gone": "g", "lower/srv/mode": "m",
        "after/srv/a": "1", "after/srv/same": "s", "after/srv/mode": "m", "after/srv/d/new": "n", "after/srv/b": "b",
    })  # fmt: skip
    (tmp_path / "after/srv/mode").chmod(0o755)
    (tmp_path / "lower/srv/b").symlink_to("a")
    (tmp_path / "after/srv/link").symlink_to("a")
    new, gone = stage_step.changed_paths([f"{tmp_path}/upper", f"{tmp_path}/lower"], f"{tmp_path}/after", "srv")
    assert new == ["srv/b", "srv/d", "srv/d/new", "srv/link", "srv/mode"]
    assert gone == ["srv/gone"]


def test_symlinks_in_a_tree_are_not_followed(tmp_path: Path) -> None:
    """A followed symlink could reach files of the host."""
    write_files(tmp_path, {
        "host/f": "1", "upper/srv/d/f": "1", "lower/srv/e/f": "1", "after/srv/d/f": "1", "after/srv/e/f": "1",
    })  # fmt: skip
    for link in ("lower/srv/d", "upper/srv/e", "upper/link"):
        (tmp_path / link).symlink_to(tmp_path / "host")
    trees = [f"{tmp_path}/upper", f"{tmp_path}/lower"]
    places = {path: Path(place) for path, place in stage_step.merged_paths(trees, "srv")}
    found = [(path, place.relative_to(tmp_path).parts[0]) for path, place in places.items()]
    assert found == [("srv/d", "upper"), ("srv/d/f", "upper"), ("srv/e", "upper")]
    assert stage_step.find_path(trees, "link/f") == ("", [])
    assert stage_step.changed_paths(trees, f"{tmp_path}/after", "srv") == (["srv/e", "srv/e/f"], [])
    assert stage_step.changed_paths(trees, f"{tmp_path}/after", "link") == ([], [])


@pytest.mark.parametrize(("change", "found"), [
    (lambda top: (top / "b/new").write_text("x"), "b/new"),
    (lambda top: (top / "b/f").write_text("longer"), "b/f"),
    (lambda top: (top / "b/f").chmod(0o600), "b/f"),
    (lambda top: (top / "b/f").unlink(), "b/f"),
    (lambda top: (top / "out/f").write_text("x"), ""),
])  # fmt: skip
def test_write_outside_of_the_outputs_is_found(change: object, found: str, tmp_path: Path) -> None:
    """Time, size, mode and name are compared. A new directory above an output is allowed."""
    before, top = tmp_path / "before", tmp_path / "now"
    for root in (Path(f"{before}{top}"), top):
        write_files(root, {"b/f": "x", "out/e": "x"})
        os.utime(root / "b/f", (1, 1))
    write_files(top, {"new/out/file": "x"})
    change(top)  # type: ignore[operator]
    outputs = [f"{top}/out", f"{top}/new/out"]
    strays = list(stage_step.find_strays(str(before), str(top), outputs))
    assert strays == ([f"{top}/{found}"] if found else [])
