"""Tests of hatch_docker.bases.inspection: facts read from the layers of an image, and kept in the store."""

import dataclasses
from pathlib import Path
from typing import BinaryIO

import pytest

from hatch_docker.bases.inspection import Facts, read_facts
from hatch_docker.bases.model import Interpreter, split_build
from hatch_docker.core.errors import BaseImageError
from hatch_docker.oci.model import Image, Layer
from hatch_docker.oci.tar import Entry
from hatch_docker.wheels.install.layout import VenvTarget
from tests.fakes.bases import GLIBC, PASSWD, debian_layer, directory, file, link, program, python_image, python_layer
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of


def facts_of(*layers: Layer, tmp_path: Path, architecture: str = "amd64", path: str = "") -> Facts:
    return read_facts(image_of(*layers, architecture=architecture, path=path), "test", context(tmp_path))


def test_facts_of_an_official_python_image(tmp_path: Path) -> None:
    """Python is in /usr/local, and its version in libpython."""
    facts = facts_of(debian_layer(), python_layer(), tmp_path=tmp_path)
    assert facts.interpreter == Interpreter("/usr/local/bin/python3.13", "3.13.5")
    assert facts.libc == ("glibc", "2.41")
    assert facts.users == {"root": (0, 0), "nobody": (65534, 65534), "app": (1000, 1001)}
    assert facts.suite == "trixie"
    assert facts.symlinks["lib"] == "usr/lib"
    assert facts.directories == {"usr", "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/local/lib",
                                 "etc", "tmp", "opt"}  # fmt: skip
    assert facts.unpacked_sizes == tuple(layer.unpacked_size for layer in (debian_layer(), python_layer()))


def test_python_in_usr_local_has_priority(tmp_path: Path) -> None:
    """The Python in /usr may be only a dependency of another package."""
    python = file("usr/bin/python3.11", program("amd64", "3.11.2"), 0o755)
    debian = layer_of([python, link("usr/bin/python3", "python3.11")])
    alone = facts_of(debian_layer(), debian, tmp_path=tmp_path / "a")
    assert alone.interpreter == Interpreter("/usr/bin/python3.11", "3.11.2")
    both = facts_of(debian_layer(), debian, python_layer(), tmp_path=tmp_path / "b")
    assert both.interpreter.path == "/usr/local/bin/python3.13"


@pytest.mark.parametrize(("kind", "abi"), [("symlink", "t"), ("hardlink", "t"), ("file", "td")])
def test_abi_flags_come_from_name_of_the_program(tmp_path: Path, kind: str, abi: str) -> None:
    """The plain name may be a link to it. The standard library has a directory for each ABI."""
    python = file(f"usr/local/bin/python3.14{abi}", program("amd64", "3.14.0"), 0o755)
    target = python.path if kind == "hardlink" else python.path.rpartition("/")[2]
    plain = [] if kind == "file" else [Entry("usr/local/bin/python3.14", kind, 0o755, 0, target=target)]
    first = link("usr/local/bin/python3", f"python3.14{abi if kind == 'file' else ''}")
    layer = layer_of([python, *plain, first, file("usr/local/lib/python3.14t/os.py")])
    found = facts_of(debian_layer(), layer, tmp_path=tmp_path).interpreter
    assert found == Interpreter(f"/{python.path}", "3.14.0", abi)
    assert (found.name, found.build, found.cache_tag) == ("3.14t", f"3.14.0{abi}", "cpython-314")
    assert split_build(found.build) == (found.version, found.abi)
    venv = VenvTarget(found)
    assert venv.site_packages == "opt/venv/lib/python3.14t/site-packages"
    assert {"bin/python", "bin/python3", "bin/python3.14", "bin/python3.14t"} < set(venv.links)


def test_path_of_the_image_has_priority(tmp_path: Path) -> None:
    """Some images have Python in another directory of their PATH."""
    other = python_layer(version="3.12.1", prefix="opt/conda")
    facts = facts_of(debian_layer(), python_layer(), other, tmp_path=tmp_path, path="/opt/conda/bin:/usr/local/bin")
    assert facts.interpreter == Interpreter("/opt/conda/bin/python3.12", "3.12.1")


def test_interpreter_path_has_no_links(tmp_path: Path) -> None:
    """A virtual environment must not depend on a link, because a base may replace it."""
    layer = layer_of([
        file("usr/lib/pythons/bin/python3.13", program("amd64", "3.13.0rc2"), 0o755),
        link("usr/bin/python3", "/lib/pythons/bin/python3.13"),
    ])  # fmt: skip
    facts = facts_of(debian_layer(), layer, tmp_path=tmp_path)
    assert facts.interpreter == Interpreter("/usr/lib/pythons/bin/python3.13", "3.13.0rc2")


def test_newest_python_is_chosen_without_a_link(tmp_path: Path) -> None:
    layer = layer_of([file(f"usr/bin/python3.{minor}", program("amd64", f"3.{minor}.1")) for minor in (9, 12, 11)])
    assert facts_of(debian_layer(), layer, tmp_path=tmp_path).interpreter.version == "3.12.1"


def test_python_removed_by_whiteout_is_ignored(tmp_path: Path) -> None:
    removal = layer_of([file("usr/local/bin/.wh.python3.13"), file("usr/local/bin/.wh.python3")])
    with pytest.raises(BaseImageError, match="test has no Python 3 in /usr/local/bin, /usr/bin"):
        facts_of(debian_layer(), python_layer(), removal, tmp_path=tmp_path)


def test_facts_of_an_alpine_image(tmp_path: Path) -> None:
    musl = program("amd64", "musl libc (x86_64)", "1.2.5")
    layer = layer_of([
        directory("lib"), file("lib/ld-musl-x86_64.so.1", musl, 0o755), file("etc/passwd", PASSWD),
        link("lib/libc.musl-x86_64.so.1", "ld-musl-x86_64.so.1"), file("etc/os-release", "ID=alpine\n"),
    ])  # fmt: skip
    facts = facts_of(layer, python_layer(), tmp_path=tmp_path)
    assert facts.libc == ("musl", "1.2")
    assert facts.suite == ""


def test_python_of_another_architecture_is_rejected(tmp_path: Path) -> None:
    """The architecture in the image's configuration may be wrong."""
    with pytest.raises(BaseImageError, match=r"test is declared for linux/amd64, but its Python is for arm64"):
        facts_of(debian_layer(), python_layer("arm64"), tmp_path=tmp_path)


def test_version_is_read_from_the_end_of_the_prefix(tmp_path: Path) -> None:
    """The linker merges the string "3.12.1" with a prefix that ends with it. A separate string has priority."""
    prefixes = "/opt/python/3.12.1", "/opt/older/3.12.0"
    for strings, version in ((prefixes[:1], "3.12.1"), ((*prefixes, "3.12.4"), "3.12.4")):
        layer = layer_of([file("opt/python/3.12.1/bin/python3.12", program("amd64", *strings), 0o755)])
        facts = facts_of(debian_layer(), layer, path="/opt/python/3.12.1/bin:/usr/bin", tmp_path=tmp_path)
        assert facts.interpreter.version == version


@pytest.mark.parametrize("place", ["build", "env", "etc", "out/deep"])
def test_python_in_directories_of_the_builder_is_rejected(place: str, tmp_path: Path) -> None:
    """The builder stage needs these paths for other files."""
    layer = layer_of([file(f"{place}/bin/python3.13", program("amd64", "3.13.1"), 0o755)])
    with pytest.raises(BaseImageError, match=rf"base test has its Python in /{place}/bin, a directory that"):
        facts_of(debian_layer(), layer, path=f"/{place}/bin:/usr/bin", tmp_path=tmp_path)


@pytest.mark.parametrize(("entries", "message"), [
    ([file("usr/bin/python3.13", b"#!/bin/sh\n")], "not an ELF program"),
    ([file("usr/bin/python3.13", program("amd64", "2.7.18"))], "its /usr/bin/python3.13 has no version of Python"),
    ([link("usr/bin/python3", "python3")], "loop of symbolic links"),
])  # fmt: skip
def test_unusable_base_gives_one_line(entries: list, message: str, tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match=message) as caught:
        facts_of(debian_layer(), layer_of(entries), tmp_path=tmp_path)
    assert "\n" not in str(caught.value)


def test_base_without_c_library_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="no C library"):
        facts_of(python_layer(), tmp_path=tmp_path)
    assert facts_of(python_layer(), layer_of([file("lib64/libc.so.6", GLIBC)]), tmp_path=tmp_path)


def test_stored_facts_need_no_layers(tmp_path: Path) -> None:
    """A second build needs only the diff-ids of the layers."""
    ctx = context(tmp_path)
    image = python_image()
    first = read_facts(image, "test", ctx)

    def fail() -> BinaryIO:
        raise AssertionError

    layers = tuple(dataclasses.replace(layer, open=fail) for layer in image.layers)
    assert read_facts(dataclasses.replace(image, layers=layers), "test", ctx) == first


def test_damaged_layer_is_rejected_and_not_stored(tmp_path: Path) -> None:
    """The layer does not unpack to its diff-id."""
    image: Image = python_image()
    damaged = dataclasses.replace(image.layers[0], diff_id="sha256:" + "0" * 64)
    wrong = dataclasses.replace(image, layers=(damaged, image.layers[1]))
    for _ in range(2):
        with pytest.raises(BaseImageError, match="base test cannot be read"):
            read_facts(wrong, "test", context(tmp_path))


