"""`hatch-docker init` as a command: the question, the output and the written files."""

import os
import sys
from pathlib import Path

import pytest

from hatch_docker.cli.main import main
from tests.fakes.init_projects import FASTAPI, HATCHLING, MIRROR
from tests.fakes.terminal import start
from tests.projects import write_files


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a Debian mirror with a variable."""
    for name, value in MIRROR.items():
        monkeypatch.setenv(name, value)


def test_init_without_terminal_needs_yes(tmp_path: Path, mirror: None, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run never writes."""
    write_files(tmp_path, {"main.py": FASTAPI})
    assert main(["init", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "add --yes" in captured.err
    assert "+base = \"debian:trixie\"" in captured.out
    assert main(["init", str(tmp_path), "--dry-run"]) == 0
    assert not (tmp_path / "pyproject.toml").exists()
    assert main(["init", str(tmp_path), "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("written: pyproject.toml; next: ")
    assert "uvicorn" in (tmp_path / "pyproject.toml").read_text()


def test_suggested_command_works_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, {"my shop/main.py": FASTAPI})
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--yes", "my shop"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "written: pyproject.toml; next: hatch-docker build 'my shop'"


@pytest.mark.parametrize(("answer", "written"), [(b"y\n", True), (b"\n", False), (b"\x04", False)])
def test_init_on_terminal_asks_before_writing(answer: bytes, written: bool, tmp_path: Path) -> None:
    write_files(tmp_path, {"main.py": FASTAPI})
    terminal = start([sys.executable, "-m", "hatch_docker", "init"], cwd=tmp_path, variables=MIRROR)
    terminal.read(lambda lines: any("[y/N]" in line for line in lines))
    os.write(terminal.master, answer)
    assert terminal.end() == 0
    assert (tmp_path / "pyproject.toml").exists() == written


def test_init_of_missing_directory_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "nowhere"]) == 1
    assert capsys.readouterr().err == "error: nowhere is not a directory: give the project's directory\n"


def test_windows_line_endings_are_kept(tmp_path: Path, mirror: None) -> None:
    before = "# shop\r\n" + HATCHLING.replace("\n", "\r\n")
    before += '[project]\r\nname = "shop"\r\nversion = "1"\r\ndependencies = [\r\n  "flask",\r\n]\r\n'
    write_files(tmp_path, {"pyproject.toml": before, "shop/__init__.py": "import flask\napp = flask.Flask('a')\n"})
    assert main(["init", str(tmp_path), "--yes"]) == 0
    after = (tmp_path / "pyproject.toml").read_bytes()
    assert after.startswith(before[:-5].encode())
    assert b'"gunicorn",\r\n' in after
    assert after.count(b"\n") == after.count(b"\r\n")


def test_symlinked_pyproject_stays_a_symlink(tmp_path: Path, mirror: None) -> None:
    project = HATCHLING + '[project]\nname = "shop"\nversion = "1"\n'
    write_files(tmp_path, {"shared/own.toml": project, "p/shop/__init__.py": "", "p/shop/__main__.py": ""})
    (tmp_path / "p/pyproject.toml").symlink_to("../shared/own.toml")
    assert main(["init", str(tmp_path / "p"), "--yes"]) == 0
    assert (tmp_path / "p/pyproject.toml").is_symlink()
    assert "[tool.hatch-docker]" in (tmp_path / "shared/own.toml").read_text()
