"""Faults of the fake registry that a proxy before a real one does not have: servers that hang or send single bytes."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import TransientError
from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import LONGEST_PAUSE
from hatch_docker.core.progress import silent
from hatch_docker.oci.pull import pull
from tests.fakes.images import AMD64, small_image, small_layer
from tests.fakes.network import PASSWORD, Recording, login, name
from tests.fakes.registry import FakeRegistry, push
from tests.fakes.registry_proxy import STEPS

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")

IMAGE = small_image(small_layer("data", bytes(90_000)))


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(password=PASSWORD) as registry:
        yield registry


def push_and_pull(registry: FakeRegistry, recorded: Recording, directory: Path) -> None:
    push(recorded.remote, IMAGE, [name(registry)])
    back = pull(recorded.remote, name(registry), AMD64, open_store(directory / "cache"))
    with back.layers[0].open() as stream:
        assert stream.read(10)


@pytest.mark.parametrize("fault", ["hang", "drip-head"])
@pytest.mark.parametrize("step", STEPS)
def test_server_that_hangs_or_drips(step: str, fault: str, registry: FakeRegistry, tmp_path: Path) -> None:
    """At each step one fault is retried; a permanent one is an error after two tries."""
    recorded = Recording(login(tmp_path, registry), idle=0.3)
    registry.fault(*STEPS[step], fault)
    start = time.monotonic()
    push_and_pull(registry, recorded, tmp_path)
    assert len(recorded.lines) == 1
    registry.repositories.clear()
    registry.fault(*STEPS[step], fault, times=99)
    failure = pytest.raises(TransientError, match=r"(sent nothing for|bytes came in) 0 s; gave up after 2 tries")
    stored = (step, fault) == ("PUT blob", "drip-head")  # so the second try finds the blob
    with contextlib.nullcontext() if stored else failure:
        push_and_pull(registry, Recording(login(tmp_path, registry), idle=0.3), tmp_path / "again")
    assert time.monotonic() - start < 8


def test_two_timeouts_take_less_than_a_minute() -> None:
    """With the default timeout, including the pause between the tries."""
    client = Client({}, silent())
    assert 2 * client.idle + LONGEST_PAUSE < 60
