"""Tests of hatch_docker.bases.debian.apt_packages: which packages are added to a base with apt."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hatch_docker.bases.debian.apt_packages import has_apt, installed, select_additions
from hatch_docker.bases.debian.resolver import Package
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.errors import BaseImageError
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import directory, file
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of

STATUS = """\
Package: apt
Status: install ok installed
Version: 3.0.3
Architecture: amd64
Depends: libc6 (>= 2.34)

Package: dpkg
Status: install ok installed
Version: 1.22.21
Architecture: amd64

Package: removed
Status: deinstall ok config-files
Version: 1
Architecture: amd64

Package: held
Status: hold ok installed
Version: 2
Architecture: amd64
Provides: virtual (= 3)
"""


def package(name: str, version: str = "1", depends: str = "", conflicts: str = "", provides: str = "") -> Package:
    return Package(
        name, version, "amd64", f"pool/{name}.deb", 1, f"sha256:{name}", depends=depends, conflicts=conflicts,
        provides=provides,
    )  # fmt: skip


def added(names: str, offered: Sequence[Package], base: Sequence[Package]) -> list[str]:
    """Return name and version of the added packages. The offered packages have relations only after they were read."""
    bare = [package(item.name, item.version) for item in offered]
    whole = {item.name: item for item in offered}

    def read(some: Sequence[Package]) -> list[Package]:
        return [whole[item.name] for item in some]

    found = select_additions(names.split(), bare, base, read, "python:slim")
    return [f"{item.name} {item.version}" for item in found]


def test_installed_packages_are_not_added() -> None:
    assert added("a", [package("a", "2", "b"), package("b")], [package("a", "1")]) == []


def test_only_missing_dependencies_are_added() -> None:
    offered = [package("a", "1", "b, c (>= 2) | d"), package("b", "1", "e"), package("d"), package("e"), package("f")]
    assert added("a", offered, [package("e", "0.1")]) == ["a 1", "b 1", "d 1"]


def test_outdated_package_and_its_exact_dependents_are_replaced() -> None:
    offered = [package("dev", "3", "lib (= 3)"), package("lib", "3"), package("bin", "3", "lib (= 3)")]
    base = [package("lib", "2"), package("bin", "2", "lib (= 2)"), package("other", "1", "lib (>= 1)")]
    assert added("dev", offered, base) == ["bin 3", "dev 3", "lib 3"]


def test_conflicting_packages_are_replaced() -> None:
    offered = [package("a", "1", conflicts="old (<< 2), gone"), package("old", "2")]
    assert added("a", offered, [package("old", "1"), package("unrelated", "1")]) == ["a 1", "old 2"]
    assert added("a", offered, [package("old", "2")]) == ["a 1"]


def test_provider_of_virtual_package_is_added() -> None:
    offered = [package("a", "1", "mta"), package("exim", provides="mta")]
    assert added("a", offered, [package("postfix", provides="mta")]) == ["a 1"]
    assert added("a", offered, []) == ["a 1", "exim 1"]
    assert added("mta", offered, []) == ["exim 1"]
    assert added("mta", offered, [package("postfix", provides="mta")]) == []


@pytest.mark.parametrize(("depends", "base", "message"), [
    ("lib (= 1)", [package("lib", "2")], r"a 1 needs lib \(= 1\), and the base has lib 2: base python:slim and"),
    ("absent", [], r"package a 1 needs absent: base python:slim and the mirror are of different dates"),
])  # fmt: skip
def test_base_newer_than_mirror_is_rejected(depends: str, base: list[Package], message: str) -> None:
    with pytest.raises(BaseImageError, match=message):
        added("a", [package("a", "1", depends), package("lib", "1")], base)


def base_with(*files: object) -> Base:
    image = image_of(layer_of([directory("var"), *files]))  # type: ignore[list-item]
    plan = BasePlan("registry", "python:slim", "python:slim")
    return Base(
        plan, plan.name, "", image, Interpreter("/usr/local/bin/python3.13", "3.13.5"), ("glibc", "2.41"), {},
        frozenset(), suite="trixie",
    )  # fmt: skip


def test_installed_packages_are_read_from_the_layers(tmp_path: Path) -> None:
    debian = base_with(file("var/lib/dpkg/status", STATUS))
    for _ in range(2):  # read from the layers, then from the store
        found = installed(debian, context(tmp_path))
        assert [(item.name, item.version) for item in found] == [("apt", "3.0.3"), ("dpkg", "1.22.21"), ("held", "2")]
        assert (found[0].depends, found[2].provides) == ("libc6 (>= 2.34)", "virtual (= 3)")
    assert has_apt(debian, context(tmp_path))


def test_base_without_dpkg_has_no_packages(tmp_path: Path) -> None:
    assert installed(base_with(), context(tmp_path)) == ()
    assert not has_apt(base_with(file("var/lib/dpkg/status", STATUS.replace("apt", "tpa"))), context(tmp_path))
