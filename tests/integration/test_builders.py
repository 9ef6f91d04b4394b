"""Remote BuildKit builders, caches that builders share, and builds for other platforms."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hatch_docker.oci.model import Index
from tests.conftest import missing, need, run
from tests.fakes.buildkitd import buildkitd, network, relay
from tests.integration.builds import Outcome, build, linked_cache, require, run_build, start
from tests.integration.compare_engines import BUILDKIT, PLAIN, edit_module, new_project
from tests.integration.docker_registry import Server

pytestmark = [pytest.mark.network, pytest.mark.engine]

VERBOSE = {"HATCH_VERBOSE": "1"}
REGISTRY = "127.0.0.1:5000"  # in a separate network namespace, where every port is free


@dataclass(frozen=True)
class Builder:
    """A remote BuildKit: the variables of a build that uses it, and the address and socket of its daemon."""

    variables: Mapping[str, str]
    daemon: str
    socket: Path
    pid: Path                                 # the daemon's PID file

    def prune(self) -> None:
        run("docker", "--host", self.daemon, "builder", "prune", "--all", "--force")


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Builder, Builder]]:
    """Return two empty remote builders in a network namespace that has a registry only."""
    for program in ("dockerd", "docker", "docker-registry", "unshare", "nsenter", "ip"):
        need(program)
    if os.geteuid() != 0:
        missing("a second Docker daemon needs root")
    place = tmp_path_factory.mktemp("far")
    for name in ("one", "two"):
        (place / name).mkdir()
    settings = {"BUILDX_CONFIG": str(place / "buildx")}
    config = {
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": {"addr": REGISTRY},
        "storage": {"filesystem": {"rootdirectory": str(place / "registry")}},
    }  # fmt: skip
    (place / "registry.yml").write_text(json.dumps(config))
    with network() as inside, buildkitd(place / "one", inside) as one, buildkitd(place / "two", inside) as two:
        with (place / "log").open("wb") as log:
            command = [*inside, "docker-registry", "serve", str(place / "registry.yml")]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            project = []
            for name, (address, daemon) in (("one", one), ("two", two)):
                run("docker", "buildx", "create", "--name", name, "--driver", "remote", address, variables=settings)
                variables = {**BUILDKIT, **settings, **VERBOSE, "HATCH_DOCKER_BUILDER": name}
                project.append(Builder(variables, daemon, place / name / "docker.sock", place / name / "pid"))
            yield project[0], project[1]
        finally:
            process.terminate()
            process.wait(10)


def stages_run(outcome: Outcome) -> list[str]:
    """Return the names of the stages that a build ran."""
    return re.findall(r"^  ([a-z]+-\S+)  [\d.]+ s$", outcome.output, re.MULTILINE)


def stages_cached(outcome: Outcome) -> list[str]:
    """Return the names of the stages that a build took from a cache."""
    return re.findall(r"^  ([a-z]+-\S+)  cached", outcome.output, re.MULTILINE)


def test_remote_builder_makes_the_same_digest(builders: tuple[Builder, Builder], tmp_path: Path, cache: Path) -> None:
    """The driver is `remote`; the base is sent as an OCI layout."""
    project = new_project("extras-and-groups", tmp_path / "p")
    digest = build(project, cache, variables=PLAIN).digest
    other = build(project, cache, variables=builders[0].variables)
    assert "building in one" in other.output
    assert other.digest == digest


def test_builder_uses_a_cache_in_a_registry(builders: tuple[Builder, Builder], tmp_path: Path, cache: Path) -> None:
    """All stages come from the cache; after an edit only the project's wheel is built and installed again."""
    one, two = builders
    project = new_project("c-extension", tmp_path / "p")
    require(project, "idna")
    shared = {"HATCH_DOCKER_CACHE_FROM": f"{REGISTRY}/c-extension:cache"}
    # The compiler has 340 MB, which Docker would compress.
    to = {"HATCH_DOCKER_CACHE_TO": f"type=registry,ref={REGISTRY}/c-extension:cache,compression=uncompressed"}
    first = build(project, cache, variables={**one.variables, **shared, **to})
    assert f"nothing in the cache {REGISTRY}/c-extension:cache yet" in first.output
    assert {"environment-project", "build-project", "install-project"} <= set(stages_run(first))
    private = linked_cache(cache, tmp_path / "cache", "stage tree")
    second = build(project, private, variables={**two.variables, **shared})
    assert stages_run(second) == []
    assert {"install-packages", "environment-project", "build-project", "install-project"} <= set(stages_cached(second))
    assert second.digest == first.digest
    edit_module(project)
    edited = build(project, private, variables={**two.variables, **shared})
    assert stages_run(edited) == ["build-project", "install-project"]


def test_builder_uses_a_cache_in_a_directory(builders: tuple[Builder, Builder], tmp_path: Path, cache: Path) -> None:
    """With `cache.to` every stage is requested, known results too, because the exported cache must be complete."""
    far = replace(builders[1], variables={**BUILDKIT, **VERBOSE, "DOCKER_HOST": builders[1].daemon})
    project = new_project("extras-and-groups", tmp_path / "p")
    to = {"HATCH_DOCKER_CACHE_TO": "type=local,dest=kept"}
    first = build(project, cache, variables={**far.variables, **to})
    assert "install-project" in stages_run(first)
    far.prune()
    edit_module(project)
    edited = build(project, cache, variables={**far.variables, **to, "HATCH_DOCKER_CACHE_FROM": "type=local,src=kept"})
    assert stages_run(edited) == ["install-project"]
    assert "install-packages" in stages_cached(edited)
    unknown = build(project, cache, variables={**far.variables, **to})
    assert stages_run(unknown) == []


def test_buildkit_index_of_two_platforms_without_emulation(docker: str, tmp_path: Path, cache: Path) -> None:
    """The digest is the embedded engine's. The base for the builder's own platform installs the wheels of both."""
    project = new_project("hello", tmp_path / "p")
    require(project, "markupsafe")
    both = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64", "SOURCE_DATE_EPOCH": "1700000000"}
    digest = build(project, cache, variables={**PLAIN, **both}).digest
    private = linked_cache(cache, tmp_path / "cache", "stage tree")
    other = build(project, private, variables={**BUILDKIT, **VERBOSE, **both})
    # Compiled wheels differ; the project's pure wheel gives the same tree for both.
    assert sorted([*stages_run(other), *stages_cached(other)])[:2] == ["install-packages", "install-packages"]
    assert "install-project" in stages_run(other)
    assert other.digest == digest
    item = other.item()
    assert isinstance(item, Index)
    assert [str(image.platform) for image in item.images] == ["linux/amd64", "linux/arm64"]
    assert item.images[0].layers[-1].diff_id == item.images[1].layers[-1].diff_id


def test_compiling_for_another_platform_is_rejected(docker: str, tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p")
    refused = run_build(project, cache, variables={**BUILDKIT, "HATCH_DOCKER_PLATFORMS": "linux/arm64"})
    assert refused.status == 1
    assert re.search(r"compiler for base debian:trixie .* not for linux/arm64|has to be compiled for", refused.output)
    assert "Traceback" not in refused.output


def test_podman_uses_a_cache_in_a_registry(podman: dict[str, str], server: Server, tmp_path: Path, cache: Path) -> None:
    """In a separate repository. The digest is the embedded engine's; stages have durations, as with buildx."""
    registries = f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    (tmp_path / "registries.conf").write_text(registries)
    variables = {
        **BUILDKIT, **VERBOSE, **podman, "HATCH_DOCKER_BUILDER": "podman",
        "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
        "HATCH_DOCKER_CACHE_FROM": f"{server.host}/hello/cache", "HATCH_DOCKER_CACHE_TO": f"{server.host}/hello/cache",
    }  # fmt: skip
    project = new_project("hello", tmp_path / "p")
    digest = build(project, cache, variables=PLAIN).digest
    first = build(project, cache, variables=variables)
    assert "building in Podman" in first.output
    assert (stages_run(first), first.digest) == (["install-project"], digest)
    run("podman", "rmi", "--all", "--force", variables=podman)
    private = linked_cache(cache, tmp_path / "cache", "stage tree")
    again = build(project, private, variables=variables)
    assert stages_run(again) == []
    assert "install-project" in stages_cached(again)


PRINTING_HOOK = """
import time
for number in range(1, 31):
    print("line", number, flush=True)
time.sleep(300)
"""


def lose_builder(
    project: Path, cache: Path, variables: Mapping[str, str], action: Callable[[], None], work: Path
) -> None:
    """Run `action` during a step: the build exits with 75 and prints the step's last lines; earlier output stays."""
    (project / "hatch_build.py").write_text(f"{PRINTING_HOOK}# {secrets.token_hex()}\n")
    (project / "dist").mkdir()
    (project / "dist/c_extension-1.0.0.oci.tar").write_text("of an earlier build")
    (work / "temporary").mkdir()
    command = (sys.executable, "-m", "hatchling", "build", "-t", "docker")
    process = start(project, cache, *command, variables={**variables, "TMPDIR": str(work / "temporary")})
    assert process.stdout is not None
    with process.stdout as stream:
        lines = []
        for line in stream:
            lines.append(line.rstrip())
            if line == "line 30\n" and lines.count("line 30") == 1:
                action()
    assert process.wait() == 75, lines
    (place,) = [number for number, line in enumerate(lines) if "the builder was lost in stage build-project (" in line]
    assert lines[place].endswith("; build again:")
    assert lines[place + 1 :] == [f"line {number}" for number in range(11, 31)]
    assert [path.name for path in (project / "dist").iterdir()] == ["c_extension-1.0.0.oci.tar"]
    assert (project / "dist/c_extension-1.0.0.oci.tar").read_text() == "of an earlier build"
    assert not list((work / "temporary").iterdir())


def test_build_succeeds_after_a_cut_connection(builders: tuple[Builder, Builder], tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p")
    hook = (project / "hatch_build.py").read_text()
    variables = {**builders[0].variables, "HATCH_DOCKER_BUILDER": "cut"}
    create = ["docker", "buildx", "create", "--name", "cut", "--driver", "remote"]
    with relay(builders[0].socket) as (address, cut):
        run(*create, address, variables=variables)
        lose_builder(project, cache, variables, cut, tmp_path)
    (project / "hatch_build.py").write_text(hook)
    build(project, cache, variables=builders[0].variables)


def test_killed_daemon_fails_the_build(builders: tuple[Builder, Builder], tmp_path: Path, cache: Path) -> None:
    """This must be the last test of the module: the first remote builder is gone afterwards."""
    project = new_project("c-extension", tmp_path / "p")
    daemon = int(builders[0].pid.read_text())
    lose_builder(project, cache, builders[0].variables, lambda: os.kill(daemon, signal.SIGKILL), tmp_path)
