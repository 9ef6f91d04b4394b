"""Faults that the fake registry plays and a real one does not: peers that hang, drip, limit, speak TLS or not."""

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
    with FakeRegistry(password=PASSWORD) as made:
        yield made


def journey(registry: FakeRegistry, recorded: Recording, directory: Path) -> None:
    push(recorded.remote, IMAGE, [name(registry)])
    back = pull(recorded.remote, name(registry), AMD64, open_store(directory / "cache"))
    with back.layers[0].open() as stream:
        assert stream.read(10)


@pytest.mark.parametrize("fault", ["hang", "drip-head"])
@pytest.mark.parametrize("step", STEPS)
def test_a_peer_that_hangs_or_drips(step: str, fault: str, registry: FakeRegistry, tmp_path: Path) -> None:
    """On each step it is given up in time, once and for all at the second look, and one that recovers is not."""
    recorded = Recording(login(tmp_path, registry), idle=0.3)
    registry.fault(*STEPS[step], fault)
    start = time.monotonic()
    journey(registry, recorded, tmp_path)
    assert len(recorded.lines) == 1
    registry.repositories.clear()
    registry.fault(*STEPS[step], fault, times=99)
    lines = pytest.raises(TransientError, match=r"(sent nothing for|bytes came in) 0 s; gave up after 2 tries")
    arrived = (step, fault) == ("PUT blob", "drip-head")  # so the second look finds it
    with contextlib.nullcontext() if arrived else lines:
        journey(registry, Recording(login(tmp_path, registry), idle=0.3), tmp_path / "again")
    assert time.monotonic() - start < 8


def test_how_long_a_peer_has() -> None:
    """With the times of a user's own build, two looks and the pause between them are less than a minute."""
    client = Client({}, silent())
    assert 2 * client.idle + LONGEST_PAUSE < 60
