"""Builders that do not respond: the error names their address; unknown addresses are not checked."""

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import DaemonError
from hatch_docker.engines.buildkit.builders import check_reachable
from tests.conftest import need, script
from tests.fakes.context import context
from tests.integration.docker_registry import free_port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that does not respond: the queue of waiting connections is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def machine(directory: Path, **variables: str) -> Context:
    """Return a context whose configuration of Docker and buildx is in `directory`."""
    return context(directory / "cache", DOCKER_CONFIG=str(directory / "docker"), **variables)


def instance(directory: Path, name: str, driver: str, *endpoints: str) -> None:
    """Write the configuration of a builder of buildx."""
    place = directory / "docker/buildx/instances"
    place.mkdir(parents=True, exist_ok=True)
    nodes = [{"Name": f"{name}{number}", "Endpoint": endpoint} for number, endpoint in enumerate(endpoints)]
    (place / name).write_text(json.dumps({"Name": name, "Driver": driver, "Nodes": nodes}))


def test_unresponsive_host_is_an_error_after_two_seconds(silent_port: int, tmp_path: Path) -> None:
    """Docker's own programs wait 20 seconds, buildx's remote driver a minute."""
    url = f"tcp://127.0.0.1:{silent_port}"
    instance(tmp_path, "far", "remote", url)
    for variables in ({"DOCKER_HOST": url}, {"BUILDX_BUILDER": "far"}):
        with pytest.raises(DaemonError) as error:
            check_reachable("", machine(tmp_path, **variables))
        where = "Docker" if "DOCKER_HOST" in variables else "builder 'far'"
        assert str(error.value).startswith(f"nothing answers where {where} should be ({url}: no answer within 2 s); ")
        assert 'set engine = "embedded"' in str(error.value)


def test_builder_set_by_buildx_use_is_checked(tmp_path: Path) -> None:
    """It may be set for one daemon or for all."""
    port = free_port()
    instance(tmp_path, "far", "remote", f"tcp://127.0.0.1:{port}")
    chosen = {"Key": "unix:///var/run/docker.sock", "Name": "far", "Global": False}
    (tmp_path / "docker/buildx/current").write_text(json.dumps(chosen))
    with pytest.raises(DaemonError, match=rf"builder 'far' should be \(tcp://127.0.0.1:{port}: Connection refused\)"):
        check_reachable("", machine(tmp_path))
    (tmp_path / "docker/buildx/current").write_text(json.dumps({**chosen, "Key": "unix:///other.sock"}))
    check_reachable("", machine(tmp_path))
    (tmp_path / "docker/buildx/current").write_text(json.dumps({**chosen, "Key": "x", "Global": True}))
    with pytest.raises(DaemonError, match="builder 'far'"):
        check_reachable("", machine(tmp_path))


def test_one_responding_node_is_enough(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        instance(tmp_path, "some", "remote", f"tcp://127.0.0.1:{free_port()}", here)
        check_reachable("some", machine(tmp_path))


@pytest.mark.parametrize(
    "endpoint", ["", "kubernetes:///farm?deployment=", "unix:///nonexistent.sock", "docker-container://x", "default"]
)
def test_unknown_addresses_are_not_checked(endpoint: str, tmp_path: Path) -> None:
    instance(tmp_path, "some", "kubernetes", endpoint)
    check_reachable("some", machine(tmp_path))
    check_reachable("none", machine(tmp_path))


def test_daemon_behind_a_proxy_is_not_checked(tmp_path: Path) -> None:
    """Docker uses the proxy; buildx's remote driver does not."""
    url = "tcp://nothing.invalid:2375"
    proxied = {"DOCKER_HOST": url, "http_proxy": "http://127.0.0.1:1"}
    check_reachable("", machine(tmp_path, **proxied))
    with pytest.raises(DaemonError, match=r"nothing\.invalid"):
        check_reachable("", machine(tmp_path, **proxied, no_proxy="invalid"))
    instance(tmp_path, "far", "remote", url)
    with pytest.raises(DaemonError, match=r"nothing\.invalid"):
        check_reachable("far", machine(tmp_path, **proxied))


def test_ssh_address_comes_from_the_ssh_configuration(tmp_path: Path) -> None:
    """A host behind a jump host is not checked."""
    port = free_port()
    settings = tmp_path / "config"
    settings.write_text(f"Host far\n Hostname 127.0.0.1\n Port {port}\nHost behind\n ProxyJump far\n")
    program = script(tmp_path / "bin/ssh", f'exec {need("ssh")} -F {settings} "$@"')
    ctx = machine(tmp_path, DOCKER_HOST="ssh://me@far")
    ctx = replace(ctx, environ={**ctx.environ, "PATH": str(program.parent)})
    with pytest.raises(DaemonError, match=r"ssh://far: Connection refused"):
        check_reachable("", ctx)
    check_reachable("", replace(ctx, environ={**ctx.environ, "DOCKER_HOST": "ssh://behind"}))
