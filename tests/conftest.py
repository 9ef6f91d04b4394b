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
from hypothesis import HealthCheck, settings

from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.context import Context

# Importing and collecting all tests leaves no garbage, and many objects for each collection to look at.
gc.disable()

# Modules are compiled once, not by each of the processes that the tests start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# jsonschema reads 38 grammars of this library when it is imported, for formats of IRIs, which no test checks.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

pytest.register_assert_rewrite("tests.fakes", "tests.integration", "tests.parsers")  # they say what they compared, too

from tests.fakes.captured_output import RecordedOutput, secrets_in  # noqa: E402
from tests.fakes.context import context  # noqa: E402
from tests.fakes.network import Recording  # noqa: E402
from tests.fakes.package_index import FakeIndex  # noqa: E402
from tests.fakes.registry import FakeRegistry  # noqa: E402

# A shell ignores SIGINT for what it starts in the background: for us, perhaps, and then for all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# The trees that tests make are for every user, whatever those of this one are.
os.umask(0o022)

# What a test leaves need not outlast a loss of power: to wait for the disk takes longer than most tests. Programs do.
os.fsync = lambda _file: None

# Commits are not signed and run no hook, however whoever runs the tests has set up git; help is as wide as everywhere.
GIT = {"commit.gpgsign": "false", "tag.gpgsign": "false", "core.hooksPath": os.devnull, "core.autocrlf": "false"}
for number, (key, value) in enumerate(GIT.items(), int(os.environ.get("GIT_CONFIG_COUNT", "0"))):
    os.environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    os.environ["GIT_CONFIG_COUNT"] = str(number + 1)
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The programs of this environment are in PATH, as in one that is activated: messages name our program as it is typed.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

# Builds tell a pipeline what they made, and ask it when and of what: not the one that runs the tests.
PIPELINES = ("ACTIONS_", "BUILDKITE", "CI_", "GITHUB_", "GITLAB_", "SOURCE_DATE_EPOCH")
for name in [name for name in os.environ if name.startswith(PIPELINES)]:
    del os.environ[name]
IN_PIPELINE = "TESTS_IN_PIPELINE"  # set where CI=true was, for the workers too
if os.environ.pop("CI", "") == "true":
    os.environ[IN_PIPELINE] = "true"

# The tests' own uv trusts whom the system trusts, as pip does.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Start two workers a processor: most tests wait for a program or for a file more than they compute."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_configure(config: pytest.Config) -> None:
    """Import another part of all tests in each worker first: what it compiles with their assertions, others read."""
    worker, top = os.environ.get("PYTEST_XDIST_WORKER", ""), Path(__file__).parent
    if not worker or config.args != config.getini("testpaths"):
        return
    names = [".".join(path.relative_to(top.parent).with_suffix("").parts) for path in sorted(top.rglob("test_*.py"))]
    for name in names[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        with contextlib.suppress(pytest.skip.Exception):
            importlib.import_module(name)


# The longest file, which makes the cache of whole builds, for the first worker; files that need none for the others.
FIRST = ("test_slim_base.py", "test_fuzz.py", "test_bounds.py", "test_pull.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `long`, unless `-m` names that mark. Put the files of whole builds first.

    Workers take a file after the other: at the end no worker should be alone with one that takes minutes.
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
    """Collect garbage from here on, and leave out the modules and tests that are there: they stay to the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def spread_directories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let each test's directory have inodes of its own on the disk, where the file system has that attribute.

    ext4 without a journal looks at all inodes near a new one that were freed within a minute: a test that makes files
    where another one removed thousands takes ten times as long for each.
    """
    base = tmp_path_factory.getbasetemp()
    if chattr := shutil.which("chattr"):
        subprocess.run([chattr, "+T", base.parent, base], capture_output=True, check=False)


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """Restore the variables by which a command passes on its verbosity."""
    names = ("HATCH_QUIET", "HATCH_VERBOSE")
    before = {name: os.environ[name] for name in names if name in os.environ}
    yield
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture
def secrets_stay(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Check that no line, error, log or output of the test has a secret in it."""
    recorded = RecordedOutput(monkeypatch)
    yield
    logged = [caplog.handler.format(record) for when in ("setup", "call") for record in caplog.get_records(when)]
    printed = capfd.readouterr()
    assert secrets_in([*recorded.everything(), *logged, printed.out, printed.err]) == []


def missing(what: str) -> NoReturn:
    """The test cannot be run here: it is skipped, and fails where CI=true."""
    if IN_PIPELINE in os.environ:
        pytest.fail(f"{what}, and nothing is skipped in CI")
    pytest.skip(what)


def need(program: str) -> str:
    """The path of a program that the test needs."""
    return shutil.which(program) or missing(f"{program} is missing")


@functools.cache
def need_docker() -> str:
    """The path of docker, whose daemon answers this user; it is asked once."""
    program = need("docker")
    if subprocess.run([program, "info"], capture_output=True, check=False).returncode:
        missing("no Docker daemon answers")
    return program


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] = {}) -> str:
    """Run a program that must succeed; return what it printed on standard output."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **variables}, timeout=600
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def script(path: Path, text: str) -> Path:
    """Write a program for /bin/sh, its directory too; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def recorded() -> Recording:
    return Recording()


@pytest.fixture
def lines() -> list[str]:
    """The lines that the user reads."""
    return []


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    """A context with its own home, cache and uv cache; what is said is kept at the highest verbosity."""
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
def elsewhere() -> Iterator[Path]:
    """A directory that any user can reach, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of commands that run in this process."""
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a project."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that finds registry.example on this machine: a registry that is not loopback by its name."""
    resolver = socket.getaddrinfo

    def found(host: str, *arguments: object, **named: object) -> object:
        return resolver("127.0.0.1" if host == "registry.example" else host, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)
