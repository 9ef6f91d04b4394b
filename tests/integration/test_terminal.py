"""Whole builds in a pseudo-terminal: the screens during the build and the lines after it."""

import re
import sys
from pathlib import Path

import pytest

from tests.fakes.terminal import Terminal, start
from tests.integration.builds import build
from tests.projects import write_project

pytestmark = pytest.mark.network


def build_in(project: Path, cache: Path, columns: int, **variables: str | None) -> Terminal:
    """Run a build in a terminal to its end; return the terminal."""
    terminal = start(
        [sys.executable, "-m", "hatchling", "build", "-t", "docker"], columns=columns, cwd=project,
        variables={"HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_LOAD": "never", **variables},
    )  # fmt: skip
    assert terminal.end(timeout=300) == 0
    return terminal


@pytest.mark.parametrize("columns", [80, 120])
def test_build_on_a_terminal(columns: int, tmp_path: Path, cache: Path) -> None:
    """Running steps during the build; then changes and commands; the last line is the path of the archive."""
    options = f'[tool.hatch-docker.env]\nCOLUMNS_OF_TEST = "{columns}"'
    project = write_project("c-extension", tmp_path / "p", options=options)
    build(project, cache)
    source = project / "c_extension" / "_answer.c"
    source.write_text(source.read_text() + f"/* {columns} {tmp_path} */\n")  # not in any cache
    (project / "c_extension" / "new.py").write_text(f"{columns}\n")
    terminal = build_in(project, cache, columns)
    assert any("building c_extension" in line for screen in terminal.seen for line in screen)
    assert terminal.has_cursor
    lines = terminal.lines()
    assert re.fullmatch(r"\u2713 +\d+\.\d s  building c_extension-1\.0\.0\.tar\.gz in the builder", lines[0])
    assert max(map(len, lines)) < columns
    archive = "dist/c_extension-1.0.0.oci.tar"
    assert lines[-1] == archive
    at = lines.index("changed since the previous build:")
    assert lines[at + 1] == "  your code         2 files changed: c_extension/_answer.c, c_extension/new.py"
    assert lines[at + 2 : -1] == ["run it:", f"  docker load -i {archive}", "  docker run --rm c-extension:1.0.0"]

    unchanged = build_in(project, cache, columns, PYTHONPROFILEIMPORTTIME="1")
    assert b"\x1b" not in re.sub(rb"\x1b\[[0-9;]*m", b"", unchanged.raw)  # colours only
    assert "rich" not in [line.rpartition(b"|")[2].strip().decode() for line in unchanged.raw.splitlines()]
    assert "nothing changed since the previous build" in unchanged.lines()
