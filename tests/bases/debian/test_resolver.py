"""Tests of hatch_docker.bases.debian.resolver: order of versions, alternatives, Provides and Conflicts."""

import itertools
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.bases.debian.resolver import (
    Package,
    PackageIndex,
    Relation,
    parse_relations,
    provides,
    resolve,
    version_key,
)
from hatch_docker.core.errors import BaseImageError
from tests.conftest import need

ORDER = ["0~", "0", "1.0~rc1-1", "1.0~rc1-2", "1.0", "1.0-0.1", "1.0-1", "1.0-1+b1", "1.0-1+deb13u1", "1.0a", "1.0+x",
         "1.0.1", "1.2", "1.10", "1:0.1", "2:0~"]  # fmt: skip


def package(name: str, version: str = "1.0", **fields: str) -> Package:
    return Package(name, version, "amd64", f"pool/{name}.deb", 1, "sha256:" + "0" * 64, **fields)


def index_of(*packages: Package) -> PackageIndex:
    providers: dict[str, list[str]] = {}
    for item in packages:
        for given_name, *_ in parse_relations(item.provides):
            providers.setdefault(given_name.name, []).append(item.name)
    known = {item.name: item for item in packages}
    return PackageIndex(known, known.get, lambda: providers)


def names(packages: list[Package]) -> list[str]:
    return [item.name for item in packages]


def test_order_of_versions() -> None:
    """deb-version(7): `~` before everything, letters before other characters, numbers by value, the epoch first."""
    assert sorted(set(ORDER), key=version_key) == ORDER
    assert version_key("1.0") == version_key("0:1.0-0") == version_key("1.00")


@given(*[st.from_regex(r"(?:[01]:)?[0-9][0-9a-z.+~]{0,6}(?:-[0-9a-z.+~]{1,4})?", fullmatch=True)] * 2)
@settings(max_examples=150)
def test_order_is_the_same_as_dpkg(one: str, other: str) -> None:
    dpkg = need("dpkg")
    less = subprocess.run([dpkg, "--compare-versions", one, "lt", other], check=False).returncode == 0
    assert (version_key(one) < version_key(other)) == less


@pytest.mark.parametrize("version", ["", "a:1", ":1", "-1", "1:"])
def test_invalid_version_is_rejected(version: str) -> None:
    with pytest.raises(BaseImageError, match="is not a version"):
        version_key(version)


def test_parse_relations() -> None:
    """Alternatives, versions and architecture qualifiers are parsed; other text is rejected."""
    assert parse_relations("a (>= 1:2~x), b | c:any (<< 3),\n d,") == [
        (Relation("a", ">=", "1:2~x"),), (Relation("b"), Relation("c", "<<", "3")), (Relation("d"),),
    ]  # fmt: skip
    for text in ("a (1)", "A", "a b", "a (>= 1", "| a"):
        with pytest.raises(BaseImageError, match="malformed"):
            parse_relations(text)


def test_operators_of_version_conditions() -> None:
    """`<` and `>` are obsolete and mean "or equal"."""
    table = {"<<": "100", "<=": "110", "=": "010", ">=": "011", ">>": "001", "<": "110", ">": "011"}
    for operator, expected in table.items():
        assert "".join(str(int(Relation("x", operator, "2").holds(version))) for version in "123") == expected


def test_dependencies_are_resolved_transitively() -> None:
    """Of alternatives, one that is already chosen counts, else the first that exists."""
    index = index_of(
        package("app", depends="lib (>= 1), missing | second | third"), package("lib", depends="libc6"),
        package("libc6"), package("second"), package("third"),
    )  # fmt: skip
    assert names(resolve(index, ["app"], where="x")) == ["app", "lib", "libc6", "second"]
    assert names(resolve(index, ["app", "third"], where="x")) == ["app", "lib", "libc6", "third"]


def test_ignored_and_installed_packages_are_not_added() -> None:
    """An ignored package is added only if it is requested."""
    index = index_of(
        package("app", depends="debconf (>= 0.5) | debconf-2.0, lib"), package("debconf", depends="perl"),
        package("perl"), package("lib", depends="db"), package("db"), package("tool", depends="db, lib"),
    )  # fmt: skip
    ignored = {"debconf", "debconf-2.0", "db"}
    base = resolve(index, ["app"], ignored=ignored, where="x")
    assert names(base) == ["app", "lib"]
    assert names(resolve(index, ["tool"], installed=base, ignored={"debconf"}, where="x")) == ["db", "tool"]
    assert "debconf" in names(resolve(index, ["app", "debconf"], ignored=ignored, where="x"))


def test_provider_with_highest_priority_is_chosen() -> None:
    index = index_of(
        package("base-files", depends="awk"), package("gawk", provides="awk", priority="optional"),
        package("mawk", provides="awk", priority="required"), package("original-awk", provides="awk"),
    )  # fmt: skip
    assert names(resolve(index, ["base-files"], where="x")) == ["base-files", "mawk"]
    assert names(resolve(index, ["base-files", "gawk"], where="x")) == ["base-files", "gawk"]


def test_version_condition_needs_versioned_provides() -> None:
    relation = Relation("api", ">=", "2")
    assert provides(package("a", provides="x, api (= 2.1)"), relation)
    assert not provides(package("a", provides="api (= 1.9)"), relation)
    assert not provides(package("a", provides="api"), relation)
    assert provides(package("a", provides="api"), Relation("api"))


def test_dependency_cycle_is_resolved() -> None:
    """For example, libc6 and libgcc-s1 depend on each other."""
    index = index_of(package("libc6", depends="libgcc-s1"), package("libgcc-s1", depends="libc6 (>= 1)"))
    assert names(resolve(index, ["libc6"], where="x")) == ["libc6", "libgcc-s1"]


@pytest.mark.parametrize(("wanted", "message"), [
    ("libpq", "debian:x has no package 'libpq'; did you mean libpq5"),
    ("zzzz", "has no package 'zzzz'"),
    ("awk", "awk is a virtual package of debian:x; use a package that provides it: mawk, gawk"),
    ("broken", "package broken 1.0 of debian:x needs nothing (>= 9) | none, which does not exist"),
    ("old", r"package old 1.0 of debian:x needs libpq5 \(>> 17\)"),
    ("rude", "packages rude 1.0 and mawk 1.0 exclude each other"),
])  # fmt: skip
def test_unresolvable_package_gives_one_line(wanted: str, message: str) -> None:
    """The error has the package, the suite and a suggestion."""
    index = index_of(
        package("libpq5", "17"), package("mawk", provides="awk", priority="required"), package("gawk", provides="awk"),
        package("broken", depends="nothing (>= 9) | none"), package("old", depends="libpq5 (>> 17)"),
        package("rude", depends="mawk", conflicts="mawk (<< 2)"),
    )  # fmt: skip
    with pytest.raises(BaseImageError, match=message.replace("(>= 9) |", r"\(>= 9\) \|")) as error:
        resolve(index, [wanted], where="debian:x")
    assert "\n" not in str(error.value)


def test_order_of_names_does_not_matter() -> None:
    index = index_of(
        package("a", depends="x | y"), package("b", depends="y"), package("c"), package("x"), package("y"),
        package("c2", provides="c"),
    )  # fmt: skip
    results = {tuple(names(resolve(index, order, where="x"))) for order in itertools.permutations(["b", "c", "a"])}
    assert results == {("a", "b", "c", "x", "y")}
