"""hatch_docker.bases.inspection: facts read from the files of a base, remembered by its layers."""

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


def test_official_image(tmp_path: Path) -> None:
    """Python in /usr/local, its version in its library; users, suite, usr-merge, directories."""
    facts = facts_of(debian_layer(), python_layer(), tmp_path=tmp_path)
    assert facts.interpreter == Interpreter("/usr/local/bin/python3.13", "3.13.5")
    assert facts.libc == ("glibc", "2.41")
    assert facts.users == {"root": (0, 0), "nobody": (65534, 65534), "app": (1000, 1001)}
    assert facts.suite == "trixie"
    assert facts.symlinks["lib"] == "usr/lib"
    assert facts.directories == {"usr", "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/local/lib",
                                 "etc", "tmp", "opt"}  # fmt: skip
    assert facts.unpacked_sizes == tuple(layer.unpacked_size for layer in (debian_layer(), python_layer()))


def test_python_of_usr_local_comes_before_that_of_usr(tmp_path: Path) -> None:
    """Debian's own Python may be there only as a dependency of another package."""
    python = file("usr/bin/python3.11", program("amd64", "3.11.2"), 0o755)
    debian = layer_of([python, link("usr/bin/python3", "python3.11")])
    alone = facts_of(debian_layer(), debian, tmp_path=tmp_path / "a")
    assert alone.interpreter == Interpreter("/usr/bin/python3.11", "3.11.2")
    both = facts_of(debian_layer(), debian, python_layer(), tmp_path=tmp_path / "b")
    assert both.interpreter.path == "/usr/local/bin/python3.13"


@pytest.mark.parametrize(("kind", "abi"), [("symlink", "t"), ("hardlink", "t"), ("file", "td")])
def test_free_threaded_and_debug_builds(tmp_path: Path, kind: str, abi: str) -> None:
    """The program's name tells them, also where the plain name is a link; modules have a directory for each ABI."""
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


def test_own_path_of_the_image_comes_first(tmp_path: Path) -> None:
    """Other images have Python elsewhere, in a directory of their PATH."""
    other = python_layer(version="3.12.1", prefix="opt/conda")
    facts = facts_of(debian_layer(), python_layer(), other, tmp_path=tmp_path, path="/opt/conda/bin:/usr/local/bin")
    assert facts.interpreter == Interpreter("/opt/conda/bin/python3.12", "3.12.1")


def test_interpreter_is_the_real_file(tmp_path: Path) -> None:
    """The virtual environment must not depend on a link, which a base may replace."""
    layer = layer_of([
        file("usr/lib/pythons/bin/python3.13", program("amd64", "3.13.0rc2"), 0o755),
        link("usr/bin/python3", "/lib/pythons/bin/python3.13"),
    ])  # fmt: skip
    facts = facts_of(debian_layer(), layer, tmp_path=tmp_path)
    assert facts.interpreter == Interpreter("/usr/lib/pythons/bin/python3.13", "3.13.0rc2")


def test_newest_python_without_a_link(tmp_path: Path) -> None:
    layer = layer_of([file(f"usr/bin/python3.{minor}", program("amd64", f"3.{minor}.1")) for minor in (9, 12, 11)])
    assert facts_of(debian_layer(), layer, tmp_path=tmp_path).interpreter.version == "3.12.1"


def test_removed_python_is_not_there(tmp_path: Path) -> None:
    """A whiteout removes a Python of an earlier layer."""
    removal = layer_of([file("usr/local/bin/.wh.python3.13"), file("usr/local/bin/.wh.python3")])
    with pytest.raises(BaseImageError, match="test has no Python 3 in /usr/local/bin, /usr/bin"):
        facts_of(debian_layer(), python_layer(), removal, tmp_path=tmp_path)


def test_alpine(tmp_path: Path) -> None:
    musl = program("amd64", "musl libc (x86_64)", "1.2.5")
    layer = layer_of([
        directory("lib"), file("lib/ld-musl-x86_64.so.1", musl, 0o755), file("etc/passwd", PASSWD),
        link("lib/libc.musl-x86_64.so.1", "ld-musl-x86_64.so.1"), file("etc/os-release", "ID=alpine\n"),
    ])  # fmt: skip
    facts = facts_of(layer, python_layer(), tmp_path=tmp_path)
    assert facts.libc == ("musl", "1.2")
    assert facts.suite == ""


def test_python_for_another_machine_is_refused(tmp_path: Path) -> None:
    """The architecture in the configuration is checked against the files."""
    with pytest.raises(BaseImageError, match=r"test says that it is for linux/amd64, but its Python is for arm64"):
        facts_of(debian_layer(), python_layer("arm64"), tmp_path=tmp_path)


def test_the_version_is_the_end_of_the_prefix(tmp_path: Path) -> None:
    """The linker keeps one text for "3.12.1" and for a prefix that ends with it; a text of its own counts first."""
    texts = "/opt/python/3.12.1", "/opt/older/3.12.0"
    for given, version in ((texts[:1], "3.12.1"), ((*texts, "3.12.4"), "3.12.4")):
        layer = layer_of([file("opt/python/3.12.1/bin/python3.12", program("amd64", *given), 0o755)])
        facts = facts_of(debian_layer(), layer, path="/opt/python/3.12.1/bin:/usr/bin", tmp_path=tmp_path)
        assert facts.interpreter.version == version


@pytest.mark.parametrize("place", ["build", "env", "etc", "out/deep"])
def test_python_where_the_builder_has_its_own_files(place: str, tmp_path: Path) -> None:
    """It would hide them there, or they it."""
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


def test_base_without_a_c_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseImageError, match="no C library"):
        facts_of(python_layer(), tmp_path=tmp_path)
    assert facts_of(python_layer(), layer_of([file("lib64/libc.so.6", GLIBC)]), tmp_path=tmp_path)


def test_facts_are_remembered_and_no_layer_is_opened_again(tmp_path: Path) -> None:
    """A second build needs only the diff-ids of the layers."""
    ctx = context(tmp_path)
    image = python_image()
    first = read_facts(image, "test", ctx)

    def closed() -> BinaryIO:
        raise AssertionError

    layers = tuple(dataclasses.replace(layer, open=closed) for layer in image.layers)
    assert read_facts(dataclasses.replace(image, layers=layers), "test", ctx) == first


def test_damaged_layer_is_refused_and_not_remembered(tmp_path: Path) -> None:
    """A layer that does not unpack to its diff-id is not used."""
    image: Image = python_image()
    lying = dataclasses.replace(image.layers[0], diff_id="sha256:" + "0" * 64)
    wrong = dataclasses.replace(image, layers=(lying, image.layers[1]))
    for _ in range(2):
        with pytest.raises(BaseImageError, match="base test cannot be read"):
            read_facts(wrong, "test", context(tmp_path))


