"""The package that has a file: by the table, by the name of a package that has it, by the list of all files."""

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
    """An archive with development packages, of which some have a name that tells nothing."""
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
def test_packages_are_found(name: str, package: str, archive: FakeArchive, tmp_path: Path) -> None:
    """Of packages with such a name the one that has the file; the shallowest path of the list; remembered for a day."""
    ctx = context(tmp_path / "cache")
    assert find_package(name, suite_of(archive, ctx)) == package
    assert find_package(name, suite_of(archive, ctx, "http://127.0.0.1:9/debian")) == package


def test_the_table_needs_no_archive(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "nothing").write()
    suite = suite_of(fake, context(tmp_path / "cache"), "http://127.0.0.1:9/debian")
    assert [find_package(name, suite) for name in ("pg_config", "foo.h")] == ["libpq-dev", ""]
    assert find_package("foo.h", None) == ""
    assert all(name and package for name, package in KNOWN.items())


def test_the_remedy_is_ready_to_paste(archive: FakeArchive, tmp_path: Path) -> None:
    """Packages that are configured stay in the list; one that is there already, or unknown, is no remedy."""
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
def test_the_rust_that_the_sources_ask_for(
    manifest: str, packages: str, archive: FakeArchive, tmp_path: Path
) -> None:
    """The newer of the suite's two, which excludes the other."""
    sdist = read_sdist(write_sdist(tmp_path, {"Cargo.toml": manifest, "a/Cargo.toml": ""}))
    suite = suite_of(archive, context(tmp_path / "cache"))
    assert remedy("Rust not found", (), suite, lambda: rust_version(sdist))[1].endswith(f"packages = [{packages}]")
    old = "rustc 1.85.1 is not supported by the following package"
    assert remedy(old, ("cargo", "make"), suite)[1].endswith('packages = ["cargo-web", "make", "rustc-web"]')
