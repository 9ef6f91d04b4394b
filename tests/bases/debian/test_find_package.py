"""Tests of hatch_docker.bases.debian.find_package: the table, names of packages, and Contents files."""

from pathlib import Path

import pytest

from hatch_docker.bases.debian.find_package import KNOWN, find_package
from hatch_docker.wheels.builder.failure_hints import remedy
from hatch_docker.wheels.builder.sdist import read_sdist, rust_version
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive, suite_of
from tests.fakes.package_index import write_sdist

INCLUDE = "usr/include"
HERE = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    """Return an archive with development packages. The names of some are not similar to their files."""
    fake = FakeArchive(tmp_path / "mirror", contents=(
        f"{INCLUDE}/deep/inner/strange.h    devel/other\n"
        f"{INCLUDE}/strange.h    libdevel/libodd-dev,libdevel/libodd0-dev\n"
        f"usr/x86_64-w64/include/strange.h    libdevel/cross\nusr/bin/stranger    utils/tools-of-odd\n"
    ))  # fmt: skip
    fake.add("libfoo2-dev", files={f"{INCLUDE}/foo-2/foo.h": b"", f"{HERE}/pkgconfig/foo.pc": b""})
    fake.add("libfoo-dev", files={"usr/share/doc/libfoo-dev/copyright": b""})
    fake.add("libbar-dev", files={f"{HERE}/libbar.so": ("symlink", "libbar.so.1"), f"{INCLUDE}/bar/sub/api.h": b""})
    fake.add("maker", files={"usr/bin/maker": b""})
    fake.add("cargo", version="1.85.1+dfsg1-1")
    fake.add("cargo-web", version="1.96.0+dfsg1-1~deb13u1")
    return fake.write()


@pytest.mark.parametrize(("name", "package"), [
    ("foo.h", "libfoo2-dev"), ("foo.pc", "libfoo2-dev"), ("libbar.so", "libbar-dev"), ("bar/sub/api.h", "libbar-dev"),
    ("maker", "maker"), ("strange.h", "libodd-dev"), ("stranger", "tools-of-odd"), ("nobody.h", ""), ("a(b", ""),
])  # fmt: skip
def test_package_is_found_and_cached(name: str, package: str, archive: FakeArchive, tmp_path: Path) -> None:
    """Among packages with a similar name, the one with the file; in Contents files, the shortest path."""
    ctx = context(tmp_path / "cache")
    assert find_package(name, suite_of(archive, ctx)) == package
    assert find_package(name, suite_of(archive, ctx, "http://127.0.0.1:9/debian")) == package


def test_table_needs_no_mirror(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "nothing").write()
    suite = suite_of(fake, context(tmp_path / "cache"), "http://127.0.0.1:9/debian")
    assert [find_package(name, suite) for name in ("pg_config", "foo.h")] == ["libpq-dev", ""]
    assert find_package("foo.h", None) == ""
    assert all(name and package for name, package in KNOWN.items())


def test_remedy_is_ready_to_paste(archive: FakeArchive, tmp_path: Path) -> None:
    """The list keeps configured packages. There is no remedy if the package is already configured, or not known."""
    suite = suite_of(archive, context(tmp_path / "cache"))
    output = "x.c:1:10: fatal error: foo.h: No such file or directory\n"
    lines = '  [tool.hatch-docker.build]\n  packages = ["cargo", "libfoo2-dev"]'
    assert remedy(output, ("cargo",), suite) == (
        " because foo.h is missing", f"libfoo2-dev of Debian has foo.h; add to pyproject.toml:\n{lines}",
    )  # fmt: skip
    assert remedy(output, ("libfoo2-dev",), suite) == ("", "")
    assert remedy(output.replace("foo", "nobody"), (), suite) == ("", "")
    assert remedy("error: can't find Rust compiler", (), None)[1].endswith('packages = ["cargo"]')
    assert remedy("all is well", (), None) == ("", "")


@pytest.mark.parametrize(("manifest", "packages"), [
    ("[package]\nedition = '2021'\n", '"cargo"'), ('[package]\nrust-version = "1.85"\n', '"cargo"'),
    ('[workspace.package]\nrust-version = "1.95"\n', '"cargo-web", "rustc-web"'),
])  # fmt: skip
def test_remedy_has_rust_that_is_new_enough(
    manifest: str, packages: str, archive: FakeArchive, tmp_path: Path
) -> None:
    """The suite has two packages, which conflict."""
    sdist = read_sdist(write_sdist(tmp_path, {"Cargo.toml": manifest, "a/Cargo.toml": ""}))
    suite = suite_of(archive, context(tmp_path / "cache"))
    assert remedy("Rust not found", (), suite, lambda: rust_version(sdist))[1].endswith(f"packages = [{packages}]")
    old = "rustc 1.85.1 is not supported by the following package"
    assert remedy(old, ("cargo", "make"), suite)[1].endswith('packages = ["cargo-web", "make", "rustc-web"]')
