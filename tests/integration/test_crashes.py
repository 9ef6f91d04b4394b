"""Builds that are killed, stopped, run at once or find a damaged cache: the next one is right, and nothing is lost."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.validate import validate
from tests.fakes.index import FakeIndex, make_wheel
from tests.integration.builds import Outcome, build, run_build
from tests.projects import write_project

pytestmark = pytest.mark.network

FETCHED = ("debian-snapshot", "debian-resolution")  # what the store remembers of Debian's archive


@dataclass(frozen=True)
class Bench:
    """A project, a cache of its own with Debian's packages and nothing made of them, and the digest to come."""

    project: Path
    cache: Path
    temporary: Path
    digest: str

    @property
    def archive(self) -> Path:
        return self.project / "dist/hello-1.0.0.oci.tar"

    def start(self) -> subprocess.Popen[str]:
        variables = {
            "HATCH_DOCKER_CACHE_DIR": str(self.cache), "HATCH_DOCKER_LOAD": "never", "TMPDIR": str(self.temporary),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "hatchling", "build", "-t", "docker"], cwd=self.project, text=True,
            env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def build(self) -> Outcome:
        outcome = build(self.project, self.cache)
        outcome.item()
        assert outcome.digest == self.digest
        return outcome

    def left(self) -> list[str]:
        """Temporary files anywhere."""
        places = (self.project / "dist", self.temporary, self.cache / "v1/tmp")
        return [str(path) for place in places if place.exists() for path in place.iterdir() if is_temporary(path)]

    def sound(self) -> None:
        """No entry of the cache has other bytes than its name says, and an archive is whole or not there."""
        for path in (self.cache / "v1/blobs").iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        if self.archive.exists():
            validate(read_archive(self.archive))


def is_temporary(path: Path) -> bool:
    return path.parent.name != "dist" or path.name.startswith(".")


@pytest.fixture
def bench(tmp_path: Path, cache: Path) -> Bench:
    return make_bench(tmp_path, cache, warm=False)


@pytest.fixture
def warm(tmp_path: Path, cache: Path) -> Bench:
    """A bench whose cache has everything."""
    return make_bench(tmp_path, cache, warm=True)


def make_bench(tmp_path: Path, cache: Path, *, warm: bool) -> Bench:
    project = write_project("hello", tmp_path / "p")
    outcome = build(project, cache)
    layers = {layer["digest"].removeprefix("sha256:") for layer in outcome.receipt["platforms"][0]["layers"]}
    digest = outcome.digest
    shutil.rmtree(project / "dist")
    (tmp_path / "tmp").mkdir()
    own = tmp_path / "cache"
    for kind in (cache / "v1/facts").iterdir():
        if warm or kind.name in FETCHED:
            shutil.copytree(kind, own / "v1/facts" / kind.name)
    (own / "v1/blobs").mkdir()
    for path in (cache / "v1/blobs").iterdir():
        with path.open("rb") as stream:
            head = stream.read(8)
        fetched = head == b"!<arch>\n" or head[:6] == b"\xfd7zXZ\0"  # a .deb, a Packages.xz
        if fetched or (warm and path.name in layers):
            shutil.copy(path, own / "v1/blobs")
    if warm:
        (own / "v1/trees").symlink_to(cache / "v1/trees")
    return Bench(project, own, tmp_path / "tmp", digest)


def test_a_killed_build_poisons_nothing(bench: Bench) -> None:
    """Ten SIGKILLs at moments all over a build; then a build gives what an undisturbed one gives."""
    moments = random.Random(10)
    for _ in range(10):
        process = bench.start()
        time.sleep(moments.uniform(0.2, 1.6))
        process.kill()
        process.communicate()
        if bench.archive.exists():
            validate(read_archive(bench.archive))
            bench.archive.unlink()
    bench.sound()
    bench.build()
    bench.sound()


def test_what_a_killed_build_left_beside_its_output_is_removed_by_the_next(warm: Bench) -> None:
    """Unless somebody is still writing it."""
    warm.build()
    abandoned, held, other = (warm.project / "dist" / name for name in (
        ".hello-1.0.0.oci.tar.abcd.tmp", ".hello-1.0.0.image.json.abcd.tmp", ".other-1.0.0.oci.tar.abcd.tmp",
    ))
    for path in (abandoned, held, other):
        path.write_text("half")
        os.utime(path, (1, 1))
    with held.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        warm.build()
    assert not abandoned.exists()
    assert held.exists()
    assert other.exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_build_ends_soon_and_leaves_nothing(bench: Bench, number: signal.Signals, status: int) -> None:
    moments = random.Random(int(number))
    for _ in range(2):
        process = bench.start()
        time.sleep(moments.uniform(0.6, 1.5))
        process.send_signal(number)
        sent = time.monotonic()
        output, _none = process.communicate(timeout=30)
        assert time.monotonic() - sent < 2.5
        if process.returncode == 0:  # it was faster
            continue
        assert process.returncode == status, output
        assert "Traceback" not in output
        assert bench.left() == []


def test_an_output_of_before_is_whole_while_a_build_is_stopped(warm: Bench) -> None:
    warm.build()
    before = warm.archive.read_bytes()
    (warm.project / "hello.py").write_text("def main():\n    print('other')\n")
    process = warm.start()
    time.sleep(0.35)
    process.terminate()
    process.communicate()
    assert process.returncode == 143 or warm.archive.read_bytes() != before
    validate(read_archive(warm.archive))


def test_eight_builds_at_once_download_everything_once(bench: Bench, index: FakeIndex) -> None:
    """Four of one project in four places, four of others that share a wheel with it, and a cold cache."""
    index.add("shared", make_wheel("shared", "1.0"))
    filename = "shared-1.0-py3-none-any.whl"
    url = f"{index.url.removesuffix('/simple')}/files/shared/{filename}"
    projects = []
    for number in range(8):
        made = write_project("hello", bench.project.parent / f"p{number}")
        text = (made / "pyproject.toml").read_text()
        asking = text.replace("requires-python", 'dependencies = ["shared"]\nrequires-python')
        (made / "pyproject.toml").write_text(asking)
        (made / "pylock.toml").write_text(
            'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "shared"\nversion = "1.0"\n'
            f'[[packages.wheels]]\nname = "{filename}"\nurl = "{url}"\n'
            f'hashes = {{sha256 = "{index.sha256(filename)}"}}\n'
        )
        if number >= 4:
            (made / "hello.py").write_text(f"def main():\n    print({number})\n")
        projects.append(made)
    variables = {"UV_DEFAULT_INDEX": index.url, "no_proxy": "*", "NO_PROXY": "*"}
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda made: run_build(made, bench.cache, variables=variables), projects))
    assert [outcome.status for outcome in outcomes] == [0] * 8, [outcome.output for outcome in outcomes]
    outcomes[0].item()
    outcomes[7].item()
    assert len({outcome.digest for outcome in outcomes[:4]}) == 1
    assert len({outcome.digest for outcome in outcomes}) == 5
    assert index.paths(".whl") == [f"/files/shared/{filename}"]


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex().serving() as serving:
        yield serving


# Somebody, or a disk, damages the cache.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def become_a_link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(("base", "own"), [(flip, become_a_link), (become_a_directory, truncate)])
def test_a_damaged_cache_is_found_and_mended(
    warm: Bench, base: Callable[[Path], None], own: Callable[[Path], None]
) -> None:
    """Both layers, and every second fact; what is outside of the cache is not read through a link. v2 is not ours."""
    (warm.cache / "v2").mkdir()
    names = [layer["digest"].removeprefix("sha256:") for layer in warm.build().receipt["platforms"][0]["layers"]]
    warm.archive.unlink()
    layers = [warm.cache / "v1/blobs" / name for name in names]
    for path, damage in zip(layers, (base, own), strict=True):
        damage(path)
    facts = [path for path in sorted(warm.cache.glob("v1/facts/*/*")) if path.parent.name not in FETCHED]
    for path, damage in zip(facts[::2], cycle((flip, truncate, empty, become_a_directory)), strict=False):
        damage(path)
    warm.build()
    assert all(path.is_file() and not path.is_symlink() for path in layers)
    warm.sound()
    assert (warm.cache / "v2").is_dir()
