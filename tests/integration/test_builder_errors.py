"""Builders that are missing or refuse, as the real programs tell it: one line with the way out, and dist/ as it was.

What programs of other versions say is in test_buildx.py.
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
from tests.integration.failures import check_error, project, without_privileges

pytestmark = [pytest.mark.network, pytest.mark.engine, pytest.mark.usefixtures("made_before")]

WAY_OUT = 'set engine = "embedded", which needs neither Docker nor Podman'


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def refused(
    work: Path, cache: Path, *parts: str, variables: Mapping[str, str], steps: int = 0, **options: object
) -> str:
    """The line of a build that has something to build and nobody who does."""
    made = project(work)
    (made / "hello/new.py").write_text(f"# {secrets.token_hex()}\n")
    outcome: Outcome = run_build(made, cache, variables={**BUILDKIT, **variables}, **options)
    return check_error(outcome, *parts, steps=steps)


def test_neither_docker_nor_podman(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bin").mkdir()
    refused(tmp_path, cache, "neither is in PATH", WAY_OUT, variables={"PATH": str(tmp_path / "bin")})


def test_a_docker_without_buildx(tmp_path: Path, cache: Path) -> None:
    """As the program of an older package says it, with plugins that are elsewhere."""
    script(tmp_path / "bin/docker", f'shift\nexec {need("docker")} no-such-plugin "$@"')
    refused(tmp_path, cache, "its plugin buildx is not; install it", WAY_OUT, variables={"PATH": str(tmp_path / "bin")})


@pytest.mark.parametrize("listens", [False, True])
def test_a_daemon_that_was_stopped(listens: bool, place: Path, tmp_path: Path, cache: Path) -> None:
    """With and without the socket that one left behind."""
    need("docker")
    if listens:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(place / "docker.sock"))
    where = f"unix://{place}/docker.sock"
    refused(tmp_path, cache, f"no Docker daemon answers (Cannot connect to the Docker daemon at {where}. Is the docker",
            WAY_OUT, variables={"DOCKER_HOST": where})  # fmt: skip


def test_a_socket_that_is_somebody_else_s(place: Path, tmp_path: Path, cache: Path) -> None:
    """As for a user who is not in the group docker."""
    need("docker")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(place / "docker.sock"))
        theirs.listen()
        (place / "docker.sock").chmod(0)
        refused(
            tmp_path, cache, "this user may not talk to Docker (permission denied", "join the group docker", WAY_OUT,
            variables={"DOCKER_HOST": f"unix://{place}/docker.sock"}, preexec_fn=without_privileges,
        )  # fmt: skip


@pytest.mark.parametrize("scheme", ["tcp", "ssh"])
def test_a_host_that_takes_no_connection(scheme: str, tmp_path: Path, cache: Path) -> None:
    need("docker"), need("ssh")
    url = f"{scheme}://127.0.0.1:{free_port()}"
    refused(tmp_path, cache, f"nothing answers where Docker should be ({url}: Connection refused); start it", WAY_OUT,
            variables={"DOCKER_HOST": url})  # fmt: skip


def test_a_builder_that_nobody_made(docker: str, tmp_path: Path, cache: Path) -> None:
    refused(tmp_path, cache, "buildx has no builder 'nobody-made-it'; `docker buildx ls` lists them", WAY_OUT,
            variables={"HATCH_DOCKER_BUILDER": "nobody-made-it"})  # fmt: skip


def test_a_store_that_cannot_export_a_cache(docker: str, tmp_path: Path, cache: Path) -> None:
    """Docker's default one; what can do it finds that nobody takes the cache."""
    target = f"type=registry,ref=127.0.0.1:{free_port()}/app:cache"
    line = refused(tmp_path, cache, "cache.to", variables={"HATCH_DOCKER_CACHE_TO": target}, steps=1)
    default = "tool.hatch-docker.cache.to: Cache export is not supported for the docker driver; name a builder that can"
    assert line.startswith((default, "exporting cache to registry failed ("))
