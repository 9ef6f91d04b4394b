"""Wrong clocks, files that change during the build, unusable home directories: a valid image or an error line."""

import os
import threading
from pathlib import Path

import pytest

from tests.conftest import need
from tests.integration.builds import Outcome, build, check_failed, files_in_dist, run_build
from tests.integration.prepared_build import PreparedBuild
from tests.projects import write_project

pytestmark = pytest.mark.network

FILES = '[[tool.hatch-docker.files]]\nsource = "data"\ntarget = "/srv/data"\n'


def run_wrapped(project: Path, cache: Path, *command: str) -> Outcome:
    """Run a build within another program (`command`)."""
    (project.parent / "tmp").mkdir(exist_ok=True)
    variables = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # durations use the monotonic clock, which is never set
    process = PreparedBuild(project, cache, project.parent / "tmp", "").start(wrapper=command, variables=variables)
    output, _ = process.communicate(timeout=300)
    return Outcome(process.returncode, output, project / "dist")


def check_error(outcome: Outcome, *words: str) -> None:
    """Check that the last line has `words`, and that no file is written."""
    check_failed(outcome, *words, last_line=True)
    assert files_in_dist(outcome) == []


# The clock does not change the digest.

CLOCKS = {
    "1970": ("1970-01-02 00:00:00",), "2106": ("2106-02-09 00:00:00",),
    "runs three times as fast": ("-f", "+0 x3"), "back by ten years": ("-f", "-10y"),
    "stands still": ("-f", "2030-01-01 00:00:00"),
}  # fmt: skip


SLOW = ("back by ten years", "runs three times as fast", "stands still")


@pytest.mark.parametrize("clock", [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in CLOCKS])
def test_wrong_clock_gives_the_same_digest(clock: str, base: str, tmp_path: Path) -> None:
    """The first build has an empty cache; the second, with a correct clock, uses its cache."""
    project = write_project("hello", tmp_path / "p", base=base)
    wrong = run_wrapped(project, tmp_path / "cache", need("faketime"), *CLOCKS[clock])
    assert wrong.status == 0, wrong.output
    digest = wrong.digest
    wrong.item()
    assert build(project, tmp_path / "cache").digest == digest


def test_mtimes_of_files_do_not_change_the_digest(base: str, tmp_path: Path, cache: Path) -> None:
    """Times of 1969, 1970, 2106 and later, of the wheel's files and of others."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_text("x")
    digest = build(project, cache).digest
    for seconds in (-86400, 0, 1 << 32, 5_000_000_000):
        for path in project.iterdir():
            os.utime(path, (seconds, seconds))
        outcome = build(project, cache)
        assert (outcome.digest, outcome.new_layers()) == (digest, [])


# Files that change during the build; special files are in test_errors.


def test_file_that_changes_during_the_build(base: str, tmp_path: Path, cache: Path) -> None:
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
def test_file_that_disappears_during_the_build(name: str, base: str, tmp_path: Path, cache: Path) -> None:
    """strace makes a later open() of the file fail with ENOENT."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_text("x")
    nth = {"data": "2+", "hello.py": "1+"}[name]
    outcome = run_wrapped(
        project, cache, need("strace"), "-f", "-qq", "-o", "/dev/null", "-P", str(project / name),
        "-e", "trace=openat", "-e", f"inject=openat:error=ENOENT:when={nth}",
    )  # fmt: skip
    check_error(outcome, name, "No such file or directory")


def test_file_over_4_gb_is_rejected(base: str, tmp_path: Path, cache: Path) -> None:
    """The error comes before the file is read."""
    project = write_project("hello", tmp_path / "p", base=base, options=FILES)
    (project / "data").write_bytes(b"x")
    os.truncate(project / "data", (4 << 30) + 5)
    check_error(run_build(project, cache), "tool.hatch-docker.files", "/srv/data has 4.3 GB", "volume")


# The directory of the cache.


@pytest.mark.parametrize("home", ["/proc", "/dev/null"])
def test_unwritable_home_suggests_cache_variable(home: str, base: str, tmp_path: Path) -> None:
    project = write_project("hello", tmp_path / "p", base=base)
    variables = {"HOME": home, "HATCH_DOCKER_CACHE_DIR": "", "XDG_CACHE_HOME": ""}
    outcome = run_build(project, tmp_path / "unused", variables=variables, umask=0o022)
    check_error(outcome, home, "HATCH_DOCKER_CACHE_DIR")
