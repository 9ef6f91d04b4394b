"""The option `check`: a command in the finished image, with the image's user and environment."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from docker import APIClient

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.build.checks.command import find_user, run_check
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.core.process import TimedOut
from hatch_docker.oci.engine_api import Daemon
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.model import History, Image, Layer, Platform
from hatch_docker.oci.run import run_once
from hatch_docker.plan.model import BasePlan
from tests.conftest import need
from tests.fakes.context import context
from tests.fakes.images import layer_of
from tests.fakes.sandbox_roots import need_sandbox, program_root
from tests.validate import validate

PLATFORM = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine))
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\nbroken\n"


def layer_of_tree(root: Path, more: Mapping[str, bytes]) -> Layer:
    entries = [Entry("etc", "directory", 0o755, 0)]
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() and name != "etc":
            entries.append(Entry(name, "directory", 0o755, 0))
        elif path.is_file():
            entries.append(Entry(name, "file", 0o755, 0, content=path.read_bytes()))
    entries += [Entry(name, "file", 0o644, 0, content=content) for name, content in more.items()]
    return layer_of(entries, "none")


@pytest.fixture(scope="module")
def base() -> Iterator[Base]:
    """Return a base with a few programs and users."""
    need_sandbox()
    with tempfile.TemporaryDirectory() as directory:
        root = program_root(Path(directory))
        layer = layer_of_tree(root, {"etc/passwd": PASSWD.encode(), "etc/group": b"web:x:77:\nroot:x:0:app\n"})
    image = build_image(
        scratch(PLATFORM), [(layer, History("base"))], Settings(env={"PATH": "/bin", "FROM": "base"}), 0, {}
    )
    yield Base(
        BasePlan("oci", "base", "base"), "base", image.digest, image, Interpreter("/bin/sh", "3.13.5"),
        ("glibc", "2.41"), {}, frozenset({"bin", "etc"}),
    )


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    return context(tmp_path / "cache", lines, PATH=os.environ["PATH"], TOKEN="hunter2")


def image_on(base: Base, **settings: object) -> Image:
    """Return the image of a small project: a script in /opt/venv, and a file in a directory of the base."""
    layer = layer_of([
        Entry("opt/venv", "directory", 0o755, 0), Entry("opt/venv/bin", "directory", 0o755, 0),
        Entry("opt/venv/bin/app", "file", 0o755, 0, content=b"#!/bin/sh\necho app; exit ${1:-0}\n"),
        Entry("etc/app.conf", "file", 0o644, 0, content=b"configured\n"),
    ], "none")
    config = Settings(**{"user": "65532", "workdir": "/opt/venv", **settings})  # type: ignore[arg-type]
    image = build_image(base.image, [(layer, History("app"))], config, 0, {})
    validate(image)
    return image


def test_check_runs_with_user_workdir_and_env_of_image(base: Base, ctx: Context, lines: list[str]) -> None:
    """Base and project layers are one tree, and only /tmp is writable."""
    script = (
        "id -u; id -g; cat /etc/motd /etc/app.conf; ls; echo $FROM $MINE $TOKEN $HOME; app"
        "; touch /opt/venv/x 2>&- || echo read-only; touch /tmp/x && echo tmp"
    )
    env = {"PATH": "/opt/venv/bin:/bin", "MINE": "mine"}
    run_check(image_on(base, env=env), base, ["sh", "-c", script], ctx, timeout=60)
    expected = ["65532", "0", "hello", "configured", "bin", "base mine /", "app", "read-only", "tmp"]
    assert [line for line in lines if line in expected] == expected  # `lines` also has progress lines
    assert not list((ctx.store.root / "tmp").iterdir())


def test_check_works_with_a_restrictive_umask(base: Base, ctx: Context, lines: list[str]) -> None:
    """The image's user can read the unpacked layers although other users of this machine cannot."""
    before = os.umask(0o077)
    try:
        run_check(image_on(base), base, ["/opt/venv/bin/app"], ctx, timeout=60)
    finally:
        os.umask(before)
    assert "app" in lines


def test_check_that_passed_runs_only_once(base: Base, ctx: Context, lines: list[str]) -> None:
    """It runs again for another command or another image."""
    image = image_on(base)
    for _ in range(2):
        run_check(image, base, ["sh", "-c", "echo ran"], ctx, timeout=60)
    assert lines.count("ran") == 1
    run_check(image, base, ["sh", "-c", "echo ran; true"], ctx, timeout=60)
    run_check(image_on(base, labels={"a": "b"}), base, ["sh", "-c", "echo ran"], ctx, timeout=60)
    assert lines.count("ran") == 3


def test_failed_check_reports_status_and_last_lines(base: Base, ctx: Context) -> None:
    """A failure is not remembered: a second run fails again."""
    image = image_on(base)
    for _ in range(2):
        with pytest.raises(BuildError) as failure:
            run_check(image, base, ["/opt/venv/bin/app", "7"], ctx, timeout=60)
        assert str(failure.value) == "the check failed: /opt/venv/bin/app 7 ended with status 7 in the image:\napp"
    with pytest.raises(BuildError, match="ended with status 1 in the image and printed nothing"):
        run_check(image, base, ["sh", "-c", "exit 1"], ctx, timeout=60)
    with pytest.raises(BuildError, match="cannot run python: No such file"):
        run_check(image, base, ["python"], ctx, timeout=60)


def test_check_is_killed_after_timeout(base: Base, ctx: Context) -> None:
    with pytest.raises(BuildError, match=r"did not finish within 0.5 s; check.timeout allows more"):
        run_check(image_on(base), base, ["sh", "-c", "sleep 60 & sleep 61"], ctx, timeout=0.5)


SCRIPT = ("id -u; cat /etc/app.conf; touch /opt/x 2>&- || echo read-only; touch /tmp/x; cat /proc/net/dev >&2; exit $1")


def check_run_once(daemon: Daemon, base: Base, lines: list[str], *, timeout: float) -> None:
    """Check that a daemon runs commands with the limits of the sandbox. `timeout`: ends the last of them."""
    image = image_on(base, entrypoint=("false",))
    status, output = run_once(daemon, image, ["sh", "-c", SCRIPT, "sh", "3"], lines.append, timeout=60)
    assert status == 3, output
    assert any(line.strip().startswith("lo:") for line in output.splitlines())
    assert run_once(daemon, image, ["sh", "-c", "exit 0"], lines.append, timeout=60)[0] == 0
    with pytest.raises(TimedOut):
        run_once(daemon, image, ["sh", "-c", "sleep 60"], lines.append, timeout=timeout)


@pytest.mark.engine
def test_docker_runs_check_and_removes_image(base: Base, lines: list[str]) -> None:
    docker = next((daemon for daemon in find_daemons(os.environ) if daemon.kind == "docker"), None)
    if docker is None:
        need("a Docker daemon")
    assert docker is not None
    check_run_once(docker, base, lines, timeout=0.5)
    expected = ["65532", "configured", "read-only"]
    assert [line for line in lines if line in expected] == expected  # `lines` also has standard error
    with contextlib.closing(APIClient(docker.url)) as client:
        assert not client.images("localhost/hatch-docker-check")


@pytest.mark.engine
def test_podman_program_runs_check_and_removes_container(
    base: Base, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a socket, and with a temporary storage."""
    need("podman"), need("runc")
    places = f'graphroot = "{tmp_path}/graph"\nrootless_storage_path = "{tmp_path}/graph"\n'
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\n{places}runroot = "{tmp_path}/run"\n')
    (tmp_path / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    check_run_once(Daemon("podman", ""), base, lines, timeout=5)
    left = subprocess.run(["podman", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert left.stdout == ""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root directory of an image with users and groups."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text("web:x:77:\n")
    return tmp_path


@pytest.mark.parametrize(("user", "expected"), [
    ("", ((0, 0), "/root")), ("0", ((0, 0), "/root")), ("65532", ((65532, 0), "/")), ("1:2", ((1, 2), "/")),
    ("1234", ((1234, 1235), "/home/app")), ("app:web", ((1234, 77), "/home/app")),
    ("app", ((1234, 1235), "/home/app")),
])
def test_user_is_resolved_like_a_container_runtime(root: Path, user: str, expected: object) -> None:
    """OCI config.md, User: numbers or names, with or without a group."""
    assert find_user(user, [root / "missing", root]) == expected


@pytest.mark.parametrize("user", ["nobody-here", "app:nothing", "-1", "1.5"])
def test_unknown_user_or_group_is_an_error(root: Path, user: str) -> None:
    with pytest.raises(BuildError, match=r"the image has no (user|group) '"):
        find_user(user, [root])
