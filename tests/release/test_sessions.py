"""Tests of hatch_docker.release.sessions: a denied push fails before the build; a session is used or cancelled."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.process import run
from hatch_docker.release.push import end_pushes, push_to_all
from hatch_docker.release.sessions import ACCEPTED, open_sessions, stop_if_refused
from tests.fakes.context import context
from tests.fakes.images import small_image, small_layer
from tests.fakes.registry import FakeRegistry

IMAGE = small_image(small_layer("a", b"a" * 5000))


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    return context(tmp_path / "cache", lines, verbosity=0)


def test_push_uses_the_session(registry: FakeRegistry, ctx: Context) -> None:
    """After a successful push, no session is opened for an hour."""
    name = f"{registry.host}/app"
    remote = open_sessions([name], ctx)
    assert [(request.method, request.path) for request in registry.requests] == [("POST", "/v2/app/blobs/uploads/")]
    (done,) = push_to_all(IMAGE, [name], ["1"], ctx, remote=remote)
    blobs = len(registry.repository("app").blobs)
    assert (done.error, registry.count("POST", "/blobs/"), registry.count("PUT", "/blobs/")) == ("", blobs, blobs)
    registry.requests.clear()
    assert not open_sessions([name], ctx).sessions
    assert not registry.requests
    (path,) = (ctx.store.root / "facts" / ACCEPTED).iterdir()
    path.write_text(path.read_text().replace(str(int(time.time()))[:5], "1"))
    assert open_sessions([name], ctx).sessions


@pytest.mark.parametrize("fails", [False, True])
def test_unused_session_is_cancelled(
    registry: FakeRegistry, ctx: Context, tmp_path: Path, *, fails: bool
) -> None:
    """This is done at once if a push fails, else in the background."""
    name = f"{registry.host}/app"
    push_to_all(IMAGE, [name], ["1"], ctx)
    other, later = context(tmp_path / "other", []), dict[str, list[Callable[[], object]]]()
    remote = open_sessions([name], other)
    if fails:
        registry.fault("PUT", "/manifests/", 403)
    done = push_to_all(IMAGE, [name], ["2"], other, remote=remote, later=later)
    assert not remote.sessions
    assert bool(done[0].error) == fails
    if not fails:
        end_pushes(done, later)
    assert registry.count("DELETE", "/blobs/uploads/") == 1
    assert not registry.uploads


def test_unreachable_server_is_ignored(registry: FakeRegistry, ctx: Context) -> None:
    registry.fault("POST", "/blobs/uploads/", 503)
    assert not open_sessions([f"{registry.host}/app", "127.0.0.1:9/app"], ctx).sessions


def test_refused_connection_stops_the_build(
    registry: FakeRegistry, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build stops at its next task, or when its program was killed. No request is sent to a running registry."""
    monkeypatch.setattr("hatch_docker.release.sessions.pause", lambda _number: 0.01)
    remote, names = open_sessions([], ctx), [f"{registry.host}/app", "127.0.0.1:9/app"]
    refused = pytest.raises(TransientError, match=r"^127\.0\.0\.1:9/app does not accept the push: nothing listens")
    with refused, stop_if_refused(remote, names, ctx):
        run(["sleep", "60"])
    with refused, stop_if_refused(remote, names, ctx):
        time.sleep(0.2)  # the block ends before the connection was refused six times
    with pytest.raises(TransientError), stop_if_refused(remote, names, ctx) as watched:
        assert watched.progress.cancelled is not None
        assert watched.progress.cancelled.wait(10)
        watched.progress.task("the next layer").begin()
    with stop_if_refused(remote, names[:1], ctx) as watched:
        time.sleep(0.2)
        watched.progress.check_cancelled()
    with pytest.raises(RegistryError, match="its own"), stop_if_refused(remote, names[:1], ctx):
        raise RegistryError("its own")
    assert not registry.requests


def test_each_denied_repository_has_a_line(registry: FakeRegistry, ctx: Context) -> None:
    registry.fault("POST", "/v2/one/", 405)
    registry.fault("POST", "/v2/two/", 403)
    with pytest.raises(RegistryError) as caught:
        open_sessions([f"{registry.host}/{name}" for name in ("one", "two", "three")], ctx)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{registry.host}/one does not accept the push: 405")
    assert second.startswith(f"{registry.host}/two does not accept the push: 403")


def test_build_with_wrong_login_downloads_nothing(tmp_path: Path) -> None:
    """This runs the whole program with an empty cache."""
    (tmp_path / "hello.py").write_text("def main(): pass\n")
    with FakeRegistry(password="right") as registry:
        (tmp_path / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            '[project]\nname = "hello"\nversion = "1"\nscripts.hello = "hello:main"\n'
            f'[tool.hatch-docker]\nbase = "debian:trixie"\nregistries = ["{registry.host}"]\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "hatch_docker", "build", "--push"], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"), "DOCKER_CONFIG": str(tmp_path)},
            check=False,
        )  # fmt: skip
        tried = [request.method for request in registry.requests]
    assert (done.returncode, done.stderr.count("error:")) == (1, 1), done.stderr
    assert f"{registry.host}/hello does not accept the push" in done.stderr
    assert f"docker login {registry.host}" in done.stderr
    assert tried == ["POST", "GET"]
    assert not list((tmp_path / "cache/v1/blobs").iterdir())
