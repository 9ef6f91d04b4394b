"""SIGKILL at any moment of a build, a pull or a push: the next run is right."""

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build
from tests.integration.prepared_build import PreparedBuild, prepare_build, push_base
from tests.projects import write_project

pytestmark = pytest.mark.network

EARLIEST = 0.15  # seconds; before, hatch-docker has not started to work


@dataclass(frozen=True)
class Scenario:
    """A program to kill. `check_files` runs after each kill, `check_result` after a full run; `reset` starts again."""

    prepared: PreparedBuild
    program: tuple[str, ...]
    check_files: Callable[[], None]
    check_result: Callable[[], None]
    reset: Callable[[], None]

    def run(self) -> float:
        """Run the program to its end; return the duration in seconds."""
        start = time.monotonic()
        process = self.prepared.start(*self.program)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        self.check_files()
        self.check_result()
        return time.monotonic() - start


def first_build(tmp_path: Path, cache: Path, _registry: FakeRegistry) -> Scenario:
    """Prepare a build with Debian's packages in the cache; everything else has to be made."""
    prepared = prepare_build(tmp_path, cache, warm=False)
    cold = tmp_path / "cold"
    prepared.cache.rename(cold)
    return _building(prepared, lambda: shutil.copytree(cold, prepared.cache, copy_function=os.link))


def edited_build(tmp_path: Path, cache: Path, _registry: FakeRegistry) -> Scenario:
    """Prepare a build after an edit: the base is in the cache, the project's layer has to be made."""
    prepared = prepare_build(tmp_path, cache, warm=True)
    (prepared.project / "hello.py").write_text("def main():\n    print('edited')\n")
    warm = tmp_path / "warm"
    shutil.copytree(prepared.cache, warm, symlinks=True)
    digest = build(prepared.project, prepared.cache).digest

    def fill() -> None:
        shutil.copytree(warm, prepared.cache, symlinks=True, copy_function=os.link)

    return _building(replace(prepared, digest=digest), fill)


def pull(tmp_path: Path, cache: Path, registry: FakeRegistry) -> Scenario:
    """Prepare a build with an empty cache and a base in a registry."""
    base = push_base(registry, cache, tmp_path / "base")
    project = write_project("hello", tmp_path / "p", base=base)
    digest = build(project, tmp_path / "undisturbed").digest
    (tmp_path / "tmp").mkdir()
    return _building(PreparedBuild(project, tmp_path / "cache", tmp_path / "tmp", digest), lambda: None)


def _building(prepared: PreparedBuild, fill: Callable[[], object]) -> Scenario:
    def reset() -> None:
        for path in (prepared.cache, prepared.project / "dist"):
            shutil.rmtree(path, ignore_errors=True)
        fill()

    def check_result() -> None:
        (receipt,) = (prepared.project / "dist").glob("*.image.json")
        assert json.loads(receipt.read_bytes())["digest"] == prepared.digest
        assert prepared.archive.exists()

    return Scenario(prepared, (), prepared.check_files, check_result, reset)


def push(tmp_path: Path, cache: Path, registry: FakeRegistry) -> Scenario:
    """Prepare a push of an archive to an empty registry."""
    project = write_project("hello", tmp_path / "p")
    digest = build(project, cache).digest
    (tmp_path / "tmp").mkdir()

    def check_files() -> None:
        for repository in registry.repositories.values():
            for name, data in repository.blobs.items():
                assert hashlib.sha256(data).hexdigest() == name.removeprefix("sha256:")
            for _, manifest in repository.manifests.values():
                found = json.loads(manifest)
                for item in [*found.get("layers", []), *([found["config"]] if "config" in found else [])]:
                    assert item["digest"] in repository.blobs
                assert all(item["digest"] in repository.manifests for item in found.get("manifests", []))

    def check_result() -> None:
        assert digest in registry.repositories["hello"].manifests
        assert "1.0.0" in registry.repositories["hello"].manifests

    program = ("hatch_docker", "push", "--registry", registry.host)
    prepared = PreparedBuild(project, cache, tmp_path / "tmp", digest)
    return Scenario(prepared, program, check_files, check_result, registry.repositories.clear)


def kill(scenario: Scenario, moment: float) -> bool:
    """Start a run and kill it after `moment` seconds; return False if it had ended before."""
    process = scenario.prepared.start(*scenario.program)
    time.sleep(moment)
    process.kill()
    process.communicate()
    scenario.check_files()
    return process.returncode != 0


Make = Callable[[Path, Path, FakeRegistry], Scenario]


@pytest.mark.parametrize(("make", "kills", "within"), [(first_build, 8, 1.6), (pull, 5, 1.2), (push, 5, 0.5)])
def test_run_after_several_kills(
    make: Make, kills: int, within: float, registry: FakeRegistry, tmp_path: Path, shared: Path
) -> None:
    """All runs use the same cache and output directory."""
    scenario = make(tmp_path, shutil.copytree(shared / "hello", tmp_path / "first", symlinks=True), registry)
    scenario.reset()
    moments = random.Random(kills)
    killed = sum(kill(scenario, moments.uniform(EARLIEST, within)) for _ in range(kills))
    assert killed > 1
    scenario.run()
    for path in map(Path, scenario.prepared.temporary_files()):
        os.utime(path, (1000, 1000))  # files younger than five seconds may belong to a running build
    scenario.run()
    assert scenario.prepared.temporary_files() == []


@pytest.mark.long
@pytest.mark.parametrize(("make", "kills"), [(first_build, 20), (edited_build, 60), (pull, 60), (push, 60)])
def test_run_after_each_kill(make: Make, kills: int, registry: FakeRegistry, tmp_path: Path, shared: Path) -> None:
    """Each killed run starts from a new state and is followed by a full run."""
    scenario = make(tmp_path, shutil.copytree(shared / "hello", tmp_path / "first", symlinks=True), registry)
    scenario.reset()
    duration = scenario.run()
    killed = 0
    moments = random.Random(kills)
    while killed < kills:
        scenario.reset()
        killed += kill(scenario, moments.uniform(EARLIEST, duration))
        duration = min(duration, scenario.run())  # else most runs end before the kill on a less busy machine
    print(f"{killed} of {killed} {make.__name__}, killed within {duration:.1f} s")
