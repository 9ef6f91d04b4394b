"""The builders buildx and Podman: their choice, their command lines, and errors from buildx's log."""

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
def test_missing_program_is_one_line_with_advice(
    programs: dict[str, str], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DaemonError) as error:
        find_builder(name, context_with_programs(tmp_path, **programs))
    assert message in str(error.value)
    assert 'engine = "embedded"' in str(error.value)
    assert "\n" not in str(error.value)


def test_error_of_docker_proposes_installed_podman(tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker=docker("buildx v0.11.2 0"), podman="")
    with pytest.raises(DaemonError, match=r'buildx 0.11 is too old.*; or set builder = "podman", which is here$'):
        find_builder("", ctx)


def test_docker_program_of_podman_is_detected(tmp_path: Path) -> None:
    """In the package podman-docker of Debian and Fedora, `docker buildx version` prints buildah's version."""
    found = find_builder("", context_with_programs(tmp_path, docker=docker("buildah 1.39.3")))
    assert found == Podman(str(tmp_path / "bin/docker"))


@pytest.mark.parametrize(("variable", "output"), [
    ("BUILDX_BUILDER", 'ERROR: no builder "none" found'),
    ("DOCKER_CONTEXT", 'context "none": context not found: open /root/.docker/contexts/meta/9e/meta.json'),
])  # fmt: skip
def test_missing_builder_of_a_variable_is_named(variable: str, output: str, tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker=docker(inspect=output, fails=True))
    with pytest.raises(DaemonError, match="buildx has no builder 'none'; `docker buildx ls` lists them"):
        find_builder("", replace(ctx, environ={**ctx.environ, variable: "none"}))


def test_docker_is_preferred_to_podman(tmp_path: Path) -> None:
    both = context_with_programs(tmp_path, docker=docker(), podman="")
    assert isinstance(find_builder("", both), Buildx)
    assert isinstance(find_builder("podman", both), Podman)
    (tmp_path / "bin/docker").unlink()
    assert isinstance(find_builder("", both), Podman)


def test_driver_of_a_named_builder(tmp_path: Path) -> None:
    found = find_builder("far", context_with_programs(tmp_path, docker=docker(inspect="Name: far\nDriver: remote\n")))
    assert isinstance(found, Buildx)
    assert (found.name, found.driver, found.version, found.remote) == ("far", "remote", (0, 13), True)
    assert found.platforms == ()


@pytest.mark.parametrize("output", ["github.com/docker/buildx 0.0.0+unknown", "something else"])
def test_buildx_without_a_version_is_accepted(output: str, tmp_path: Path) -> None:
    """`go install` builds such a program."""
    found = find_builder("", context_with_programs(tmp_path, docker=docker(output)))
    assert isinstance(found, Buildx)
    assert found.version == (0, 0)


def test_platforms_of_a_builder(tmp_path: Path) -> None:
    """The native platform comes first, then those of other nodes; an asterisk marks configured platforms."""
    inspect = f"{INSPECT}\nNodes:\nName: a\nPlatforms:  linux/amd64*, linux/amd64/v2\nName: b\nPlatforms: linux/arm64\n"
    found = find_builder("", context_with_programs(tmp_path, docker=docker(inspect=inspect)))
    assert found.platforms == ("linux/amd64", "linux/amd64/v2", "linux/arm64")
    assert not found.remote


@pytest.mark.parametrize(
    ("driver", "remote"),
    [("docker", False), ("docker-container", True), ("remote", True), ("kubernetes", True), ("cloud", True)],
)
def test_only_the_driver_docker_loads_images(driver: str, remote: bool, tmp_path: Path) -> None:
    """Other drivers have no image store; they get images as OCI layouts."""
    ctx = context_with_programs(tmp_path, docker=docker(inspect=f"Name: some\nDriver: {driver}\n"))
    assert find_builder("some", ctx).remote is remote


def failing_build(directory: Path, text: str, driver: str = "remote", status: int = 1) -> Callable[[], None]:
    """Return a function that runs a build with a docker program that prints `text` and fails."""
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


@pytest.mark.parametrize(("output", "message"), [
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
    (NO_EXPORT, "tool.hatch-docker.cache.to: Cache export is not supported for the docker driver; use a builder"),
    ("ERROR: Cannot connect to the Docker daemon at unix:///x. Is it up?", "no Docker daemon answers"),
    ("ERROR: something new", "docker buildx cannot build: something new; look at `docker buildx inspect far`"),
])  # fmt: skip
def test_failure_before_the_first_step_is_one_line(output: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((BuildError, DaemonError)) as error:
        failing_build(tmp_path, output, "kubernetes")()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("driver", "expected"), [
    ("docker", "--context far buildx build --target=export --output=type=local,dest=out"),
    ("remote", "buildx build --target=export --output=type=local,dest=out --builder=far"),
    ("docker-container", "buildx build --target=export --output=type=local,dest=out --builder=far"),
    ("kubernetes", "buildx build --target=export --output=type=local,dest=out --builder=far"),
])  # fmt: skip
def test_command_line_for_each_driver(driver: str, expected: str, tmp_path: Path) -> None:
    """With the driver `docker`, the builder must be selected by its context. Others get images as OCI layouts."""
    ctx = context_with_programs(tmp_path, docker=f'echo "$*" >> {tmp_path}/said')
    image = python_image()
    preloaded = PreloadedImage("hatch-docker/base:1", image)
    found = Buildx(str(tmp_path / "bin/docker"), "far", driver)
    found.build(replace(build_request(tmp_path), images=(preloaded,), proxies={"http_proxy": "http://proxy:1"}), ctx)
    *loading, command = (tmp_path / "said").read_text().splitlines()
    options = command.split()
    assert [item for item in options if item in expected.split()] == expected.split()
    assert {"--progress=rawjson", "--provenance=false", "--build-arg=http_proxy=http://proxy:1"} <= set(options)
    layouts = [item for item in options if item.startswith("--build-context=hatch-docker/base:1=oci-layout:///")]
    assert [item.rpartition("@")[2] for item in layouts] == ([image.digest] if found.remote else [])
    assert loading == ([] if found.remote else ["--context far image inspect --format {{.Id}} hatch-docker/base:1"])


def test_proxies_of_stages(tmp_path: Path) -> None:
    """Only stages with network get proxies, without logins and without proxies on the loopback interface."""
    environ = {"http_proxy": "http://proxy:1", "HTTPS_PROXY": "127.0.0.1:3128", "no_proxy": "a,b", "HTTP_PROXY": "["}
    environ |= {"https_proxy": "http://me:secret@proxy:1"}
    job = Job(cast("Sdist", None), BuildPlan(True, network=True), (), ())
    step = CopyStep(Group("x", "project", ()), job=job)
    assert proxies_of([step], environ) == {"http_proxy": "http://proxy:1", "no_proxy": "a,b", "HTTP_PROXY": "["}
    assert proxies_of([replace(step, job=replace(job, plan=BuildPlan(True, network=False)))], environ) == {}


def test_login_of_a_cache_is_hidden_in_the_output(tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, docker='echo "ERROR: gha: bad token $ACTIONS_RUNTIME_TOKEN" >&2; exit 1')
    ctx = replace(ctx, environ={**ctx.environ, "ACTIONS_RUNTIME_TOKEN": "s3cret-0123456789"})
    with pytest.raises(DaemonError, match=r"gha: bad token \*\*\*;"):
        Buildx(str(tmp_path / "bin/docker"), "far", "remote").build(build_request(tmp_path), ctx)


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_failure_to_load_an_image_names_the_program(program: str, tmp_path: Path) -> None:
    ctx = context_with_programs(tmp_path, **{program: "echo 'no space left on device' >&2; exit 1"})
    with pytest.raises(DaemonError) as error:
        load_image([str(tmp_path / "bin" / program)], PreloadedImage("hatch-docker/base:1", python_image()), ctx)
    assert str(error.value).startswith(f"{program} cannot build: no space left on device; ")


def test_lost_builder_shows_the_last_lines_of_the_step(tmp_path: Path) -> None:
    """It is the step that printed last. The exit status 75 means a temporary failure."""
    other = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    lines = "".join(f"line {number}\n" for number in range(30))
    values = [{"vertexes": [{**STEP, "started": DONE["started"]}, other]}, log_event(lines), log_event("line 30")]
    gone = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"
    with pytest.raises(LostError) as error:
        failing_build(tmp_path, "\n".join([*map(json.dumps, values), gone]))()
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
def test_killed_docker_is_a_temporary_failure(ending: str, status: int, message: str, tmp_path: Path) -> None:
    """For instance, without memory: the log may end inside a JSON object, and docker may print a message after it."""
    begun = json.dumps({"vertexes": [{**STEP, "started": DONE["started"]}]})
    with pytest.raises(LostError) as error:
        failing_build(tmp_path, f"{begun}\n{ending}", status=status)()
    assert str(error.value).startswith(message)
    assert "build again" in str(error.value)


def test_connection_error_of_a_step_is_not_a_lost_builder(tmp_path: Path) -> None:
    """BuildKit repeats the step's last lines as plain text at the end of the log."""
    begun = {"digest": "sha256:2", "name": "[install-other 2/2] RUN x", "started": DONE["started"]}
    failed = {**STEP, "started": DONE["started"], "completed": DONE["completed"], "error": "exit code: 1"}
    values = [{"vertexes": [begun]}, log_event("connection reset by peer\n"), {"vertexes": [failed]}]
    with pytest.raises(BuildError) as error:
        failing_build(tmp_path, "\n".join([*map(json.dumps, values), " > [x 2/2]: connection reset by peer"]))()
    assert str(error.value) == "stage install-numpy failed (exit status 1):\nconnection reset by peer"
