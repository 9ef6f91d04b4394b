"""Fixtures and settings that all tests share."""

import contextlib
import functools
import gc
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

# Hypothesis would import trio, which another library brings.
os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")

from hypothesis import HealthCheck, settings

from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.context import Context

# The collection of tests creates many objects and no garbage: garbage collection would only cost time.
gc.disable()

# Write .pyc files, so that the tests' child processes do not compile the modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# When jsonschema is imported, this library reads 38 grammars for IRI formats, which no test checks.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

pytest.register_assert_rewrite("tests.fakes", "tests.integration", "tests.parsers")  # their assertions show the values

from tests.fakes.captured_output import RecordedOutput, secrets_in  # noqa: E402
from tests.fakes.context import context  # noqa: E402
from tests.fakes.network import Recording  # noqa: E402
from tests.fakes.package_index import FakeIndex  # noqa: E402
from tests.fakes.registry import FakeRegistry  # noqa: E402

# Shells disable SIGINT for background processes, and child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of an example depends on the machine's load, not on the code.
settings.register_profile("no-deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-deadline")

# Files of tests are readable for all users, whatever the umask of this user is.
os.umask(0o022)

# Files of tests need not survive a power failure, and fsync takes longer than most tests. Child processes do call it.
os.fsync = lambda _file: None

# The user's settings of git do not sign commits or run hooks, and the terminal does not set the width of help texts.
GIT = {"commit.gpgsign": "false", "tag.gpgsign": "false", "core.hooksPath": os.devnull, "core.autocrlf": "false"}
for number, (key, value) in enumerate(GIT.items(), int(os.environ.get("GIT_CONFIG_COUNT", "0"))):
    os.environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    os.environ["GIT_CONFIG_COUNT"] = str(number + 1)
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# PATH has the programs of this environment, as after its activation: messages then show the short program name.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

# Builds read variables of a CI pipeline and write its outputs. The pipeline of the tests must not affect them.
PIPELINES = ("ACTIONS_", "BUILDKITE", "CI_", "GITHUB_", "GITLAB_", "SOURCE_DATE_EPOCH")
for name in [name for name in os.environ if name.startswith(PIPELINES)]:
    del os.environ[name]
IN_PIPELINE = "TESTS_IN_PIPELINE"  # set instead of CI=true, also for the workers
if os.environ.pop("CI", "") == "true":
    os.environ[IN_PIPELINE] = "true"

# uv trusts the system's CAs in tests, like pip.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Start two workers for each processor: most tests wait longer for programs and files than they compute."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    """Import a different part of the tests first in each worker: the others use its .pyc files with assertions."""
    worker, top = os.environ.get("PYTEST_XDIST_WORKER", ""), Path(__file__).parent
    if not worker or config.args != config.getini("testpaths"):
        return
    names = [".".join(path.relative_to(top.parent).with_suffix("").parts) for path in sorted(top.rglob("test_*.py"))]
    for name in names[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        with contextlib.suppress(pytest.skip.Exception):
            importlib.import_module(name)


# The first file of each worker: the longest one, which fills the cache of whole builds, and three that do not use it.
FIRST = ("test_slim_base.py", "test_fuzz.py", "test_bounds.py", "test_pull.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `long`, unless `-m` names this mark. Put files with whole builds first.

    Each worker takes the next file: at the end no worker should be alone with a file that takes minutes.
    """
    slow = {item.path for item in items if item.get_closest_marker("engine")}
    first = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: (
        first.get(item.path.name, len(FIRST)), item.path not in slow, "integration" not in item.path.parts,
    ))  # fmt: skip
    if "long" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Enable garbage collection, and exclude the existing modules and tests from it: they stay until the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def spread_directories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Spread the tests' directories over the disk (`chattr +T`), if the file system supports it.

    ext4 without a journal checks all inodes near a new one that were freed within a minute. A test that creates files
    where another test removed thousands takes ten times as long for each file.
    """
    base = tmp_path_factory.getbasetemp()
    if chattr := shutil.which("chattr"):
        subprocess.run([chattr, "+T", base.parent, base], capture_output=True, check=False)


@pytest.fixture(autouse=True)
def restore_verbosity() -> Iterator[None]:
    """Restore the variables that pass the verbosity to child processes."""
    names = ("HATCH_QUIET", "HATCH_VERBOSE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    yield
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture
def check_no_secret_leaks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Check that no line, error, log or output of the test contains a secret."""
    recorded = RecordedOutput(monkeypatch)
    yield
    logged = [caplog.handler.format(record) for when in ("setup", "call") for record in caplog.get_records(when)]
    printed = capfd.readouterr()
    assert secrets_in([*recorded.everything(), *logged, printed.out, printed.err]) == []


def missing(reason: str) -> NoReturn:
    """Skip the test. Fail it if CI=true."""
    if IN_PIPELINE in os.environ:
        pytest.fail(f"{reason}, and nothing is skipped in CI")
    pytest.skip(reason)


def need(program: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    return shutil.which(program) or missing(f"{program} is missing")


@functools.cache
def need_docker() -> str:
    """Return the path of docker; skip the test if its daemon does not respond."""
    program = need("docker")
    if subprocess.run([program, "info"], capture_output=True, check=False).returncode:
        missing("no Docker daemon answers")
    return program


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] = {}) -> str:
    """Run a program that must succeed; return its standard output."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **variables}, timeout=600
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def script(path: Path, text: str) -> Path:
    """Write a program for /bin/sh and its directory; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def recorded() -> Recording:
    return Recording()


@pytest.fixture
def lines() -> list[str]:
    """The lines of output that a user sees."""
    return []


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    """A context with its own home, cache and uv cache. It writes messages of the highest verbosity to `lines`."""
    home = tmp_path / "home"
    return context(
        tmp_path / "store", lines, verbosity=2, PATH=os.environ["PATH"], HOME=str(home), XDG_CONFIG_HOME=str(home),
        XDG_CONFIG_DIRS=str(home), UV_CACHE_DIR=str(tmp_path / "uv-cache"), PIP_CONFIG_FILE="/dev/null",
    )  # fmt: skip


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex().serving() as serving:
        yield serving


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A directory that all users can access, unlike pytest's directories."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test for commands that run in this process."""
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a project."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def registry_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver for the host registry.example: it is this machine, but not loopback by its name."""
    resolver = socket.getaddrinfo

    def found(host: str, *arguments: object, **named: object) -> object:
        return resolver("127.0.0.1" if host == "registry.example" else host, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)
