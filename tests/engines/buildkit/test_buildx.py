"""Errors of the BuildKit engine that cannot build, read from buildx's own log."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hatch_docker.core.errors import BuildError, DaemonError, LostError
from hatch_docker.engines.buildkit.build_request import PreloadedImage, load_image
from hatch_docker.engines.buildkit.builders import find_builder
from hatch_docker.engines.buildkit.buildx import Buildx
from hatch_docker.engines.buildkit.context import CopyStep, Job, proxies_of
from hatch_docker.engines.buildkit.dockerfile import Group
from hatch_docker.engines.buildkit.podman import Podman
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.sdist import Sdist
from tests.fakes.bases import python_image
from tests.fakes.docker_programs import (
    DONE,
    INSPECT,
    STEP,
    UNPULLED,
    build_request,
    context_with_programs,
    docker,
    log_event,
)


@pytest.mark.parametrize(("programs", "name", "message"), [
    ({}, "", "needs Docker with buildx, or Podman, and neither is in PATH"),
    ({"docker": docker()}, "podman", "podman is not in PATH"),
    ({"docker": "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1"}, "", "its plugin buildx is not"),
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
        {"docker": docker(inspect=INSPECT + "Error: dial tcp: lookup remote.example: no such host")},
        "", "no Docker daemon answers",
    ),
])  # fmt: skip
def test_what_is_missing_is_one_line_with_a_way_out(
    programs: dict[str, str], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DaemonError) as error:
        find_builder(name, context_with_programs(tmp_path, **programs))
    assert message in str(error.value)
    assert 'engine = "embedded"' in str(error.value)
    assert "\n" not in str(error.value)


def test_podman_is_named_where_docker_cannot_and_it_is_there(tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker=docker("buildx v0.11.2 0"), podman="")
    with pytest.raises(DaemonError, match=r'buildx 0.11 is too old.*; or set builder = "podman", which is here$'):
        find_builder("", ctx)


def test_a_docker_that_is_podman_is_taken_for_what_it_is(tmp_path: Path) -> None:
    """As Debian's and Fedora's podman-docker have it: its buildx is buildah."""
    found = find_builder("", context_with_programs(tmp_path, docker=docker("buildah 1.39.3")))
    assert found == Podman(str(tmp_path / "bin/docker"))


@pytest.mark.parametrize(("variable", "said"), [
    ("BUILDX_BUILDER", 'ERROR: no builder "none" found'),
    ("DOCKER_CONTEXT", 'context "none": context not found: open /root/.docker/contexts/meta/9e/meta.json'),
])  # fmt: skip
def test_a_builder_that_a_variable_names_is_named(variable: str, said: str, tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker=docker(inspect=said, fails=True))
    with pytest.raises(DaemonError, match="buildx has no builder 'none'; `docker buildx ls` lists them"):
        find_builder("", replace(ctx, environ={**ctx.environ, variable: "none"}))


def test_docker_comes_first_and_podman_where_it_is_alone(tmp_path: Path) -> None:
    both = context_with_programs(tmp_path, docker=docker(), podman="")
    assert isinstance(find_builder("", both), Buildx)
    assert isinstance(find_builder("podman", both), Podman)
    (tmp_path / "bin/docker").unlink()
    assert isinstance(find_builder("", both), Podman)


def test_the_driver_of_a_named_builder_is_known(tmp_path: Path) -> None:
    found = find_builder("far", context_with_programs(tmp_path, docker=docker(inspect="Name: far\nDriver: remote\n")))
    assert isinstance(found, Buildx)
    assert (found.name, found.driver, found.version, found.remote) == ("far", "remote", (0, 13), True)
    assert found.platforms == ()


@pytest.mark.parametrize("said", ["github.com/docker/buildx 0.0.0+unknown", "something else"])
def test_a_buildx_that_does_not_know_its_version_is_tried(said: str, tmp_path: Path) -> None:
    """As one is that `go install` made."""
    found = find_builder("", context_with_programs(tmp_path, docker=docker(said)))
    assert isinstance(found, Buildx)
    assert found.version == (0, 0)


def test_what_a_builder_runs_is_known(tmp_path: Path) -> None:
    """Its own platform comes first, then those of its other nodes; an asterisk is one that its owner chose."""
    inspect = f"{INSPECT}\nNodes:\nName: a\nPlatforms:  linux/amd64*, linux/amd64/v2\nName: b\nPlatforms: linux/arm64\n"
    found = find_builder("", context_with_programs(tmp_path, docker=docker(inspect=inspect)))
    assert found.platforms == ("linux/amd64", "linux/amd64/v2", "linux/arm64")
    assert not found.remote


@pytest.mark.parametrize(
    ("driver", "remote"),
    [("docker", False), ("docker-container", True), ("remote", True), ("kubernetes", True), ("cloud", True)],
)
def test_images_are_sent_to_every_driver_but_the_daemon_s_own(driver: str, remote: bool, tmp_path: Path) -> None:
    """As layouts: no driver but `docker` has a store that an image could be loaded into."""
    ctx = context_with_programs(tmp_path, docker=docker(inspect=f"Name: some\nDriver: {driver}\n"))
    found = find_builder("some", ctx)
    assert found.remote is remote


def failing(directory: Path, text: str, driver: str = "remote", status: int = 1) -> Callable[[], None]:
    """Return a build with a docker that says some text and fails."""
    (directory / "said").write_text(text)
    ctx = context_with_programs(directory, docker=f"{shutil.which('cat')} {directory}/said >&2; exit {status}")
    buildx = Buildx(str(directory / "bin/docker"), "far", driver)
    return lambda: buildx.build(build_request(directory), ctx)


BOOT = {"digest": "sha256:5", "name": "[internal] booting buildkit"}
WAIT = {"digest": "sha256:5", "name": "[internal] waiting for connection"}
EXPORT = {"digest": "sha256:5", "name": "exporting cache to registry"}
PULL = {"digest": "sha256:5", "name": "[internal] load metadata for registry.example/py:3@sha256:0", "error": "401"}
GONE = {"digest": "sha256:5", "name": "[internal] load metadata for docker.io/hatch-docker/base:0", "error": "no"}
NO_EXPORT = "ERROR: Cache export is not supported for the docker driver.\nSwitch to a different driver, and try again."


@pytest.mark.parametrize(("said", "message"), [
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
    (json.dumps({"vertexes": [GONE]}), "docker.io/hatch-docker/base:0 was loaded into the builder, and is no"),
    (NO_EXPORT, "tool.hatch-docker.cache.to: Cache export is not supported for the docker driver; name a builder"),
    ("ERROR: Cannot connect to the Docker daemon at unix:///x. Is it up?", "no Docker daemon answers"),
    ("ERROR: something new", "docker buildx cannot build: something new; look at `docker buildx inspect far`"),
])  # fmt: skip
def test_what_fails_before_any_step_is_one_line(said: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((BuildError, DaemonError)) as error:
        failing(tmp_path, said, "kubernetes")()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("driver", "expected"), [
    ("docker", "--context far buildx build --target=export --output=type=local,dest=out"),
    ("remote", "buildx build --target=export --output=type=local,dest=out --builder=far"),
    ("docker-container", "buildx build --target=export --output=type=local,dest=out --builder=far"),
    ("kubernetes", "buildx build --target=export --output=type=local,dest=out --builder=far"),
])  # fmt: skip
def test_what_each_driver_is_told(driver: str, expected: str, tmp_path: Path) -> None:
    """A daemon's builder is named by its context, or Docker refuses. An image goes to the others as a layout."""
    ctx = context_with_programs(tmp_path, docker=f'echo "$*" >> {tmp_path}/said')
    image = python_image()
    handed = PreloadedImage("hatch-docker/base:1", image)
    found = Buildx(str(tmp_path / "bin/docker"), "far", driver)
    found.build(replace(build_request(tmp_path), images=(handed,), proxies={"http_proxy": "http://proxy:1"}), ctx)
    *loading, command = (tmp_path / "said").read_text().splitlines()
    options = command.split()
    assert [item for item in options if item in expected.split()] == expected.split()
    assert {"--progress=rawjson", "--provenance=false", "--build-arg=http_proxy=http://proxy:1"} <= set(options)
    layouts = [item for item in options if item.startswith("--build-context=hatch-docker/base:1=oci-layout:///")]
    assert [item.rpartition("@")[2] for item in layouts] == ([image.digest] if found.remote else [])
    assert loading == ([] if found.remote else ["--context far image inspect --format {{.Id}} hatch-docker/base:1"])


def test_a_build_s_proxies_are_this_machine_s_but_those_on_it(tmp_path: Path) -> None:
    """For stages with a network alone, without logins, and none that a stage could not reach."""
    environ = {"http_proxy": "http://proxy:1", "HTTPS_PROXY": "127.0.0.1:3128", "no_proxy": "a,b", "HTTP_PROXY": "["}
    environ |= {"https_proxy": "http://me:secret@proxy:1"}
    job = Job(cast("Sdist", None), BuildPlan(True, network=True), (), ())
    step = CopyStep(Group("x", "project", ()), job=job)
    assert proxies_of([step], environ) == {"http_proxy": "http://proxy:1", "no_proxy": "a,b", "HTTP_PROXY": "["}
    assert proxies_of([replace(step, job=replace(job, plan=BuildPlan(True, network=False)))], environ) == {}


def test_a_login_that_a_cache_needs_is_hidden_where_buildx_says_it(tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker='echo "ERROR: gha: bad token $ACTIONS_RUNTIME_TOKEN" >&2; exit 1')
    ctx = replace(ctx, environ={**ctx.environ, "ACTIONS_RUNTIME_TOKEN": "s3cret-0123456789"})
    with pytest.raises(DaemonError, match=r"gha: bad token \*\*\*;"):
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(build_request(tmp_path), ctx)


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_an_image_that_cannot_be_loaded_is_one_line(program: str, tmp_path: Path) -> None:
    """It names the program that refused it."""
    ctx = context_with_programs(tmp_path, **{program: "echo 'no space left on device' >&2; exit 1"})
    with pytest.raises(DaemonError) as error:
        load_image([str(tmp_path / "bin" / program)], PreloadedImage("hatch-docker/base:1", python_image()), ctx)
    assert str(error.value).startswith(f"{program} cannot build: no space left on device; ")


def test_a_lost_builder_shows_what_it_said_last(tmp_path: Path) -> None:
    """Of the step that spoke last; the status is that of what may pass."""
    other = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    lines = "".join(f"line {number}\n" for number in range(30))
    values = [{"vertexes": [{**STEP, "started": DONE["started"]}, other]}, log_event(lines), log_event("line 30")]
    gone = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"
    with pytest.raises(LostError) as error:
        failing(tmp_path, "\n".join([*map(json.dumps, values), gone]))()
    first, *last = str(error.value).splitlines()
    assert first.startswith("the builder was lost in stage install-numpy (failed to receive status: ")
    assert first.endswith("EOF); build again:")
    assert last == [f"line {number}" for number in range(11, 31)]
    assert error.value.exit_status == 75


@pytest.mark.parametrize(("ending", "status", "message"), [
    ("", 137, "the builder was lost in stage install-numpy (docker exited with status 137 without an error mess"),
    ('{\n "vertexes": [', 1, "the builder was lost in stage install-numpy (docker exited with status 1 without an"),
    ("ERROR: Canceled: context canceled", 1, "docker buildx was stopped before the build was done (Canceled: "),
    ('{\n "logs": [\nERROR: failed to do request: EOF', 1, "the builder was lost in stage install-numpy (f"),
])  # fmt: skip
def test_a_program_that_is_killed_may_be_tried_again(ending: str, status: int, message: str, tmp_path: Path) -> None:
    """By whoever has no memory left, say: in the midst of what it tells, or with its other half still talking."""
    begun = json.dumps({"vertexes": [{**STEP, "started": DONE["started"]}]})
    with pytest.raises(LostError) as error:
        failing(tmp_path, f"{begun}\n{ending}", status=status)()
    assert str(error.value).startswith(message)
    assert "build again" in str(error.value)


def test_a_connection_that_a_step_lost_is_the_step_s_failure(tmp_path: Path) -> None:
    """BuildKit says its last lines once more below the objects."""
    begun = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    failed = {**STEP, "started": DONE["started"], "completed": DONE["completed"], "error": "exit code: 1"}
    values = [{"vertexes": [begun]}, log_event("connection reset by peer\n"), {"vertexes": [failed]}]
    with pytest.raises(BuildError) as error:
        failing(tmp_path, "\n".join([*map(json.dumps, values), " > [x 2/2]: connection reset by peer"]))()
    assert str(error.value) == "stage install-numpy failed (exit status 1):\nconnection reset by peer"
