"""Builders that are not this machine's daemon, what they share through caches, and platforms that are not theirs."""

import json
import os
import re
import secrets
import shutil
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
from tests.integration.builds import Outcome, build, require, run_build, start
from tests.integration.compare_engines import BUILDKIT, PLAIN, edit_module, project
from tests.integration.docker_registry import Server

pytestmark = [pytest.mark.network, pytest.mark.engine]

VERBOSE = {"HATCH_VERBOSE": "1"}
REGISTRY = "127.0.0.1:5000"  # in a network of its own, where every port is free


@dataclass(frozen=True)
class Far:
    """A BuildKit far away: the variables of a build that takes place there, and its daemon."""

    variables: Mapping[str, str]
    daemon: str
    socket: Path
    pid: Path                                 # the file that has the daemon's

    def prune(self) -> None:
        run("docker", "--host", self.daemon, "builder", "prune", "--all", "--force")


@pytest.fixture(scope="module")
def fars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Far, Far]]:
    """Two of them, each empty, in a network with a registry and nothing else."""
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
            made = []
            for name, (address, daemon) in (("one", one), ("two", two)):
                run("docker", "buildx", "create", "--name", name, "--driver", "remote", address, variables=settings)
                variables = {**BUILDKIT, **settings, **VERBOSE, "HATCH_DOCKER_BUILDER": name}
                made.append(Far(variables, daemon, place / name / "docker.sock", place / name / "pid"))
            yield made[0], made[1]
        finally:
            process.terminate()
            process.wait(10)


def ran(outcome: Outcome) -> list[str]:
    """The stages that a build had to run."""
    return re.findall(r"^  ([a-z]+-\S+)  [\d.]+ s$", outcome.output, re.MULTILINE)


def cached(outcome: Outcome) -> list[str]:
    """Those that it took out of a cache."""
    return re.findall(r"^  ([a-z]+-\S+)  cached", outcome.output, re.MULTILINE)


def forget(cache: Path) -> None:
    """Make it the cache of a machine that has the same packages and bases, and never built a stage."""
    shutil.rmtree(cache / "v1/facts/stage tree")


def test_a_far_builder_makes_it(fars: tuple[Far, Far], tmp_path: Path, cache: Path) -> None:
    """By the driver `remote`; the base is handed over as a layout."""
    made = project("extras-and-groups", tmp_path / "p")
    digest = build(made, cache, variables=PLAIN).digest
    other = build(made, cache, variables=fars[0].variables)
    assert "building in one" in other.output
    assert other.digest == digest


def test_an_empty_builder_uses_a_cache_in_a_registry(fars: tuple[Far, Far], tmp_path: Path, cache: Path) -> None:
    """Dependencies and builder stages too: of compiled code only what an edit touches is compiled again."""
    one, two = fars
    made = project("c-extension", tmp_path / "p")
    require(made, "idna")
    shared = {"HATCH_DOCKER_CACHE_FROM": f"{REGISTRY}/c-extension:cache"}
    # The compiler has 340 MB, which Docker would compress.
    to = {"HATCH_DOCKER_CACHE_TO": f"type=registry,ref={REGISTRY}/c-extension:cache,compression=uncompressed"}
    first = build(made, cache, variables={**one.variables, **shared, **to})
    assert f"nothing in the cache {REGISTRY}/c-extension:cache yet" in first.output
    assert {"environment-project", "build-project", "install-project"} <= set(ran(first))
    forget(cache)
    second = build(made, cache, variables={**two.variables, **shared})
    assert ran(second) == []
    assert {"install-packages", "environment-project", "build-project", "install-project"} <= set(cached(second))
    assert second.digest == first.digest
    edit_module(made)
    edited = build(made, cache, variables={**two.variables, **shared})
    assert ran(edited) == ["build-project", "install-project"]


def test_an_empty_builder_uses_a_cache_in_a_directory(fars: tuple[Far, Far], tmp_path: Path, cache: Path) -> None:
    """And with `cache.to` every stage is asked for, also those whose trees we know: a shared cache must be whole."""
    far = replace(fars[1], variables={**BUILDKIT, **VERBOSE, "DOCKER_HOST": fars[1].daemon})
    made = project("extras-and-groups", tmp_path / "p")
    to = {"HATCH_DOCKER_CACHE_TO": "type=local,dest=kept"}
    first = build(made, cache, variables={**far.variables, **to})
    assert "install-project" in ran(first)
    far.prune()
    edit_module(made)
    edited = build(made, cache, variables={**far.variables, **to, "HATCH_DOCKER_CACHE_FROM": "type=local,src=kept"})
    assert ran(edited) == ["install-project"]
    assert "install-packages" in cached(edited)
    unknown = build(made, cache, variables={**far.variables, **to})
    assert ran(unknown) == []


def test_two_platforms_are_one_index_without_emulation(docker: str, tmp_path: Path, cache: Path) -> None:
    """The embedded engine's, digest and all: wheels are installed by the same base for the builder's own platform."""
    made = project("hello", tmp_path / "p")
    require(made, "markupsafe")
    both = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64", "SOURCE_DATE_EPOCH": "1700000000"}
    digest = build(made, cache, variables={**PLAIN, **both}).digest
    forget(cache)
    other = build(made, cache, variables={**BUILDKIT, **VERBOSE, **both})
    # Compiled wheels differ, the project's pure one is the same tree for both.
    assert sorted([*ran(other), *cached(other)])[:2] == ["install-packages", "install-packages"]
    assert "install-project" in ran(other)
    assert other.digest == digest
    item = other.item()
    assert isinstance(item, Index)
    assert [str(image.platform) for image in item.images] == ["linux/amd64", "linux/arm64"]
    assert item.images[0].layers[-1].diff_id == item.images[1].layers[-1].diff_id


def test_code_cannot_be_compiled_for_a_platform_without_a_builder(docker: str, tmp_path: Path, cache: Path) -> None:
    made = project("c-extension", tmp_path / "p")
    refused = run_build(made, cache, variables={**BUILDKIT, "HATCH_DOCKER_PLATFORMS": "linux/arm64"})
    assert refused.status == 1
    assert re.search(r"compiler for base debian:trixie .* not for linux/arm64|has to be compiled for", refused.output)
    assert "Traceback" not in refused.output


def test_podman_shares_by_a_registry(podman: dict[str, str], server: Server, tmp_path: Path, cache: Path) -> None:
    """In a repository of their own; the digest is the embedded engine's; stages have their times, as with buildx."""
    registries = f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    (tmp_path / "registries.conf").write_text(registries)
    variables = {
        **BUILDKIT, **VERBOSE, **podman, "HATCH_DOCKER_BUILDER": "podman",
        "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
        "HATCH_DOCKER_CACHE_FROM": f"{server.host}/hello/cache", "HATCH_DOCKER_CACHE_TO": f"{server.host}/hello/cache",
    }  # fmt: skip
    made = project("hello", tmp_path / "p")
    digest = build(made, cache, variables=PLAIN).digest
    first = build(made, cache, variables=variables)
    assert "building in Podman" in first.output
    assert (ran(first), first.digest) == (["install-project"], digest)
    run("podman", "rmi", "--all", "--force", variables=podman)
    forget(cache)
    again = build(made, cache, variables=variables)
    assert ran(again) == []
    assert "install-project" in cached(again)


TALKS = """
import time
for number in range(1, 31):
    print("line", number, flush=True)
time.sleep(300)
"""


def interrupted(made: Path, cache: Path, variables: Mapping[str, str], action: Callable[[], None], work: Path) -> None:
    """Run `action` during a step: the build ends with its last lines and status 75, and earlier output stays."""
    (made / "hatch_build.py").write_text(f"{TALKS}# {secrets.token_hex()}\n")
    (made / "dist").mkdir()
    (made / "dist/c_extension-1.0.0.oci.tar").write_text("of an earlier build")
    (work / "temporary").mkdir()
    command = (sys.executable, "-m", "hatchling", "build", "-t", "docker")
    process = start(made, cache, *command, variables={**variables, "TMPDIR": str(work / "temporary")})
    assert process.stdout is not None
    with process.stdout as stream:
        said = []
        for line in stream:
            said.append(line.rstrip())
            if line == "line 30\n" and said.count("line 30") == 1:
                action()
    assert process.wait() == 75, said
    (place,) = [number for number, line in enumerate(said) if "the builder was lost in stage build-project (" in line]
    assert said[place].endswith("; build again:")
    assert said[place + 1 :] == [f"line {number}" for number in range(11, 31)]
    assert [path.name for path in (made / "dist").iterdir()] == ["c_extension-1.0.0.oci.tar"]
    assert (made / "dist/c_extension-1.0.0.oci.tar").read_text() == "of an earlier build"
    assert not list((work / "temporary").iterdir())


def test_the_build_after_a_cut_stream_succeeds(fars: tuple[Far, Far], tmp_path: Path, cache: Path) -> None:
    made = project("c-extension", tmp_path / "p")
    hook = (made / "hatch_build.py").read_text()
    variables = {**fars[0].variables, "HATCH_DOCKER_BUILDER": "cut"}
    create = ["docker", "buildx", "create", "--name", "cut", "--driver", "remote"]
    with relay(fars[0].socket) as (address, cut):
        run(*create, address, variables=variables)
        interrupted(made, cache, variables, cut, tmp_path)
    (made / "hatch_build.py").write_text(hook)
    build(made, cache, variables=fars[0].variables)


def test_a_daemon_that_is_killed_ends_a_build(fars: tuple[Far, Far], tmp_path: Path, cache: Path) -> None:
    """The last of this module's tests: the far builder is gone."""
    made = project("c-extension", tmp_path / "p")
    daemon = int(fars[0].pid.read_text())
    interrupted(made, cache, fars[0].variables, lambda: os.kill(daemon, signal.SIGKILL), tmp_path)
