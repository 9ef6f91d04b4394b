"""SIGKILL at any moment of a build, a pull, a push; whatever it left, the next run is right."""

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
from tests.integration.prepared_build import Prepared, prepare_build, serve_base
from tests.projects import write_project

pytestmark = pytest.mark.network

EARLIEST = 0.15  # seconds: before that there is nothing of ours


@dataclass(frozen=True)
class Scene:
    """A program that is killed; `sound` checks what is left, `done` what a run to the end made, `reset` begins anew."""

    prepared: Prepared
    program: tuple[str, ...]
    sound: Callable[[], None]
    done: Callable[[], None]
    reset: Callable[[], None]

    def run(self) -> float:
        """Run to the end; how many seconds it took."""
        start = time.monotonic()
        process = self.prepared.start(*self.program)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        self.sound()
        self.done()
        return time.monotonic() - start


def built(tmp_path: Path, cache: Path, _registry: FakeRegistry) -> Scene:
    """A build with Debian's packages at hand, and all else to be made."""
    prepared = prepare_build(tmp_path, cache, warm=False)
    cold = tmp_path / "cold"
    prepared.cache.rename(cold)
    return _building(prepared, lambda: shutil.copytree(cold, prepared.cache, copy_function=os.link))


def rebuilt(tmp_path: Path, cache: Path, _registry: FakeRegistry) -> Scene:
    """A build after an edit, with the base at hand and the project's layer to be made."""
    prepared = prepare_build(tmp_path, cache, warm=True)
    (prepared.project / "hello.py").write_text("def main():\n    print('edited')\n")
    warm = tmp_path / "warm"
    shutil.copytree(prepared.cache, warm, symlinks=True)
    digest = build(prepared.project, prepared.cache).digest

    def fill() -> None:
        shutil.copytree(warm, prepared.cache, symlinks=True, copy_function=os.link)

    return _building(replace(prepared, digest=digest), fill)


def pulled(tmp_path: Path, cache: Path, registry: FakeRegistry) -> Scene:
    """A build on a base that is in a registry, with an empty cache."""
    base = serve_base(registry, cache, tmp_path / "base")
    project = write_project("hello", tmp_path / "p", base=base)
    digest = build(project, tmp_path / "undisturbed").digest
    (tmp_path / "tmp").mkdir()
    return _building(Prepared(project, tmp_path / "cache", tmp_path / "tmp", digest), lambda: None)


def _building(prepared: Prepared, fill: Callable[[], object]) -> Scene:
    def reset() -> None:
        for path in (prepared.cache, prepared.project / "dist"):
            shutil.rmtree(path, ignore_errors=True)
        fill()

    def done() -> None:
        (receipt,) = (prepared.project / "dist").glob("*.image.json")
        assert json.loads(receipt.read_bytes())["digest"] == prepared.digest
        assert prepared.archive.exists()

    return Scene(prepared, (), prepared.sound, done, reset)


def pushed(tmp_path: Path, cache: Path, registry: FakeRegistry) -> Scene:
    """A push of an archive to a registry without anything of it."""
    project = write_project("hello", tmp_path / "p")
    digest = build(project, cache).digest
    (tmp_path / "tmp").mkdir()

    def sound() -> None:
        for repository in registry.repositories.values():
            for name, data in repository.blobs.items():
                assert hashlib.sha256(data).hexdigest() == name.removeprefix("sha256:")
            for _, manifest in repository.manifests.values():
                found = json.loads(manifest)
                for item in [*found.get("layers", []), *([found["config"]] if "config" in found else [])]:
                    assert item["digest"] in repository.blobs
                assert all(item["digest"] in repository.manifests for item in found.get("manifests", []))

    def done() -> None:
        assert digest in registry.repositories["hello"].manifests
        assert "1.0.0" in registry.repositories["hello"].manifests

    program = ("hatch_docker", "push", "--registry", registry.host)
    prepared = Prepared(project, cache, tmp_path / "tmp", digest)
    return Scene(prepared, program, sound, done, registry.repositories.clear)


def kill(scene: Scene, moment: float) -> bool:
    """Kill a run, unless it was faster; whether it was killed."""
    process = scene.prepared.start(*scene.program)
    time.sleep(moment)
    process.kill()
    process.communicate()
    scene.sound()
    return process.returncode != 0


Make = Callable[[Path, Path, FakeRegistry], Scene]


@pytest.mark.parametrize(("make", "kills", "within"), [(built, 8, 1.6), (pulled, 5, 1.2), (pushed, 5, 0.5)])
def test_after_many_kills(
    make: Make, kills: int, within: float, registry: FakeRegistry, tmp_path: Path, shared: Path
) -> None:
    """Each run finds what those before it left."""
    scene = make(tmp_path, shutil.copytree(shared / "hello", tmp_path / "first", symlinks=True), registry)
    scene.reset()
    moments = random.Random(kills)
    killed = sum(kill(scene, moments.uniform(EARLIEST, within)) for _ in range(kills))
    assert killed > 1
    scene.run()
    for path in map(Path, scene.prepared.left()):
        os.utime(path, (1000, 1000))  # what was begun within five seconds may be somebody's
    scene.run()
    assert scene.prepared.left() == []


@pytest.mark.long
@pytest.mark.parametrize(("make", "kills"), [(built, 20), (rebuilt, 60), (pulled, 60), (pushed, 60)])
def test_two_hundred_are_killed(make: Make, kills: int, registry: FakeRegistry, tmp_path: Path, shared: Path) -> None:
    """Each from the start, each run to the end after it."""
    scene = make(tmp_path, shutil.copytree(shared / "hello", tmp_path / "first", symlinks=True), registry)
    scene.reset()
    takes = scene.run()
    killed = 0
    moments = random.Random(kills)
    while killed < kills:
        scene.reset()
        killed += kill(scene, moments.uniform(EARLIEST, takes))
        takes = min(takes, scene.run())  # or most would end before they are killed, once a busy machine is so no more
    print(f"{killed} of {killed} {make.__name__}, killed within {takes:.1f} s")
