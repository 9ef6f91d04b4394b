"""A new base is decompressed only once: checks and SBOM read its layers while they are unpacked."""

import io
import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.inspection import read_facts
from hatch_docker.build.checks.loader import read_files
from hatch_docker.build.pipeline import base_readers
from hatch_docker.core.cache.store import open_store
from hatch_docker.core.context import Context
from hatch_docker.engines.early_builder import _SuiteReader, early_builder
from hatch_docker.oci.model import Layer, host_platform
from hatch_docker.release.sbom.inventory import read_inventory
from tests.fakes.bases import debian_layer, file, python_layer
from tests.fakes.images import image_of, layer_of
from tests.fakes.plans import plan
from tests.fakes.sbom_images import metadata


def base_layers() -> list[Layer]:
    system = [
        file("etc/ld.so.conf", "/usr/local/lib\n"), metadata("alpha", "1"), file("var/lib/dpkg/status.d/.wh.gone", ""),
        file("var/lib/dpkg/status.d/libc6", "Package: libc6\nVersion: 2.41\n"),
    ]  # fmt: skip
    return [debian_layer(), python_layer(host_platform().architecture), layer_of(system)]


def fail_if_opened() -> Any:
    raise AssertionError("opened again")


def test_base_layers_are_decompressed_once(ctx: Context, tmp_path: Path) -> None:
    whole, base = plan({"sbom": ["cyclonedx"]}), base_layers()
    image = image_of(*base, architecture=host_platform().architecture)
    read_facts(image, "test", replace(ctx, layer_readers=base_readers(whole)), unpack=True)
    closed = [replace(layer, open=fail_if_opened) for layer in base]
    fresh = replace(ctx, store=open_store(tmp_path / "other"))
    assert read_files(closed, len(base), ctx) == read_files(base, len(base), fresh)
    found = json.dumps(read_inventory(closed, ctx), sort_keys=True)
    assert found == json.dumps(read_inventory(base, fresh), sort_keys=True)
    assert "libc6" in found


@pytest.mark.parametrize("known", [False, True])
def test_builder_is_prepared_while_a_new_base_is_unpacked(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """The suite is read from the new base. A known base already has a builder."""
    suites, started = list[str](), threading.Event()

    def builder_root(*_arguments: object, suite: str) -> None:
        suites.append(suite)
        started.set()

    monkeypatch.setattr("hatch_docker.bases.debian.base.builder_root", builder_root)
    compiled = plan({"base": "python:3.13-slim", "build": {"isolated": "always"}})
    image = image_of(*base_layers(), architecture=host_platform().architecture)
    if known:
        read_facts(image, "test", ctx, unpack=True)
    with early_builder(compiled, host_platform(), ctx) as inner:
        assert not suites
        read_facts(image, "test", inner, unpack=True)
        assert started.wait(0 if known else 10) is not known
    assert suites == ([] if known else ["trixie"])


@pytest.mark.parametrize(
    ("files", "suite"),
    [
        ({"etc/debian_version": "12.11\n", "usr/lib/os-release": "ID=other\n"}, "bookworm"),
        ({"etc/debian_version": "trixie/sid\n", "usr/lib/os-release": "ID=debian\nVERSION_CODENAME=forky\n"}, "forky"),
        ({"etc/debian_version": "kali-rolling\n"}, None),
    ],
)
def test_suite_is_read_from_the_first_file_that_names_it(files: dict[str, str], suite: str | None) -> None:
    future = Future[str]()
    reader = _SuiteReader(future)
    for path, text in files.items():
        reader.read_entry(file(path, text), io.BytesIO(text.encode()))
    assert (future.result(0) if future.done() else None) == suite
