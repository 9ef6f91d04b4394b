"""Clocks that are wrong, files that change while they are read, no home: a good image or one line."""

import os
import threading
from pathlib import Path

import pytest

from tests.conftest import need
from tests.integration.builds import Outcome, build, check_failed, run_build, written
from tests.integration.prepared_build import Prepared
from tests.projects import write_project

pytestmark = pytest.mark.network

FILES = '[[tool.hatch-docker.files]]\nsource = "data"\ntarget = "/srv/data"\n'


def wrapped(project: Path, cache: Path, *command: str) -> Outcome:
    """A build in another program."""
    (project.parent / "tmp").mkdir(exist_ok=True)
    variables = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # what measures time is another clock, which nobody sets
    process = Prepared(project, cache, project.parent / "tmp", "").start(wrapped=command, variables=variables)
    output, _ = process.communicate(timeout=300)
    return Outcome(process.returncode, output, project / "dist")


def check_error(outcome: Outcome, *said: str) -> None:
    """Check that one line names it, and that nothing is written."""
    check_failed(outcome, *said, last_line=True)
    assert written(outcome) == []


# The clock decides nothing.

CLOCKS = {
    "1970": ("1970-01-02 00:00:00",), "2106": ("2106-02-09 00:00:00",),
    "runs three times as fast": ("-f", "+0 x3"), "back by ten years": ("-f", "-10y"),
    "stands still": ("-f", "2030-01-01 00:00:00"),
}  # fmt: skip


SLOW = ("back by ten years", "runs three times as fast", "stands still")


@pytest.mark.parametrize("clock", [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in CLOCKS])
def test_a_clock_that_is_wrong(clock: str, base: str, tmp_path: Path) -> None:
    """With an empty cache; and then a right one with what the wrong one left: the same digest."""
    project = write_project("hello", tmp_path / "p", base=base)
    wrong = wrapped(project, tmp_path / "cache", need("faketime"), *CLOCKS[clock])
    assert wrong.status == 0, wrong.output
    digest = wrong.digest
    wrong.item()
    assert build(project, tmp_path / "cache").digest == digest


def test_files_of_other_centuries(base: str, tmp_path: Path, cache: Path) -> None:
    """Of 1969, 1970, 2106 and later: those of a wheel, and others."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_text("x")
    digest = build(project, cache).digest
    for seconds in (-86400, 0, 1 << 32, 5_000_000_000):
        for path in project.iterdir():
            os.utime(path, (seconds, seconds))
        outcome = build(project, cache)
        assert (outcome.digest, outcome.made()) == (digest, [])


# Files that change while they are read; odd files are in test_errors.


def test_a_file_that_changes_while_it_is_read(base: str, tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    data = project / "data"
    data.write_bytes(bytes(50 << 20))
    ended = threading.Event()

    def change() -> None:
        number = 0
        with data.open("r+b") as stream:
            while not ended.wait(0.002):
                number += 1
                stream.seek(0)
                stream.write(b"%d" % number)
                stream.flush()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        outcome = run_build(project, cache)
    finally:
        ended.set()
        thread.join()
    check_error(outcome, "tool.hatch-docker.files", str(data), "changed during the build; build again")
    build(project, cache)


@pytest.mark.parametrize("name", ["data", "hello.py"])
def test_a_file_that_is_gone_when_it_is_read(name: str, base: str, tmp_path: Path, cache: Path) -> None:
    """Listed and looked at, and then no more."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_text("x")
    nth = {"data": "2+", "hello.py": "1+"}[name]
    outcome = wrapped(
        project, cache, need("strace"), "-f", "-qq", "-o", "/dev/null", "-P", str(project / name),
        "-e", "trace=openat", "-e", f"inject=openat:error=ENOENT:when={nth}",
    )  # fmt: skip
    check_error(outcome, name, "No such file or directory")


def test_a_file_of_more_than_four_gigabytes_is_named(base: str, tmp_path: Path, cache: Path) -> None:
    """Before it is read: no layer of that size would be."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_bytes(b"x")
    os.truncate(project / "data", (4 << 30) + 5)
    check_error(run_build(project, cache), "tool.hatch-docker.files", "/srv/data has 4.3 GB", "volume")


# The place of the cache.


@pytest.mark.parametrize("home", ["/proc", "/dev/null"])
def test_a_home_that_cannot_be_written_names_the_variable(home: str, base: str, tmp_path: Path) -> None:
    project = write_project("hello", tmp_path / "p", base=base)
    variables = {"HOME": home, "HATCH_DOCKER_CACHE_DIR": "", "XDG_CACHE_HOME": ""}
    outcome = run_build(project, tmp_path / "unused", variables=variables, umask=0o022)
    check_error(outcome, home, "HATCH_DOCKER_CACHE_DIR")
