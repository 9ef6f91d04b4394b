"""Builds on full and on broken disks: either a complete image, or an error line and no output."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing, need
from tests.integration.builds import Outcome, build, check_failed, run_build
from tests.integration.prepared_build import PreparedBuild
from tests.projects import write_project

pytestmark = pytest.mark.network


@contextlib.contextmanager
def disk(place: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of a size in MB until the block ends; this needs root."""
    if os.geteuid() != 0:
        missing("mounting a file system needs root")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def files_in(*places: Path) -> list[Path]:
    return [path for place in places if place.exists() for path in place.iterdir()]


FULL = ("No space left on device", "MB that are free there")
SIZES = [pytest.param(size, marks=() if size == 20 else pytest.mark.long) for size in range(1, 65)]


@pytest.mark.parametrize("megabytes", [*SIZES, 120])
def test_full_disk_of_any_size(megabytes: int, base: str, tmp_path: Path) -> None:
    """Cache, output and temporary files are on a small disk: the error has the free space, or the image is complete."""
    with disk(tmp_path / "disk", megabytes) as small:
        project = write_project("hello", small / "p", base=base)
        (small / "tmp").mkdir()
        outcome = run_build(project, small / "cache", variables={"TMPDIR": str(small / "tmp")})
        if outcome.status == 0:
            outcome.item()
            assert megabytes > 64
        else:
            check_failed(outcome, "cannot write", str(small), *FULL, last_line=True)
            assert megabytes < 120
        files = files_in(project / "dist", small / "tmp", small / "cache/v1/tmp")
        assert (files == []) == (outcome.status != 0)
        assert not [path for path in files if path.suffix == ".tmp"]
        PreparedBuild(project, small / "cache", small / "tmp", "").check_files()


def test_full_disk_keeps_the_earlier_output(base: str, tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p", base=base)
    with disk(project / "dist", 30) as small:
        build(project, cache)
        before = {path: path.read_bytes() for path in small.iterdir()}
        (project / "hello.py").write_text("def main():\n    print('other')\n")
        outcome = run_build(project, cache)
        check_failed(outcome, "cannot write", "hello-1.0.0.oci.tar", *FULL, last_line=True)
        assert {path: path.read_bytes() for path in small.iterdir()} == before


FAULTS = {
    "write: ENOSPC, often": ("posix/io/rw/write", 28, 0.02, "No space left on device"),
    "write: ENOSPC, rarely": ("posix/io/rw/write", 28, 0.002, "No space left on device"),
    "write: EIO": ("posix/io/rw/write", 5, 0.005, "Input/output error"),
    "fsync: EIO": ("posix/io/sync/fsync", 5, 0.5, "Input/output error"),
}


@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(25, id="25", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FAULTS)
def test_random_write_errors(name: str, times: int, base: str, tmp_path: Path) -> None:
    """fiu-run makes functions of the C library fail at random, in every thread."""
    where, number, probability, message = FAULTS[name]
    wrapper = (need("fiu-run"), "-x", "-c", f"enable_random name={where},probability={probability},failinfo={number}")
    project = write_project("hello", tmp_path / "p", base=base)
    (tmp_path / "tmp").mkdir()
    prepared = PreparedBuild(project, tmp_path / "cache", tmp_path / "tmp", "")
    failed = 0
    for _ in range(times):
        shutil.rmtree(project / "dist", ignore_errors=True)
        shutil.rmtree(prepared.cache, ignore_errors=True)
        process = prepared.start(wrapper=wrapper)
        output, _none = process.communicate(timeout=120)
        prepared.check_files()
        assert prepared.temporary_files() == [], output
        if process.returncode:
            failed += 1
            check_failed(Outcome(process.returncode, output, project / "dist"), "cannot ", message, last_line=True)
            for path in (project / "dist").glob("*.json"):
                json.loads(path.read_bytes())  # files that were finished before the error are complete
    print(f"{failed} of {times} failed")
    assert times == 1 or failed > times / 2
    build(project, prepared.cache)
