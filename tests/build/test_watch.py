"""`build --watch`: the watched files, and the changes that start a build."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.watch import ALWAYS_WATCHED, WatchedFiles, WatchedProject, build_command, changed_files, watch
from hatch_docker.cli.main import main
from hatch_docker.plan.model import FilePlan, MemberPlan
from tests.fakes.plans import plan
from tests.projects import write_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the paths are those of Linux")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    return write_project("hello", tmp_path / "p")


def watched_names(files: WatchedFiles) -> set[str]:
    return {os.path.relpath(path, files.root) for path, digest in files.hashes().items() if digest}


def test_watched_files_are_those_of_wheel_or_sdist(project: Path) -> None:
    """An isolated build makes an sdist; other builds need only the files of the wheel."""
    (project / "tests").mkdir()
    (project / "tests/test_it.py").touch()
    (project / "README.md").touch()
    files = WatchedFiles(project, {})
    first = watched_names(files)
    assert {"pyproject.toml", "hello.py", "tests/test_it.py"} <= first
    first_plan = plan()
    files.plans = [replace(first_plan, build=replace(first_plan.build, isolated=False))]
    assert watched_names(files) == first - {"tests/test_it.py", "README.md"}
    files.plans = [replace(first_plan, build=replace(first_plan.build, isolated=True))]
    assert watched_names(files) == first


def test_files_that_do_not_exist_yet_are_watched(project: Path, tmp_path: Path) -> None:
    """Those of workspace members, `files` and locks."""
    (tmp_path / ".git").mkdir()  # requirements files may only include files of the same repository
    (tmp_path / "lib").mkdir()
    write_project("hello", tmp_path / "lib")
    files = WatchedFiles(project, {})
    first_plan = plan()
    copied = (FilePlan("static", "/srv"), FilePlan("one.txt", "/one.txt"))
    members = (MemberPlan("lib", "1.0", "../lib", ("",), first_plan.build),)
    lock = replace(first_plan.lock, pinned="requirements.txt")
    (project / "requirements.txt").write_text("-r ../lib/more.txt")
    (tmp_path / "lib/more.txt").touch()
    files.plans = [replace(first_plan, members=members, files=copied, lock=lock)]
    before = files.hashes()
    assert {"../lib/hello.py", "../lib/pyproject.toml", "../lib/more.txt"} <= watched_names(files)
    assert files.directories()[0] == {project, tmp_path / "lib"}
    assert {project / name for name in ALWAYS_WATCHED} <= set(before)
    (project / "static/deep").mkdir(parents=True)
    new = {project / name for name in ("static/deep/x.css", "one.txt", "uv.lock")}
    for path in new:
        path.write_text("x")
    assert changed_files(before, files.hashes()) == new


def test_rewritten_file_with_same_content_is_unchanged(project: Path) -> None:
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


def test_invalid_project_keeps_its_watched_files(project: Path) -> None:
    files = WatchedFiles(project, {})
    before = files.hashes()
    (project / "pyproject.toml").write_text("[")
    assert changed_files(before, files.hashes()) == {project / "pyproject.toml"}
    assert set(WatchedFiles(project, {}).hashes()) == {project / name for name in ALWAYS_WATCHED}


def test_all_source_files_are_watched_for_other_backends(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/__init__.py").touch()
    (tmp_path / "build").mkdir()
    (tmp_path / "build/out.o").touch()
    sources = {"setup.py", "a/__init__.py"}
    assert sources <= watched_names(WatchedFiles(tmp_path, {})) <= {*sources, "build/out.o"}


# A build script. For its n-th run it executes the n-th step: write a file of the project, exit with a status.
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


def project_with_build(project: Path, steps: Sequence[tuple[str, str, int]]) -> tuple[list[str], WatchedProject]:
    """Return log lines and a project whose build executes `steps`. The last step must exit with a signal's status."""
    lines: list[str] = []
    command = [sys.executable, "-c", BUILD, str(project), str(project.parent / "runs"), repr(list(steps))]
    return lines, WatchedProject(project, project / "dist", command, dict(os.environ))


def watch_edits(target: WatchedProject, lines: list[str], *edits: tuple[str, str]) -> object:
    """Watch a project and write a file after each line "watching"; return the exit status.

    The file may be written before the notifications of the kernel are enabled.
    """
    def work() -> None:
        for count, (name, text) in enumerate(edits, 1):
            deadline = time.monotonic() + 60
            while sum("watching" in line for line in lines) < count and time.monotonic() < deadline:
                time.sleep(0.02)
            (target.root / name).write_text(text)

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        watch(target, lines.append)
    thread.join()
    return ended.value.code


@pytest.mark.parametrize("polling", [False, True])
def test_each_change_starts_a_build_until_a_signal(
    polling: bool, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed build does not end the watching."""
    if polling:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    lines, target = project_with_build(project, [("", "", 1), ("", "", 1), ("", "", 130)])
    assert watch_edits(target, lines, ("hello.py", "x = 1\n"), ("pyproject.toml", "[project]\n")) == 130
    assert [line for line in lines if line.startswith("changed")] == ["changed: hello.py", "changed: pyproject.toml"]
    assert all(line.startswith(("changed", "not built; watching 2 files")) for line in lines)


def test_change_during_a_build_starts_one_more_build(project: Path) -> None:
    """A build that writes a watched file does not start builds without end."""
    steps = [("hello.py", "x = 1\n", 1), ("hello.py", "x = 2\n", 1), ("", "", 143)]
    lines, target = project_with_build(project, steps)
    assert watch_edits(target, lines, ("hello.py", "x = 3\n")) == 143
    assert lines == [
        "changed during the build: hello.py", "not built; watching 2 files; Ctrl-C ends", "changed: hello.py",
    ]  # fmt: skip


def test_sdist_files_are_dropped_if_the_plan_needs_no_sdist(project: Path) -> None:
    """Before the first build, all files of an sdist are watched. The shorter list afterwards is no change."""
    (project / "README.md").touch()
    lines, target = project_with_build(project, [("", "", 0), ("", "", 130)])
    assert watch_edits(target, lines, ("hello.py", "x = 1\n")) == 130
    assert lines == ["watching 2 files; Ctrl-C ends", "changed: hello.py"]


def test_control_characters_in_file_names_are_escaped(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch(_project: WatchedProject, log: Callable[[str], None], *, run: bool) -> None:
        log(f"changed: \x1b]52;c;aGk=\x07.py {run}")
        raise SystemExit(130)

    monkeypatch.setattr("hatch_docker.build.watch.watch", watch)
    with pytest.raises(SystemExit):
        main(["build", "--watch", str(project)])
    assert capsys.readouterr().out == "changed: \\x1b]52;c;aGk=\\x07.py False\n"


def test_build_command_does_not_import_from_working_directory(tmp_path: Path) -> None:
    """A project may have modules with names of the standard library."""
    for name in ("argparse", "json", "hatch_docker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(77)")
    done = subprocess.run(build_command("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "--watch" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(("options", "expected"), [
    (["--push", "--watch"], "--push and --watch cannot be used together"), (["--run"], "--run needs --watch"),
    (["--watch"], "there is no pyproject.toml and no setup.py"),
])  # fmt: skip
def test_invalid_watch_options_and_missing_project_are_errors(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *options, str(tmp_path)]) == 1
    assert expected in capsys.readouterr().err
