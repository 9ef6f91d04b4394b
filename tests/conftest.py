"""What tests share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from hatch_docker.store import Store, open_store
from tests.fakes.overheard import Overheard, secrets_in
from tests.fakes.registry import FakeRegistry
from tests.fakes.world import World

# A shell ignores SIGINT for what it starts in the background: for us, perhaps, and then for all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests' own uv trusts whom the system trusts, as pip does.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long is left out, unless `-m` asks for it."""
    if "long" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """How much a command is asked to tell it hands on by variables, which the next test would have, too."""
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
    """B7: whatever the test does, no line, no error, nothing that is printed or logged has a secret in it."""
    heard = Overheard(monkeypatch)
    yield
    logged = [caplog.handler.format(record) for when in ("setup", "call") for record in caplog.get_records(when)]
    printed = capfd.readouterr()
    assert secrets_in([*heard.everything(), *logged, printed.out, printed.err]) == []


def missing(what: str) -> NoReturn:
    """The test cannot be run here: it is skipped, and fails where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and nothing is skipped in CI")
    pytest.skip(what)


def need(program: str) -> str:
    """The path of a program that the test needs."""
    return shutil.which(program) or missing(f"{program} is missing")


def need_docker() -> str:
    """The path of docker, whose daemon answers this user."""
    program = need("docker")
    if subprocess.run([program, "info"], capture_output=True, check=False).returncode:
        missing("no Docker daemon answers")
    return program


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


@pytest.fixture
def world() -> World:
    return World()
