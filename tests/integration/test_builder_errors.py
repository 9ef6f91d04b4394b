"""Errors of real builders that are missing or fail: one line with a solution, and an unchanged dist/.

Messages of other versions of these programs are in test_buildx.py.
"""

import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import need, script
from tests.integration.builds import Outcome, run_build
from tests.integration.compare_engines import BUILDKIT
from tests.integration.docker_registry import free_port
from tests.integration.failures import check_error, drop_capabilities, new_project

pytestmark = [pytest.mark.network, pytest.mark.engine, pytest.mark.usefixtures("base_in_cache")]

SOLUTION = 'set engine = "embedded", which needs neither Docker nor Podman'


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a temporary directory with a short path, for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def error_of(
    work: Path, cache: Path, *parts: str, variables: Mapping[str, str], steps: int = 0, **options: object
) -> str:
    """Build an edited project without a working builder; return the error line."""
    project = new_project(work)
    (project / "hello/new.py").write_text(f"# {secrets.token_hex()}\n")
    outcome: Outcome = run_build(project, cache, variables={**BUILDKIT, **variables}, **options)
    return check_error(outcome, *parts, steps=steps)


def test_missing_docker_and_podman_are_reported(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bin").mkdir()
    error_of(tmp_path, cache, "neither is in PATH", SOLUTION, variables={"PATH": str(tmp_path / "bin")})


def test_docker_without_buildx_is_reported(tmp_path: Path, cache: Path) -> None:
    """A script makes docker fail as an older package without the buildx plugin does."""
    script(tmp_path / "bin/docker", f'shift\nexec {need("docker")} no-such-plugin "$@"')
    variables = {"PATH": str(tmp_path / "bin")}
    error_of(tmp_path, cache, "its plugin buildx is not; install it", SOLUTION, variables=variables)


@pytest.mark.parametrize("listens", [False, True])
def test_stopped_docker_daemon_is_reported(listens: bool, place: Path, tmp_path: Path, cache: Path) -> None:
    """Without a socket, and with the socket that a stopped daemon leaves behind."""
    need("docker")
    if listens:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(place / "docker.sock"))
    where = f"unix://{place}/docker.sock"
    message = f"no Docker daemon answers (Cannot connect to the Docker daemon at {where}. Is the docker"
    error_of(tmp_path, cache, message, SOLUTION, variables={"DOCKER_HOST": where})


def test_unreadable_docker_socket_is_reported(place: Path, tmp_path: Path, cache: Path) -> None:
    """The user is not in the group docker."""
    need("docker")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "docker.sock"))
        listener.listen()
        (place / "docker.sock").chmod(0)
        error_of(
            tmp_path, cache, "this user may not talk to Docker (permission denied", "join the group docker", SOLUTION,
            variables={"DOCKER_HOST": f"unix://{place}/docker.sock"}, preexec_fn=drop_capabilities,
        )  # fmt: skip


@pytest.mark.parametrize("scheme", ["tcp", "ssh"])
def test_refused_connection_to_docker_is_reported(scheme: str, tmp_path: Path, cache: Path) -> None:
    need("docker"), need("ssh")
    url = f"{scheme}://127.0.0.1:{free_port()}"
    message = f"nothing answers where Docker should be ({url}: Connection refused); start it"
    error_of(tmp_path, cache, message, SOLUTION, variables={"DOCKER_HOST": url})


def test_unknown_buildx_builder_is_reported(docker: str, tmp_path: Path, cache: Path) -> None:
    message = "buildx has no builder 'unknown'; `docker buildx ls` lists them"
    error_of(tmp_path, cache, message, SOLUTION, variables={"HATCH_DOCKER_BUILDER": "unknown"})


def test_failed_cache_export_is_reported(docker: str, tmp_path: Path, cache: Path) -> None:
    """Docker's default image store cannot export a cache; with another store the push of the cache fails."""
    target = f"type=registry,ref=127.0.0.1:{free_port()}/app:cache"
    line = error_of(tmp_path, cache, "cache.to", variables={"HATCH_DOCKER_CACHE_TO": target}, steps=1)
    default = "tool.hatch-docker.cache.to: Cache export is not supported for the docker driver; use a builder that can"
    assert line.startswith((default, "exporting cache to registry failed ("))
