"""An image of a wheel that is larger than the allowed memory is built, loaded and pushed."""

import base64
import hashlib
import os
import random
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need_docker
from tests.fakes.package_index import FakeIndex
from tests.integration.builds import Outcome
from tests.integration.docker_registry import docker_registry
from tests.integration.failures import write_pylock
from tests.integration.memory_peak import run_measured
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.engine]

BOUND = 100 << 20        # the maximum memory in bytes; an empty build takes 40 MB
LARGE_BOUND = 300 << 20  # the maximum memory in bytes for a wheel of 2 GB


def make_large_wheel(path: Path, large: int, small: int, modules: int) -> None:
    """Write a wheel of random large files, small files and modules; `large`, `small`, `modules`: their sizes in MB."""
    generator = random.Random(os.urandom(8))
    files = {f"gadget/lib{n}.so": 100 << 20 for n in range(large // 100)}
    files |= {f"gadget/data/{n}.bin": 1_000_000 for n in range(small)}
    record = []
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, pieces: Iterator[bytes]) -> None:
            seen, size = hashlib.sha256(), 0
            with archive.open(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), "w", force_zip64=True) as stream:
                for piece in pieces:
                    stream.write(piece)
                    seen.update(piece)
                    size += len(piece)
            digest = base64.urlsafe_b64encode(seen.digest()).decode().rstrip("=")
            record.append(f"{name},sha256={digest},{size}\n")

        for name, size in files.items():
            add(name, (generator.randbytes(min(1 << 20, size - start)) for start in range(0, size, 1 << 20)))
        for n in range(modules * 40):
            rows = (f"def function_{row}(): return {row} + {n}\n".encode() for row in range(650))
            add(f"gadget/module_{n}.py", rows)
        add("gadget/__init__.py", iter([b""]))
        add(f"{INFO}/METADATA", iter([b"Metadata-Version: 2.3\nName: gadget\nVersion: 1.0\n"]))
        add(f"{INFO}/WHEEL", iter([b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"]))
        archive.writestr(f"{INFO}/RECORD", f"{''.join(record)}{INFO}/RECORD,,\n")


INFO = "gadget-1.0.dist-info"
FILENAME = "gadget-1.0-py3-none-any.whl"
SIZES = [
    pytest.param(100, 30, 1, BOUND, id="131 MB"),
    pytest.param(1100, 850, 50, LARGE_BOUND, id="2 GB", marks=pytest.mark.long),
]


def peak_of(project: Path, cache: Path, *command: str) -> int:
    """Run a program, which must succeed; return its peak memory in bytes."""
    done, peak = run_measured(project, cache, *command, HATCH_DOCKER_LOAD="always", no_proxy="*")
    assert done.status == 0, done.output
    return peak


@pytest.mark.parametrize(("large", "small", "modules", "bound"), SIZES)
def test_memory_is_smaller_than_the_wheel(
    large: int, small: int, modules: int, bound: int, tmp_path: Path, cache: Path, base_in_cache: None
) -> None:
    """The base is in the cache, because making a base takes more memory."""
    docker = need_docker()
    wheel = tmp_path / FILENAME
    make_large_wheel(wheel, large, small, modules)
    index = FakeIndex().add("gadget", (FILENAME, wheel.read_bytes()))
    wheel.unlink()
    image = f"hatch-docker-tests/large-{large}"
    project = write_project("hello", tmp_path / "p", options=f'image = "{image}"\ntags = ["1"]')
    with index.serving(), docker_registry(tmp_path / "registry") as registry:
        write_pylock(project, index, FILENAME)
        try:
            built = peak_of(project, cache, "hatchling", "build", "-t", "docker")
            inspect = [docker, "inspect", "-f", "{{.Size}}", f"{image}:1"]
            done = subprocess.run(inspect, capture_output=True, check=True)
            assert int(done.stdout) > (large + small) * 1_000_000
        finally:
            subprocess.run([docker, "rmi", "-f", f"{image}:1"], capture_output=True, check=False)
        pushed = peak_of(project, cache, "hatch_docker", "push", "--registry", registry.host)
        pushed_image = Outcome(0, "", project / "dist").image()
        found = (registry.data / "docker/registry/v2/blobs/sha256").glob("*/*/data")
        sizes = {path.parent.name: path.stat().st_size for path in found}
        assert all(sizes[layer.descriptor.digest[7:]] == layer.descriptor.size for layer in pushed_image.layers)
    print(f"peaks of memory: built and loaded {built >> 20} MB, pushed {pushed >> 20} MB")
    assert max(built, pushed) < bound
