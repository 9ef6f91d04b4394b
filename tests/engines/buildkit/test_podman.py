"""The output of `podman build`: stages with their times, and errors."""

from pathlib import Path

import pytest

from hatch_docker.core.errors import LostError
from hatch_docker.core.progress import Progress, silent
from hatch_docker.engines.buildkit.podman import Podman, PodmanLog
from tests.fakes.docker_programs import UNPULLED, build_request, context_with_programs

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


def test_finished_stages_are_reported_with_their_times() -> None:
    lines: list[str] = []
    ticks = iter(range(100))
    log = PodmanLog(Progress(lines.append), lambda: next(ticks))
    for line in PODMAN.splitlines():
        log.feed(line)
    assert lines == ["  install-numpy  1.0 s"]
    last = 'Error: building at STEP "RUN --network=none": while running runtime: exit status 3'
    log.feed(last)
    assert log.explain(last, 1) == "stage build-project failed (exit status 3):\nx.c:1: error: no luck"


def test_messages_for_failed_and_killed_builds() -> None:
    log = PodmanLog(silent())
    for line in (*PODMAN.splitlines()[:-1], 'Error: building at STEP "RUN cc": while running runtime: exit status 137'):
        log.feed(line)
    message = "stage build-project failed (exit status 137); something killed it; perhaps the memory ran out"
    assert log.explain("while running runtime: exit status 137", 1) == message
    log = PodmanLog(silent())
    for line in (*PODMAN.splitlines()[:-1], "compiling"):
        log.feed(line)
    assert log.explain("compiling", -9).startswith("stage build-project failed (podman ended with status -9):\n")
    log = PodmanLog(silent())
    for line in ("STEP 1/1: FROM registry.example/py:3@sha256:0 AS base", "Trying to pull it...", "Error: 401"):
        log.feed(line)
    assert log.explain("Error: 401", 125).startswith(UNPULLED)
    assert PodmanLog(silent()).explain("Error: no space", 125) == "podman build failed (status 125):\nError: no space"


def test_killed_podman_is_a_temporary_failure(tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, podman="echo 'STEP 1/1: RUN cc'; echo compiling; kill -9 $$")
    with pytest.raises(LostError, match=r"failed \(podman ended with status -9\):\ncompiling$"):
        Podman(str(tmp_path / "bin/podman")).build(build_request(tmp_path), ctx)
