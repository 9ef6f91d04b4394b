"""What the BuildKit engine tells when it cannot build, and what it makes of buildx's own log."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from hatch_docker.context import Context, open_context
from hatch_docker.engines.buildx import Buildx, Order, find_builder, load_handed
from hatch_docker.engines.dockerfile import Group
from hatch_docker.engines.podman import Podman, PodmanLog
from hatch_docker.engines.rawjson import Log
from hatch_docker.engines.recipe import Handed, Job, Part, proxies_of
from hatch_docker.errors import BuildError, DaemonError, LostError
from hatch_docker.oci.model import Platform
from hatch_docker.plan import BuildPlan, CachePlan
from hatch_docker.progress import Progress, silent
from hatch_docker.screen import Screen
from tests.fakes.bases import python_image

if TYPE_CHECKING:
    from hatch_docker.wheels.sdist import Sdist

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


def test_podman_is_named_where_docker_cannot_and_it_is_there(tmp_path: Path) -> None:
    ctx = shims(tmp_path, docker=docker("buildx v0.11.2 0"), podman="")
    with pytest.raises(DaemonError, match=r'buildx 0.11 is too old.*; or set builder = "podman", which is here$'):
        find_builder("", ctx)


def test_a_docker_that_is_podman_is_taken_for_what_it_is(tmp_path: Path) -> None:
    """As Debian's and Fedora's podman-docker have it: its buildx is buildah."""
    found = find_builder("", shims(tmp_path, docker=docker("buildah 1.39.3")))
    assert found == Podman(str(tmp_path / "bin/docker"))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("BUILDX_BUILDER", 'ERROR: no builder "none" found'),
        ("DOCKER_CONTEXT", 'context "none": context not found: open /root/.docker/contexts/meta/9e/meta.json'),
    ],
)
def test_a_builder_that_a_variable_names_is_named(variable: str, said: str, tmp_path: Path) -> None:
    ctx = shims(tmp_path, docker=docker(inspect=said, fails=True))
    with pytest.raises(DaemonError, match="buildx has no builder 'none'; `docker buildx ls` lists them"):
        find_builder("", replace(ctx, environ={**ctx.environ, variable: "none"}))


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


@pytest.mark.parametrize("said", ["github.com/docker/buildx 0.0.0+unknown", "something else"])
def test_a_buildx_that_does_not_know_its_version_is_tried(said: str, tmp_path: Path) -> None:
    """As one is that `go install` made."""
    found = find_builder("", shims(tmp_path, docker=docker(said)))
    assert isinstance(found, Buildx)
    assert found.version == (0, 0)


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
PULL = {"digest": "sha256:5", "name": "[internal] load metadata for registry.example/py:3@sha256:0", "error": "401"}
GONE = {"digest": "sha256:5", "name": "[internal] load metadata for docker.io/hatch-docker/base:0", "error": "no"}
UNPULLED = (
    "the builder cannot pull the base registry.example/py:3@sha256:0 (401); log in for it (docker login, podman "
    "login), have it reach and trust that registry, or take it along: `skopeo copy docker://registry.example/py:3 oci:"
)
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
        (json.dumps({"vertexes": [PULL]}), UNPULLED),
        (json.dumps({"vertexes": [GONE]}), "docker.io/hatch-docker/base:0 was handed to the builder, and is gone (no"),
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
    return Order(path, path, path / "out", Platform("linux", "amd64"), (), CachePlan(), path, ())


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        ("docker", "--context far buildx build --target=export --output=type=local,dest=out"),
        ("remote", "buildx build --target=export --output=type=local,dest=out --builder=far"),
        ("docker-container", "buildx build --target=export --output=type=local,dest=out --builder=far"),
        ("kubernetes", "buildx build --target=export --output=type=local,dest=out --builder=far"),
    ],
)
def test_what_each_driver_is_told(driver: str, expected: str, tmp_path: Path) -> None:
    """A daemon's builder is named by its context, or Docker refuses. An image goes to the others as a layout."""
    ctx = shims(tmp_path, docker=f'echo "$*" >> {tmp_path}/said')
    image = python_image()
    handed = Handed("hatch-docker/base:1", image)
    found = Buildx(str(tmp_path / "bin/docker"), "far", driver)
    found.build(replace(order(tmp_path), handed=(handed,), proxies={"http_proxy": "http://proxy:1"}), ctx)
    *loading, command = (tmp_path / "said").read_text().splitlines()
    options = command.split()
    assert [one for one in options if one in expected.split()] == expected.split()
    assert {"--progress=rawjson", "--provenance=false", "--build-arg=http_proxy=http://proxy:1"} <= set(options)
    layouts = [one for one in options if one.startswith("--build-context=hatch-docker/base:1=oci-layout:///")]
    assert [one.rpartition("@")[2] for one in layouts] == ([image.digest] if found.far else [])
    assert loading == ([] if found.far else [
        "--context far image inspect --format {{.Id}} hatch-docker/base:1",
    ])  # fmt: skip


def test_a_build_s_proxies_are_this_machine_s_but_those_on_it(tmp_path: Path) -> None:
    """For stages with a network alone, without logins, and none that a stage could not reach."""
    environ = {"http_proxy": "http://proxy:1", "HTTPS_PROXY": "127.0.0.1:3128", "no_proxy": "a,b"}
    environ |= {"https_proxy": "http://me:secret@proxy:1"}
    job = Job(cast("Sdist", None), BuildPlan(True, network=True), (), ())
    part = Part(Group("x", "project", ()), job=job)
    assert proxies_of([part], environ) == {"http_proxy": "http://proxy:1", "no_proxy": "a,b"}
    assert proxies_of([replace(part, job=replace(job, plan=BuildPlan(True, network=False)))], environ) == {}


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
    assert log.explain(last, 1) == "stage build-project failed (exit status 3):\nx.c:1: error: no luck"


def test_podman_without_memory_is_suspected_and_one_that_was_killed_is_named() -> None:
    log = PodmanLog(silent())
    for line in (*PODMAN.splitlines()[:-1], 'Error: building at STEP "RUN cc": while running runtime: exit status 137'):
        log.feed(line)
    said = "stage build-project failed (exit status 137); something killed it, perhaps for want of memory"
    assert log.explain("while running runtime: exit status 137", 1) == said
    log = PodmanLog(silent())
    for line in (*PODMAN.splitlines()[:-1], "compiling"):
        log.feed(line)
    assert log.explain("compiling", -9).startswith("stage build-project failed (podman ended with status -9):\n")
    log = PodmanLog(silent())
    for line in ("STEP 1/1: FROM registry.example/py:3@sha256:0 AS base", "Trying to pull it...", "Error: 401"):
        log.feed(line)
    assert log.explain("Error: 401", 125).startswith(UNPULLED)
    assert PodmanLog(silent()).explain("Error: no space", 125) == "podman build failed (status 125):\nError: no space"


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


SECRET = "s3cret-0123456789"


def said(text: str, vertex: str = "sha256:1") -> dict[str, object]:
    """A piece of what a step says."""
    return {"logs": [{"vertex": vertex, "stream": 1, "data": base64.b64encode(text.encode()).decode()}]}


def test_secrets_are_hidden_wherever_a_step_says_them() -> None:
    """Also in two pieces, in what failed, and in a last line without an end."""
    told: list[str] = []
    log = Log(Progress(told.append, 1), [SECRET])
    error = {**STEP, "error": f'process "{SECRET}" did not complete successfully: exit code: 1'}
    for value in (
        {"vertexes": [{**STEP, "started": DONE["started"]}]}, said(f"a {SECRET[:7]}"), said(f"{SECRET[7:]} b\nc"),
        said(f"error: {SECRET}"), {"vertexes": [error]},
    ):  # fmt: skip
        log.feed(json.dumps(value))
    log.feed(f"ERROR: {SECRET}")
    assert log.explain().splitlines() == ["stage install-numpy failed (exit status 1):", "a *** b", "cerror: ***"]
    assert SECRET not in "\n".join([*told, *log.other])
    assert "a *** b" in told


def test_a_letter_in_two_pieces_stays_one() -> None:
    log, _ = log_of({"vertexes": [{**STEP, "error": "exit code: 1"}]})
    for piece in ("ő".encode()[:1], "ő".encode()[1:] + b"\n"):
        log.feed(json.dumps({"logs": [{"vertex": "sha256:1", "data": base64.b64encode(piece).decode()}]}))
    assert log.explain().endswith("\nő")


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "exit code: 137"), ("g++: fatal error: Killed signal terminated program cc1plus\n", "exit code: 1")],
)
def test_a_builder_without_memory_is_suspected(text: str, error: str) -> None:
    log, _ = log_of(said(text), {"vertexes": [{**STEP, "error": f"did not complete successfully: {error}"}]})
    assert "; something killed it, perhaps for want of memory" in log.explain()


def test_a_lost_builder_shows_what_it_said_last(tmp_path: Path) -> None:
    """Of the step that spoke last; the status is that of what may pass."""
    other = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    lines = "".join(f"line {number}\n" for number in range(30))
    values = [{"vertexes": [{**STEP, "started": DONE["started"]}, other]}, said(lines), said("line 30")]
    gone = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"
    (tmp_path / "said").write_text("\n".join([*map(json.dumps, values), gone]))
    ctx = shims(tmp_path, docker=f"{shutil.which('cat')} {tmp_path}/said >&2; exit 1")
    with pytest.raises(LostError) as error:
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(order(tmp_path), ctx)
    first, *told = str(error.value).splitlines()
    assert first.startswith("the builder was lost in stage install-numpy (failed to receive status: ")
    assert first.endswith("EOF); build again:")
    assert told == [f"line {number}" for number in range(11, 31)]
    assert error.value.exit_status == 75


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("", 137, "the builder was lost in stage install-numpy (docker ended with status 137 and no word of why); "),
        ('{\n "vertexes": [', 1, "the builder was lost in stage install-numpy (docker ended with status 1 and no word"),
        ("ERROR: Canceled: context canceled", 1, "docker buildx was ended before the build was done (Canceled: "),
        ('{\n "logs": [\nERROR: failed to do request: EOF', 1, "the builder was lost in stage install-numpy (f"),
    ],
)
def test_a_program_that_is_killed_may_be_tried_again(ending: str, status: int, message: str, tmp_path: Path) -> None:
    """By whoever has no memory left, say: in the midst of what it tells, or with its other half still talking."""
    begun = json.dumps({"vertexes": [{**STEP, "started": DONE["started"]}]})
    (tmp_path / "said").write_text(f"{begun}\n{ending}")
    ctx = shims(tmp_path, docker=f"{shutil.which('cat')} {tmp_path}/said >&2; exit {status}")
    with pytest.raises(LostError) as error:
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(order(tmp_path), ctx)
    assert str(error.value).startswith(message)
    assert "build again" in str(error.value)


def test_a_podman_that_is_killed_may_be_tried_again(tmp_path: Path) -> None:
    ctx = shims(tmp_path, podman="echo 'STEP 1/1: RUN cc'; echo compiling; kill -9 $$")
    with pytest.raises(LostError, match=r"failed \(podman ended with status -9\):\ncompiling$"):
        Podman(str(tmp_path / "bin/podman")).build(order(tmp_path), ctx)


def test_a_connection_that_a_step_lost_is_the_step_s_failure(tmp_path: Path) -> None:
    """BuildKit says its last lines once more below the objects."""
    begun = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    failed = {**STEP, "started": DONE["started"], "completed": DONE["completed"], "error": "exit code: 1"}
    values = [{"vertexes": [begun]}, said("connection reset by peer\n"), {"vertexes": [failed]}]
    (tmp_path / "said").write_text("\n".join([*map(json.dumps, values), " > [x 2/2]: connection reset by peer"]))
    ctx = shims(tmp_path, docker=f"{shutil.which('cat')} {tmp_path}/said >&2; exit 1")
    with pytest.raises(BuildError) as error:
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(order(tmp_path), ctx)
    assert str(error.value) == "stage install-numpy failed (exit status 1):\nconnection reset by peer"


def test_a_stage_that_was_cancelled_is_not_told_as_done() -> None:
    assert log_of({"vertexes": [{**DONE, "error": "context canceled"}]})[1] == []


def test_another_machines_programs_are_no_riddle() -> None:
    log, _ = log_of({"vertexes": [{**STEP, "error": "runc run failed: exec format error"}]})
    assert "cannot run that platform's programs" in log.explain()


def test_plain_text_between_the_objects_is_kept() -> None:
    log, _ = log_of({"vertexes": [STEP]})
    log.feed("ERROR: Cannot connect to the Docker daemon")
    assert list(log.other) == ["ERROR: Cannot connect to the Docker daemon"]
