"""Tests of hatch_docker.bases.debian.find_library: the Debian package with a shared library."""

from pathlib import Path

import pytest

from hatch_docker.bases.debian.archive import KEYRING
from hatch_docker.bases.debian.find_library import Provider, find_providers, is_loader_path, policy_names
from hatch_docker.bases.debian.suite import Suite
from hatch_docker.plan.model import BasePlan
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive, library_archive, serving, suite_of
from tests.fakes.library_images import LIB


@pytest.mark.parametrize(("library", "package"), [
    ("libpq.so.5", "libpq5"), ("libGL.so.1", "libgl1"), ("libX11.so.6", "libx11-6"),
    ("libasound.so.2", "libasound2t64"), ("libglib-2.0.so.0", "libglib2.0-0t64"),
    ("libpango-1.0.so.0", "libpango-1.0-0"), ("libtcl8.6.so", "libtcl8.6"),
    ("libpython3.13.so.1.0", "libpython3.13"), ("libstdc++.so.6", "libstdc++6"), ("libSM_x.so.6", "libsm-x6"),
])  # fmt: skip
def test_policy_names_include_package(library: str, package: str) -> None:
    assert package in policy_names(library)


def test_other_paths_are_not_libraries() -> None:
    assert policy_names("x.so") == []
    assert policy_names("/lib/ld.so") == []
    assert is_loader_path(f"{LIB}/libz.so.1", "libz.so.1")
    assert not is_loader_path(f"{LIB}/deep/libz.so.1", "libz.so.1")


@pytest.fixture
def mirror(tmp_path: Path) -> FakeArchive:
    return library_archive(tmp_path / "mirror")


def test_providers_by_name_and_by_contents_file(mirror: FakeArchive, tmp_path: Path) -> None:
    """Names of the policy are tried first, with all libraries in each opened package, then the Contents file."""
    names = ["libother.so.3", "libpq.so.5", "libz.so.1", "libboth.so.1", "libempty.so.1", "libnowhere.so.1"]
    assert find_providers(names, suite_of(mirror, context(tmp_path / "store"))) == {
        "libother.so.3": Provider("libpq5", seen=True),
        "libpq.so.5": Provider("libpq5", seen=True), "libz.so.1": Provider("zlib1g", seen=True),
        "libboth.so.1": Provider("libboth-other", seen=True), "libempty.so.1": Provider("libempty1", seen=False),
    }  # fmt: skip


def test_results_are_cached(mirror: FakeArchive, tmp_path: Path) -> None:
    """Unknown libraries are cached, too. A cached result needs no mirror."""
    ctx = context(tmp_path / "store")
    names = ["libpq.so.5", "libnowhere.so.1"]
    with serving(mirror.root) as (url, requests):
        first = find_providers(names, suite_of(mirror, ctx, f"{url}/debian"))
        count = len(requests)
        assert find_providers(names, suite_of(mirror, ctx, f"{url}/debian")) == first
        assert count == len(requests) > 0
    assert find_providers(names, suite_of(mirror, ctx, "http://127.0.0.1:1/debian")) == first


def test_unreachable_mirror_is_tried_once(tmp_path: Path) -> None:
    lines: list[str] = []
    ctx = context(tmp_path / "store", lines)
    broken = Suite(BasePlan("debian", "debian:trixie", "trixie", mirror=(tmp_path / "none").as_uri()), "trixie",
                   "amd64", ctx, KEYRING)  # fmt: skip
    assert find_providers(["libpq.so.5"], broken) == {}
    count = len(lines)
    assert find_providers(["libpq.so.5"], broken) == {}
    assert count == len(lines) > 0


def test_altered_contents_file_is_ignored(mirror: FakeArchive, tmp_path: Path) -> None:
    (contents,) = (path for path in mirror.root.rglob("dists/trixie/main/by-hash/SHA256/*") if path.is_file())
    contents.write_bytes(b"other")
    assert find_providers(["libz.so.1", "libpq.so.5"], suite_of(mirror, context(tmp_path / "store"))) == {
        "libpq.so.5": Provider("libpq5", seen=True)
    }
