"""Fixtures for whole builds: a cache that all tests share, so that each base is made once; registries; engines."""

import contextlib
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
from tests.integration.compare_engines import edit_module
from tests.integration.docker_registry import Server, docker_registry
from tests.integration.prepared_build import push_base
from tests.projects import write_project

SHARED_IMAGE = "hatch-docker-tests/shared"


@contextlib.contextmanager
def layers_in_docker(archive: Path) -> Iterator[None]:
    """Load an image into Docker, if there is Docker, so that later loads and builds find its layers there."""
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["docker", "load", "--quiet", "--input", archive], capture_output=True, check=False)
    yield
    with contextlib.suppress(FileNotFoundError):
        names = [f"{SHARED_IMAGE}:1.0.0", f"{SHARED_IMAGE}:latest"]
        subprocess.run(["docker", "rmi", *names], capture_output=True, check=False)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a directory that all workers share, with two caches: `hello` after one build, and `cache` of all tests."""
    base = tmp_path_factory.getbasetemp()
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    shared = (base.parent if parallel else base) / "shared"  # the workers' own directories lie beside it
    shared.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        with (shared / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / "cache").exists():
                project = write_project("hello", shared / "project", options=f'image = "{SHARED_IMAGE}"')
                edit_module(project)
                build(project, shared / "hello")
                shutil.copytree(shared / "hello", shared / "new", symlinks=True)
                (shared / "new").rename(shared / "cache")
                stack.enter_context(layers_in_docker(shared / "project/dist/hello-1.0.0.oci.tar"))
        yield shared


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    """Return the cache of whole builds. All workers use it at the same time, so that each base is made once.

    With TEST_CACHE_DIR all sessions use that directory, which saves a developer's time.
    """
    if directory := os.environ.get("TEST_CACHE_DIR"):
        return Path(directory)
    shared: Path = request.getfixturevalue("shared")
    return shared / "cache"


@pytest.fixture(scope="session")
def hello_cache(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a private cache of this worker, with the base of `hello`: its files keep their ctime (`linked_cache`)."""
    return shutil.copytree(shared / "hello", tmp_path_factory.mktemp("hello") / "cache", symlinks=True)


@pytest.fixture(scope="module")
def docker() -> Iterator[str]:
    program = need_docker()
    yield program
    # The build cache belongs to the user of the daemon: only what exceeds a limit is removed.
    subprocess.run([program, "builder", "prune", "-af", "--keep-storage=2GB"], capture_output=True, check=False)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return environment variables that give Podman a new storage, and a configuration that needs no systemd."""
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
def find_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a wheel of hatch-docker, for `--find-links` of isolated build environments."""
    directory = tmp_path_factory.mktemp("links")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=Path(__file__).parent.parent.parent, check=True, capture_output=True)
    return directory


@pytest.fixture
def skopeo(tmp_path: Path) -> list[str]:
    """Return the command of skopeo with an empty file of logins; the user's own file may be unreadable."""
    path = tmp_path / "auth.json"
    path.write_text("{}")
    return ["env", f"REGISTRY_AUTH_FILE={path}", need("skopeo")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[str]:
    """Return the name of a base image in a registry."""
    with FakeRegistry() as registry:
        yield push_base(registry, cache, tmp_path_factory.mktemp("base") / "p")


@pytest.fixture(scope="module")
def base_in_cache(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put the base into the cache, so that later builds print no lines about making it."""
    build(write_project("hello", tmp_path_factory.mktemp("first")), cache)
