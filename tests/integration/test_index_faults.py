"""Faults of a package index in whole builds: retried, or an error line and no output."""

import time
from pathlib import Path

import pytest

from tests.fakes.package_index import FakeIndex, make_wheel
from tests.integration.builds import build, run_build
from tests.integration.failures import write_pylock
from tests.projects import write_project

pytestmark = pytest.mark.network


def project_with_lock(index: FakeIndex, directory: Path) -> tuple[Path, str]:
    """Write a project whose lock names a unique wheel with its hash; return the project and the wheel's file name."""
    project = write_project("hello", directory)
    filename, data = make_wheel("gadget", "1.0", files={"gadget.py": f"AT = {time.time_ns()}\n".encode() * 999})
    index.add("gadget", (filename, data))
    write_pylock(project, index, filename)
    return project, filename


@pytest.mark.parametrize("fault", [503, 429, "cut", "close", "short", "flip"])
def test_temporary_fault_is_retried(fault: object, index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    """After one bad response there is one line about the retry, and the image is complete."""
    project, filename = project_with_lock(index, tmp_path / "p")
    index.faults.append([filename, fault, 1])
    outcome = build(project, cache)
    assert len(index.paths(filename)) == 2
    assert outcome.output.count("again in") == 1, outcome.output
    assert "gadget 1.0" in str(outcome.receipt)
    outcome.item()


@pytest.mark.parametrize(("fault", "status", "words"), [
    (503, 75, "503 Service Unavailable; gave up after 6 tries"),
    (429, 75, "429 Too Many Requests; gave up after 6 tries"),
    ("short", 1, "gave up after 2 tries"),
    ("flip", 1, "instead of sha256:"),
    (404, 1, "404 Not Found"),
    ("replaced", 1, "instead of sha256:"),
])  # fmt: skip
def test_permanent_fault_fails_the_build(
    fault: object, status: int, words: str, index: FakeIndex, tmp_path: Path, cache: Path
) -> None:
    """A wheel that is missing or has another hash: one error line, no image. A later build succeeds."""
    project, filename = project_with_lock(index, tmp_path / "p")
    right = index.files["gadget"][filename]
    if fault == "replaced":
        index.files["gadget"][filename] = make_wheel("gadget", "1.0", files={"gadget.py": b"EVIL = 1\n"})[1]
    else:
        index.faults.append([filename, fault, 99])
    failed = run_build(project, cache)
    assert failed.status == status, failed.output
    last = failed.output.splitlines()[-1]
    assert words in last
    assert f"gadget 1.0 ({filename})" in last
    assert "Traceback" not in failed.output
    assert not list((project / "dist").glob("*"))
    index.faults.clear()
    index.files["gadget"][filename] = right
    build(project, cache).item()
