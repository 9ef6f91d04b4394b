"""Fixtures of whole builds: one cache for the session, so that each base is made once; registries and engines."""

import fcntl
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import Progress
from hatch_docker.oci.registry import Remote
from tests.conftest import need, need_docker
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build
from tests.integration.docker_registry import Server, docker_registry
from tests.integration.prepared_build import serve_base
from tests.projects import write_project


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all builds of a worker, with a base and a compiler that one worker made for all.

    TEST_CACHE_DIR keeps one cache for all workers, over sessions, to save a developer's time.
    """
    if kept := os.environ.get("TEST_CACHE_DIR"):
        return Path(kept)
    cache = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return cache
    shared = tmp_path_factory.getbasetemp().parent / "shared"  # the workers' own directories lie beside it
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "cache").exists():
            project = write_project("c-extension", shared / "p")
            source = project / "c_extension/_answer.c"
            source.write_text(f"{source.read_text()}/* no other project's code */")
            build(project, shared / "made")
            (shared / "made").rename(shared / "cache")
    shutil.copytree(shared / "cache", cache, symlinks=True, dirs_exist_ok=True)
    return cache


@pytest.fixture(scope="module")
def docker() -> Iterator[str]:
    program = need_docker()
    yield program
    # The daemon is its user's: only what is beyond a bound goes.
    subprocess.run([program, "builder", "prune", "-af", "--keep-storage=2GB"], capture_output=True, check=False)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that give Podman a storage of the test's own, and what it needs without systemd."""
    need("podman"), need("runc")
    processes = "{}:{}".format(*resource.getrlimit(resource.RLIMIT_NPROC))
    places = f'graphroot = "{tmp_path}/graph"\nrootless_storage_path = "{tmp_path}/graph"\n'
    driver = "overlay" if os.geteuid() == 0 else "vfs"
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "{driver}"\n{places}runroot = "{tmp_path}/run"\n')
    (tmp_path / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc={processes}"]\nnetns = "host"\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    variables = {
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"), "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
    }
    yield variables
    subprocess.run(["podman", "rmi", "-af"], capture_output=True, check=False, env={**os.environ, **variables})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def remote() -> Remote:
    lines: list[str] = []
    return Remote(Client({}, Progress(lines.append)), {})


@pytest.fixture(scope="session")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel of this project, for the environments that frontends make."""
    directory = tmp_path_factory.mktemp("links")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=Path(__file__).parent.parent.parent, check=True, capture_output=True)
    return directory


@pytest.fixture
def skopeo(tmp_path: Path) -> list[str]:
    """skopeo, which reads no login of the user's: without a login session it may not."""
    path = tmp_path / "auth.json"
    path.write_text("{}")
    return ["env", f"REGISTRY_AUTH_FILE={path}", need("skopeo")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[str]:
    """The name of a base in a registry."""
    with FakeRegistry() as registry:
        yield serve_base(registry, cache, tmp_path_factory.mktemp("base") / "p")


@pytest.fixture(scope="module")
def made_before(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The base is there, so that no line tells of its making."""
    build(write_project("hello", tmp_path_factory.mktemp("first")), cache)
