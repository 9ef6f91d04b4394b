"""What the BuildKit engine tells when it cannot build, and what it makes of buildx's own log."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.context import Context, open_context
from hatch_docker.engines.buildx import Buildx, Order, find_builder, load_handed
from hatch_docker.engines.podman import Podman, PodmanLog
from hatch_docker.engines.rawjson import Log
from hatch_docker.engines.recipe import Handed
from hatch_docker.errors import BuildError, DaemonError
from hatch_docker.oci.model import Platform
from hatch_docker.plan import CachePlan
from hatch_docker.progress import Progress, silent
from hatch_docker.screen import Screen
from tests.fakes.bases import python_image

INSPECT = "Name: default\nDriver: docker\n"


def shims(directory: Path, **programs: str) -> Context:
    """A machine whose PATH has these programs, each a shell script."""
    place = directory / "bin"
    place.mkdir()
    for name, script in programs.items():
        path = place / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return open_context({"PATH": str(place), "HATCH_DOCKER_CACHE_DIR": str(directory / "cache")}, silent())


def docker(version: str = "buildx v0.13.1 0", inspect: str = INSPECT, *, fails: bool = False) -> str:
    ending = ">&2; exit 1" if fails else ""
    return f"case \"$2\" in version) echo '{version}';; inspect) echo '{inspect}' {ending};; esac"


@pytest.mark.parametrize(
    ("programs", "name", "message"),
    [
        ({}, "", "needs Docker with buildx, or Podman, and neither is in PATH"),
        ({"docker": docker()}, "podman", "podman is not in PATH"),
        ({"docker": "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1"}, "", "its buildx is not"),
        ({"docker": docker("github.com/docker/buildx v0.11.2 9872040")}, "", "buildx 0.11 is too old; get 0.13"),
        ({"docker": docker(inspect="ERROR: no builder \"far\" found", fails=True)}, "far", "has no builder 'far'"),
        (
            {"docker": docker(inspect=INSPECT + "Error: Cannot connect to the Docker daemon at unix:///x. Is it up?")},
            "", "no Docker daemon answers",
        ),
        (
            {"docker": docker(inspect="ERROR: permission denied while trying to connect to the Docker daemon socket",
                              fails=True)},
            "", "may not talk to Docker",
        ),
        (
            {"docker": docker(inspect=INSPECT + "Error: dial tcp: lookup far.example: no such host")},
            "", "no Docker daemon answers",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line_with_a_way_out(
    programs: dict[str, str], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DaemonError) as error:
        find_builder(name, shims(tmp_path, **programs))
    assert message in str(error.value)
    assert 'engine = "embedded"' in str(error.value)
    assert "\n" not in str(error.value)


def test_docker_comes_first_and_podman_where_it_is_alone(tmp_path: Path) -> None:
    both = shims(tmp_path, docker=docker(), podman="")
    assert isinstance(find_builder("", both), Buildx)
    assert isinstance(find_builder("podman", both), Podman)
    (tmp_path / "bin/docker").unlink()
    assert isinstance(find_builder("", both), Podman)


def test_the_driver_of_a_named_builder_is_known(tmp_path: Path) -> None:
    found = find_builder("far", shims(tmp_path, docker=docker(inspect="Name: far\nDriver: remote\n")))
    assert isinstance(found, Buildx)
    assert (found.name, found.driver, found.version, found.far) == ("far", "remote", (0, 13), True)
    assert found.platforms == ()


def test_what_a_builder_runs_is_known(tmp_path: Path) -> None:
    """Its own platform comes first, then those of its other nodes; an asterisk is one that its owner chose."""
    inspect = f"{INSPECT}\nNodes:\nName: a\nPlatforms:  linux/amd64*, linux/amd64/v2\nName: b\nPlatforms: linux/arm64\n"
    found = find_builder("", shims(tmp_path, docker=docker(inspect=inspect)))
    assert found.platforms == ("linux/amd64", "linux/amd64/v2", "linux/arm64")
    assert not found.far


@pytest.mark.parametrize(
    ("driver", "far"),
    [("docker", False), ("docker-container", True), ("remote", True), ("kubernetes", True), ("cloud", True)],
)
def test_images_are_sent_to_every_driver_but_the_daemon_s_own(driver: str, far: bool, tmp_path: Path) -> None:
    """As layouts: no driver but `docker` has a store that an image could be loaded into."""
    found = find_builder("some", shims(tmp_path, docker=docker(inspect=f"Name: some\nDriver: {driver}\n")))
    assert found.far is far


BOOT = {"digest": "sha256:5", "name": "[internal] booting buildkit"}
WAIT = {"digest": "sha256:5", "name": "[internal] waiting for connection"}
EXPORT = {"digest": "sha256:5", "name": "exporting cache to registry"}
NO_EXPORT = "ERROR: Cache export is not supported for the docker driver.\nSwitch to a different driver, and try again."


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            json.dumps({"vertexes": [{**BOOT, "error": "no such image"}]}),
            "builder 'far' (driver kubernetes) does not start: no such image; `docker buildx inspect --bootstrap far`",
        ),
        (json.dumps({"vertexes": [{**WAIT, "error": "deadline exceeded"}]}), "does not start: deadline exceeded"),
        (
            json.dumps({"vertexes": [{**EXPORT, "error": "connection refused"}]}),
            "exporting cache to registry failed (connection refused); with ignore-error=true in cache.to",
        ),
        (NO_EXPORT, "tool.hatch-docker.cache.to: Cache export is not supported for the docker driver; name a builder"),
        ("ERROR: Cannot connect to the Docker daemon at unix:///x. Is it up?", "no Docker daemon answers"),
        ("ERROR: something new", "docker buildx cannot build: something new; look at `docker buildx inspect far`"),
    ],
)  # fmt: skip
def test_what_fails_before_any_step_is_one_line(said: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(said)
    ctx = shims(tmp_path, docker=f"{shutil.which('cat')} {tmp_path}/said >&2; exit 1")
    with pytest.raises((BuildError, DaemonError)) as error:
        Buildx(str(tmp_path / "bin/docker"), "far", "kubernetes").build(order(tmp_path), ctx)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def order(path: Path) -> Order:
    return Order(path, path, path, Platform("linux", "amd64"), (), CachePlan(), path, ())


def test_a_login_that_a_cache_needs_is_hidden_where_buildx_says_it(tmp_path: Path) -> None:
    ctx = shims(tmp_path, docker='echo "ERROR: gha: bad token $ACTIONS_RUNTIME_TOKEN" >&2; exit 1')
    ctx = replace(ctx, environ={**ctx.environ, "ACTIONS_RUNTIME_TOKEN": "s3cret-0123456789"})
    with pytest.raises(DaemonError, match=r"gha: bad token \*\*\*;"):
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(order(tmp_path), ctx)


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_an_image_that_cannot_be_loaded_is_one_line(program: str, tmp_path: Path) -> None:
    """It names the program that refused it."""
    ctx = shims(tmp_path, **{program: "echo 'no space left on device' >&2; exit 1"})
    with pytest.raises(DaemonError) as error:
        load_handed([str(tmp_path / "bin" / program)], Handed("hatch-docker/base:1", python_image()), ctx)
    assert str(error.value).startswith(f"{program} cannot build: no space left on device; ")


def log_of(*values: dict[str, object], indent: int | None = None) -> tuple[Log, list[str]]:
    told: list[str] = []
    log = Log(Progress(told.append))
    for value in values:
        for line in json.dumps(value, indent=indent).splitlines():
            log.feed(line)
    return log, told


STEP = {"digest": "sha256:1", "name": "[install-numpy 2/2] RUN --network=none python"}
DONE = {**STEP, "started": "2026-01-01T00:00:00.5Z", "completed": "2026-01-01T00:00:02.123456789Z"}


@pytest.mark.parametrize("indent", [None, 2])
def test_a_stage_is_told_with_its_time_once(indent: int | None) -> None:
    """Whether an object is one line, as with a newer buildx, or many."""
    log, told = log_of({"vertexes": [STEP]}, {"vertexes": [DONE]}, {"vertexes": [DONE]}, indent=indent)
    assert told == ["  install-numpy  1.6 s"]
    assert not log.failed


def test_a_stage_is_on_the_screen_while_it_runs() -> None:
    """Of a terminal; what still runs when the build ends, however it ends, goes as well."""
    told: list[str] = []
    screen = Screen(told.append)
    log = Log(Progress(told.append, 0, screen))
    begun = {**STEP, "started": DONE["started"]}
    other = {**begun, "digest": "sha256:2", "name": "[build-project 1/1] RUN cc"}
    log.feed(json.dumps({"vertexes": [begun, other]}))
    assert [task.title for task in screen.tasks] == ["stage install-numpy", "stage build-project"]
    log.feed(json.dumps({"vertexes": [DONE]}))
    assert [task.title for task in screen.tasks] == ["stage build-project"]
    assert told == ["   1.6 s    stage install-numpy"]
    log.close()
    assert not screen.tasks


def test_a_stage_that_was_there_is_a_detail() -> None:
    assert log_of({"vertexes": [{**DONE, "started": DONE["completed"], "cached": True}]})[1] == []


def test_a_stage_that_a_cache_sent_did_not_run() -> None:
    """Its layers are fetched and unpacked, each of which starts and completes; the line says what took the time."""
    fetched = {**STEP, "started": "2026-01-01T00:00:00.5Z", "completed": "2026-01-01T00:00:09Z"}
    whole = {**fetched, "completed": "2026-01-01T00:00:10Z", "cached": True}
    begun = {**STEP, "started": "2026-01-01T00:00:00.5Z", "cached": True}
    _, told = log_of({"vertexes": [begun]}, {"vertexes": [fetched]}, {"vertexes": [whole]})
    assert told == ["  install-numpy  cached, fetched in 9.5 s"]


def test_a_cache_that_cannot_be_read_is_no_failure() -> None:
    """It is told, and what fails afterwards is what failed."""
    name = "importing cache manifest from registry.example/app:cache"
    missing = {"digest": "sha256:7", "name": name, "error": "failed: registry.example/app:cache: not found"}
    refused = {"digest": "sha256:8", "name": name, "error": "failed to do request: connection refused"}
    log, told = log_of({"vertexes": [missing]}, {"vertexes": [refused]}, {"vertexes": [refused]})
    assert told == [
        "  nothing in the cache registry.example/app:cache yet",
        "warning: the cache registry.example/app:cache is not used: failed to do request: connection refused",
    ]
    assert not log.failed


PODMAN = """\
[1/3] STEP 1/1: FROM hatch-docker/base:1 AS base
--> 9e413c5e1f0a
[2/3] STEP 1/2: FROM 9e413c5e1f0a AS install-numpy
[2/3] STEP 2/2: RUN --network=none ["/usr/bin/python3.13"]
compiling
no line end--> 054a2550d44e
[3/3] STEP 1/3: FROM 9e413c5e1f0a AS build-project
[3/3] STEP 2/3: RUN --network=none ["true"]
--> Using cache b3a537b910633de6de75cdf968ff8893ef6ae09565a72ac48ba1e7dda15acf01
--> b3a537b91063
[3/3] STEP 3/3: RUN --network=none ["cc"]
x.c:1: error: no luck
"""


def test_podman_s_stages_are_told_with_their_times() -> None:
    told: list[str] = []
    ticks = iter(range(100))
    log = PodmanLog(Progress(told.append), lambda: next(ticks))
    for line in PODMAN.splitlines():
        log.feed(line)
    assert told == ["  install-numpy  1.0 s"]
    last = 'Error: building at STEP "RUN --network=none": while running runtime: exit status 3'
    log.feed(last)
    assert log.explain(last) == "stage build-project failed (exit status 3):\nx.c:1: error: no luck"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_failed_step_shows_its_last_20_lines(indent: int | None) -> None:
    """And nobody else's, nor the steps that were cancelled because of it."""
    lines = "".join(f"line {number}\n" for number in range(30))
    log, _ = log_of(
        {"logs": [{"vertex": "sha256:1", "stream": 2, "data": base64.b64encode(lines.encode()).decode()}]},
        {"logs": [{"vertex": "sha256:2", "stream": 1, "data": base64.b64encode(b"other").decode()}]},
        {"vertexes": [{"digest": "sha256:2", "name": "x", "error": "context canceled"}]},
        {"vertexes": [{**STEP, "error": 'process "python" did not complete successfully: exit code: 1'}]},
        indent=indent,
    )
    told = log.explain().splitlines()
    assert told[0] == "stage install-numpy failed (exit status 1):"
    assert told[1:] == [f"line {number}" for number in range(10, 30)]


def test_another_machines_programs_are_no_riddle() -> None:
    log, _ = log_of({"vertexes": [{**STEP, "error": "runc run failed: exec format error"}]})
    assert "cannot run that platform's programs" in log.explain()


def test_plain_text_between_the_objects_is_kept() -> None:
    log, _ = log_of({"vertexes": [STEP]})
    log.feed("ERROR: Cannot connect to the Docker daemon")
    assert list(log.other) == ["ERROR: Cannot connect to the Docker daemon"]
