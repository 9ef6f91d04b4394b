"""Watching a project: which files are watched, and when it is built again."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.watch import ALWAYS, WatchedFiles, WatchedProject, build_command, changed_files, watch
from hatch_docker.cli.main import main
from hatch_docker.plan.model import FilePlan, MemberPlan
from tests.fakes.plans import plan
from tests.projects import write_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the paths are those of Linux")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    return write_project("hello", tmp_path / "p")


def names(files: WatchedFiles) -> set[str]:
    return {os.path.relpath(path, files.root) for path, digest in files.hashes().items() if digest}


def test_what_is_watched_is_what_hatchling_reads(project: Path) -> None:
    """Of a pure project its wheel's files; what is isolated has an sdist, with all that this holds."""
    (project / "tests").mkdir()
    (project / "tests/test_it.py").touch()
    (project / "README.md").touch()
    files = WatchedFiles(project, {})
    first = names(files)
    assert {"pyproject.toml", "hello.py", "tests/test_it.py"} <= first
    made = plan()
    files.plans = [replace(made, build=replace(made.build, isolated=False))]
    assert names(files) == first - {"tests/test_it.py", "README.md"}
    files.plans = [replace(made, build=replace(made.build, isolated=True))]
    assert names(files) == first


def test_members_files_and_locks_are_watched_before_they_are_there(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()  # one repository: requirements may include files of it alone
    (tmp_path / "lib").mkdir()
    write_project("hello", tmp_path / "lib")
    files = WatchedFiles(project, {})
    made = plan()
    copied = (FilePlan("static", "/srv"), FilePlan("one.txt", "/one.txt"))
    members = (MemberPlan("lib", "1.0", "../lib", ("",), made.build),)
    lock = replace(made.lock, pinned="requirements.txt")
    (project / "requirements.txt").write_text("-r ../lib/more.txt")
    (tmp_path / "lib/more.txt").touch()
    files.plans = [replace(made, members=members, files=copied, lock=lock)]
    before = files.hashes()
    assert {"../lib/hello.py", "../lib/pyproject.toml", "../lib/more.txt"} <= names(files)
    assert files.directories()[0] == {project, tmp_path / "lib"}
    assert {project / name for name in ALWAYS} <= set(before)
    (project / "static/deep").mkdir(parents=True)
    new = {project / name for name in ("static/deep/x.css", "one.txt", "uv.lock")}
    for path in new:
        path.write_text("x")
    assert changed_files(before, files.hashes()) == new


def test_a_file_that_is_written_again_as_it_was_did_not_change(project: Path) -> None:
    files = WatchedFiles(project, {})
    before = files.hashes()
    text = (project / "hello.py").read_text()
    (project / "hello.py").write_text(text)
    assert not changed_files(before, files.hashes())
    (project / "hello.py").write_text(text + "#")
    (project / "new.py").touch()
    assert changed_files(before, files.hashes()) >= {project / "hello.py"}
    (project / "hello.py").unlink()
    assert project / "hello.py" in changed_files(before, files.hashes())


def test_a_project_that_cannot_be_read_is_watched_as_before(project: Path) -> None:
    files = WatchedFiles(project, {})
    before = files.hashes()
    (project / "pyproject.toml").write_text("[")
    assert changed_files(before, files.hashes()) == {project / "pyproject.toml"}
    assert set(WatchedFiles(project, {}).hashes()) == {project / name for name in ALWAYS}


def test_of_another_backend_the_tree_is_watched(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/__init__.py").touch()
    (tmp_path / "build").mkdir()
    (tmp_path / "build/out.o").touch()
    sources = {"setup.py", "a/__init__.py"}
    assert sources <= names(WatchedFiles(tmp_path, {})) <= {*sources, "build/out.o"}


# Counts its runs, and does for each what it is told: writes into the project, ends with a status.
BUILD = """
import pathlib, sys
root, runs, steps = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), eval(sys.argv[3])
number = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (number + 1))
name, text, status = steps[number]
if name:
    (root / name).write_text(text)
sys.exit(status)
"""


def watched(project: Path, steps: Sequence[tuple[str, str, int]]) -> tuple[list[str], WatchedProject]:
    """A project with a build that does some steps; the last must end the watching, as Ctrl-C does."""
    lines: list[str] = []
    command = [sys.executable, "-c", BUILD, str(project), str(project.parent / "runs"), repr(list(steps))]
    return lines, WatchedProject(project, project / "dist", command, dict(os.environ))


def watch_edits(made: WatchedProject, lines: list[str], *edits: tuple[str, str]) -> object:
    """Watch a project, and write a file each time that it is said to be watched again, before anybody may listen.

    Return the exit status.
    """
    def work() -> None:
        for count, (name, text) in enumerate(edits, 1):
            deadline = time.monotonic() + 60
            while sum("watching" in line for line in lines) < count and time.monotonic() < deadline:
                time.sleep(0.02)
            (made.root / name).write_text(text)

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        watch(made, lines.append)
    thread.join()
    return ended.value.code


@pytest.mark.parametrize("polling", [False, True])
def test_it_is_built_again_after_each_change_until_it_is_ended(
    polling: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails is told and waited after like any other."""
    if polling:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    lines, made = watched(project, [("", "", 1), ("", "", 1), ("", "", 130)])
    assert watch_edits(made, lines, ("hello.py", "x = 1\n"), ("pyproject.toml", "[project]\n")) == 130
    assert [line for line in lines if line.startswith("changed")] == ["changed: hello.py", "changed: pyproject.toml"]
    assert all(line.startswith(("changed", "not built; watching 2 files")) for line in lines)


def test_what_changes_while_it_is_built_is_built_and_what_a_build_writes_makes_no_end_of_it(project: Path) -> None:
    steps = [("hello.py", "x = 1\n", 1), ("hello.py", "x = 2\n", 1), ("", "", 143)]
    lines, made = watched(project, steps)
    assert watch_edits(made, lines, ("hello.py", "x = 3\n")) == 143
    assert lines == [
        "changed during the build: hello.py", "not built; watching 2 files; Ctrl-C ends", "changed: hello.py",
    ]  # fmt: skip


def test_what_the_first_build_shows_not_to_matter_did_not_change(project: Path) -> None:
    """Before it, all that an sdist would hold is looked at."""
    (project / "README.md").touch()
    lines, made = watched(project, [("", "", 0), ("", "", 130)])
    assert watch_edits(made, lines, ("hello.py", "x = 1\n")) == 130
    assert lines == ["watching 2 files; Ctrl-C ends", "changed: hello.py"]


def test_names_that_are_orders_to_a_terminal(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch(_made: WatchedProject, log: Callable[[str], None], *, run: bool) -> None:
        log(f"changed: \x1b]52;c;aGk=\x07.py {run}")
        raise SystemExit(130)

    monkeypatch.setattr("hatch_docker.build.watch.watch", watch)
    with pytest.raises(SystemExit):
        main(["build", "--watch", str(project)])
    assert capsys.readouterr().out == "changed: \\x1b]52;c;aGk=\\x07.py False\n"


def test_a_build_imports_nothing_of_the_directory_that_it_is_started_in(tmp_path: Path) -> None:
    """A project may have modules that are called like those of the standard library."""
    for name in ("argparse", "json", "hatch_docker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    done = subprocess.run(build_command("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "--watch" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(("options", "expected"), [
    (["--push", "--watch"], "--push and --watch cannot be used together"), (["--run"], "--run needs --watch"),
    (["--watch"], "there is no pyproject.toml and no setup.py"),
])  # fmt: skip
def test_what_cannot_be_watched(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that contradict each other, and a directory without a project."""
    assert main(["build", *options, str(tmp_path)]) == 1
    assert expected in capsys.readouterr().err
