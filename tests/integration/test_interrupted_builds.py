"""Builds that are killed or stopped, run in parallel, or find a damaged cache: the next build is right."""

import contextlib
import fcntl
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import run_build
from tests.integration.failures import write_pylock
from tests.integration.prepared_build import FETCHED_FACTS, PreparedBuild, prepare_build, push_base
from tests.projects import write_project
from tests.validate import validate

pytestmark = pytest.mark.network


@pytest.fixture
def prepared(tmp_path: Path, shared: Path) -> PreparedBuild:
    return prepare_build(tmp_path, shared / "hello", warm=False)


@pytest.fixture
def warm(tmp_path: Path, shared: Path) -> PreparedBuild:
    """Return a prepared build with a complete cache."""
    return prepare_build(tmp_path, shared / "hello", warm=True)


def test_temporary_files_of_a_killed_build_are_removed(warm: PreparedBuild) -> None:
    """Files with a lock, which a running build holds, and files of other projects stay."""
    warm.build()
    abandoned, locked, other = (warm.project / "dist" / name for name in (
        ".hello-1.0.0.oci.tar.abcd.tmp", ".hello-1.0.0.image.json.abcd.tmp", ".other-1.0.0.oci.tar.abcd.tmp",
    ))
    for path in (abandoned, locked, other):
        path.write_text("half")
        os.utime(path, (1, 1))
    with locked.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        warm.build()
    assert not abandoned.exists()
    assert locked.exists()
    assert other.exists()


STOPS = [pytest.param(2, id="2"), pytest.param(25, id="25", marks=pytest.mark.long)]


@pytest.mark.parametrize("times", STOPS)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_build_leaves_no_file(
    prepared: PreparedBuild, number: signal.Signals, status: int, times: int
) -> None:
    """It ends within 2.5 s of CPU time; elapsed time would depend on the load of the machine."""
    moments, stopped, slowest = random.Random(int(number)), 0, 0.0
    cold = prepared.cache.rename(prepared.cache.with_name("cold"))
    for _ in range(times * 4):
        shutil.rmtree(prepared.cache, ignore_errors=True)
        shutil.copytree(cold, prepared.cache, copy_function=os.link)
        process = prepared.start()
        wait_for_signal_handler(process.pid)
        time.sleep(moments.uniform(0, 1))
        before = cpu_of(os.getpid())
        process.send_signal(number)
        output, _none = process.communicate(timeout=30)
        assert "Traceback" not in output or process.returncode == -signal.SIGINT
        assert prepared.temporary_files() == []
        if process.returncode in (0, -number):  # it ended before, or hatchling handled the signal
            continue
        assert process.returncode == status, output
        slowest = max(slowest, cpu_of(os.getpid()) - before)
        stopped += 1
        if stopped == times:
            break
    print(f"{stopped} stopped by {number.name}, the slowest in {slowest:.2f} s")
    assert stopped == times
    assert slowest < 2.5


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its descendants, also of those that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started = [word for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # the process has just ended
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(cpu_of(int(word)) for word in started)


def wait_for_signal_handler(pid: int) -> None:
    """Wait until a process has a handler for SIGTERM: then hatch-docker runs, as Python itself installs none."""
    for _ in range(1000):
        with contextlib.suppress(FileNotFoundError):
            caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
            if caught is None or int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.01)


def test_stopped_build_keeps_the_earlier_output(warm: PreparedBuild) -> None:
    warm.build()
    before = warm.archive.read_bytes()
    (warm.project / "hello.py").write_text("def main():\n    print('other')\n")
    process = warm.start()
    wait_for_signal_handler(process.pid)
    time.sleep(0.05)
    process.terminate()
    process.communicate()
    assert process.returncode == 143 or warm.archive.read_bytes() != before
    validate(read_archive(warm.archive))


def test_eight_parallel_builds_fetch_each_file_once(
    index: FakeIndex, registry: FakeRegistry, tmp_path: Path, cache: Path
) -> None:
    """Four copies of a project and four other projects, with the same base and wheel, and an empty cache."""
    index.add("shared", make_wheel("shared", "1.0"))
    filename = "shared-1.0-py3-none-any.whl"
    base = push_base(registry, cache, tmp_path / "base")
    projects = []
    for number in range(8):
        project = write_project("hello", tmp_path / f"p{number}", base=base)
        write_pylock(project, index, filename)
        if number >= 4:
            (project / "hello.py").write_text(f"def main():\n    print({number})\n")
        projects.append(project)
    variables = {"UV_DEFAULT_INDEX": index.url, "no_proxy": "*", "NO_PROXY": "*"}
    cold = tmp_path / "cold"
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda project: run_build(project, cold, variables=variables), projects))
    assert [outcome.status for outcome in outcomes] == [0] * 8, [outcome.output for outcome in outcomes]
    outcomes[0].item()
    outcomes[7].item()
    assert len({outcome.digest for outcome in outcomes[:4]}) == 1
    assert len({outcome.digest for outcome in outcomes}) == 5
    assert index.paths(".whl") == [f"/files/shared/{filename}"]
    requests = [request.path for request in registry.requests if request.method == "GET"]
    fetched = Counter(path for path in requests if "/blobs/" in path)
    assert set(fetched.values()) == {1}, fetched
    assert len(fetched) == 2  # the configuration and the layer


# Damage to the cache, by a user or a disk.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_owner(path: Path) -> None:
    os.chown(path, 12345, 12345)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(("base", "own", "again"), [
    (replace_by_directory, replace_by_link, truncate), (replace_by_pipe, empty, flip),
])  # fmt: skip
def test_damaged_cache_is_repaired(
    warm: PreparedBuild, base: Callable[[Path], None], own: Callable[[Path], None], again: Callable[[Path], None]
) -> None:
    """Damaged: both layers, the Python that compiles, every second fact. Symlinks are not followed; v2 stays."""
    (warm.cache / "v2").mkdir()
    names = [layer["digest"].removeprefix("sha256:") for layer in warm.build().layers]
    warm.archive.unlink()
    layers = [warm.cache / "v1/blobs" / name for name in names]
    for path, damage in zip(layers, (base, own), strict=True):
        damage(path)
    pythons = list(warm.cache.glob("v1/trees/base/*/usr/bin/python3.13"))
    for python in pythons:
        python.write_text("#!/bin/sh\nexit 7\n")
    facts = [path for path in sorted(warm.cache.glob("v1/facts/*/*")) if path.parent.name not in FETCHED_FACTS]
    damages = (flip, truncate, empty, replace_by_directory, replace_by_pipe)
    for path, damage in zip(facts[::2], cycle(damages), strict=False):
        damage(path)
    warm.build()
    assert all(path.is_file() and not path.is_symlink() for path in layers)
    assert any(python.stat().st_size > 1_000_000 for python in pythons)
    again(layers[1])
    warm.archive.unlink()
    warm.build()
    warm.check_files()
    assert (warm.cache / "v2").is_dir()


DAMAGES = (flip, truncate, empty, replace_by_link, replace_by_directory, replace_by_pipe)


@pytest.mark.parametrize("damage", [pytest.param(how, marks=[pytest.mark.long] * (how is not flip)) for how in DAMAGES])
def test_cache_with_all_entries_damaged_is_repaired(damage: Callable[[Path], None], warm: PreparedBuild) -> None:
    """Each blob, each fact and each file of each tree, except facts about Debian's archive."""
    blobs = {layer["digest"].removeprefix("sha256:") for layer in warm.build().layers}
    paths = [path for path in sorted(warm.cache.glob("v1/facts/*/*")) if path.parent.name not in FETCHED_FACTS]
    paths += [warm.cache / "v1/blobs" / name for name in blobs]
    paths += [path for path in (warm.cache / "v1/trees").rglob("*") if path.is_file() and not path.is_symlink()]
    paths = [path for path in paths if path.stat().st_size]
    for path in paths:
        damage(path)
    print(f"{len(paths)} entries: {damage.__name__}")
    assert len(paths) > 20
    warm.build()
    warm.check_files()
    assert warm.build().new_layers() == []


def test_cache_entries_of_another_owner_are_used(warm: PreparedBuild) -> None:
    """The cache may have been copied by root or from another machine."""
    if os.getuid() == 0:
        for path in [*warm.cache.glob("v1/blobs/*"), *warm.cache.glob("v1/facts/*/*")]:
            change_owner(path)
    outcome = warm.build()
    assert outcome.new_layers() == []
