"""Tests of bases with a Python from python-build-standalone."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hatch_docker.bases.debian import base_cache
from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.bases.debian.standalone import find_archive
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ConfigError, HatchDockerError, RegistryError
from hatch_docker.core.image_lock import image_lock_toml, make_image_lock, parse_image_lock
from hatch_docker.oci.layer import Compression, layer_entries
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan, StandalonePlan
from tests.fakes.context import context, with_environ
from tests.fakes.debian_archive import Content, FakeArchive, make_library, make_tar
from tests.validate import validate

AMD64 = Platform("linux", "amd64")
NAME = "cpython-3.14.2+20261003-x86_64-unknown-linux-gnu-freethreaded-install_only_stripped.tar.gz"
TEXTS = b"\0OpenSSL 3.5.4 30 Sep 2025\0SQLite format 3\0003.50.4\0deflate 1.3.1 Copyright 1995 Gailly\0"
PROGRAM = make_library("x") + TEXTS
LIBRARY = "lib/python3.14t"
OWN = "lib/x86_64-linux-gnu/libown.so.1"
FILES: Mapping[str, Content] = {
    "bin/python3.14": PROGRAM, "bin/python3.14t": ("hardlink", "python/bin/python3.14"),
    "bin/python3": ("symlink", "python3.14"), "bin/pip3": b"#!", "bin/idle3": b"#!",
    f"{LIBRARY}/os.py": b"pass\n", f"{LIBRARY}/site-packages/pip/__init__.py": b"", f"{LIBRARY}/test/x.py": b"",
    f"{LIBRARY}/ensurepip/__init__.py": b"", f"{LIBRARY}/__pycache__/os.cpython-314.pyc": b"", "share/man/x": b"",
    f"{LIBRARY}/lib-dynload/_tkinter.cpython-314t.so": b"", "lib/libtcl9.0.so": b"",
    "include/python3.14t/Python.h": b"h", "lib/libpython3.14t.so.1.0": make_library("libpython3.14t.so.1.0"),
    OWN: make_library("libown.so.1"),
}


def write_release(root: Path, files: Mapping[str, Content] = FILES, name: str = NAME) -> Path:
    """Write a mirror with one release that has one archive."""
    place = root / "pythons/20261003" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(gzip.compress(make_tar(files, prefix="python/"), mtime=0))
    (place.parent / "SHA256SUMS").write_text(f"{hashlib.sha256(place.read_bytes()).hexdigest()}  {name}\n")
    return root / "pythons"


def plan_of(
    mirror: Path | str, python: str = "3.14t", release: str = "", debian: str = "", *, slim: bool = True
) -> BasePlan:
    url = mirror.as_uri() if isinstance(mirror, Path) else mirror
    own = StandalonePlan(python, url, release)
    return BasePlan("debian", f"standalone:{python}", "trixie", mirror=debian, slim=slim, standalone=own)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeArchive:
    return FakeArchive(tmp_path_factory.mktemp("archive") / "mirror").python().write()


def base_of(fake: FakeArchive, ctx: Context, mirror: Path, *, slim: bool = True) -> Base:
    plan = plan_of(mirror, debian=fake.url, slim=slim)
    base = make_debian_base(plan, AMD64, ctx, compression=Compression(), keyring=fake.keyring)
    validate(base.image)
    return base


def test_python_layer_has_runtime_files_and_sbom(fake: FakeArchive, tmp_path: Path) -> None:
    """The files are in /usr/local, without pip, programs for developers and documentation."""
    lines: list[str] = []
    base = base_of(fake, context(tmp_path / "cache", lines), write_release(tmp_path))
    assert base.interpreter == Interpreter("/usr/local/bin/python3.14t", "3.14.2", "t")
    assert (base.kinds, base.contents[1]) == (("base", "base"), ("cpython 3.14.2t",))
    assert base.bundled == {"openssl": "3.5.4", "sqlite": "3.50.4", "zlib": "1.3.1"}
    assert base.interpreter_trust_key, "the interpreter is not signed by Debian"
    first, second = (
        {entry.path: (entry, content.read() if content else b"") for entry, content in layer_entries(layer)}
        for layer in base.image.layers
    )
    assert not [path for path in first if "python" in path]
    names = {path for path, (entry, _) in second.items() if entry.kind != "directory"}
    assert names == {
        "usr/local/bin/python3", "usr/local/bin/python3.14", "usr/local/bin/python3.14t", f"usr/local/{LIBRARY}/os.py",
        "usr/local/include/python3.14t/Python.h", f"usr/local/{OWN}", "usr/local/share/sbom/python.cdx.json",
        "etc/ld.so.cache", "etc/ssl/cert.pem",
    }
    assert (second["usr/local/bin/python3.14"][0].target, second["usr/local/bin/python3.14t"][1]) == (
        "python3.14t", PROGRAM
    )
    assert not {"usr", "etc", "etc/ssl"} & set(second), "no entries for directories of the layer below"
    document = json.loads(second["usr/local/share/sbom/python.cdx.json"][1])
    assert [item["name"] for item in document["components"]] == ["python", "openssl", "sqlite", "zlib"]
    assert any("no .pyc of standalone:3.14t's standard library" in line for line in lines), "the fake cannot run"
    whole = base_of(fake, context(tmp_path / "cache"), tmp_path / "pythons", slim=False)
    found = {entry.path for entry, _ in layer_entries(whole.image.layers[1])}
    assert {f"usr/local/{LIBRARY}/test/x.py", "usr/local/lib/libpython3.14t.so.1.0"} < found
    assert f"usr/local/{LIBRARY}/site-packages/pip/__init__.py" not in found


def test_lock_pins_archive_by_hash(fake: FakeArchive, tmp_path: Path) -> None:
    """A newer archive is not used. An archive that differs from SHA256SUMS is rejected."""
    mirror = write_release(tmp_path)
    new_lock = make_image_lock("a.lock", "", [], update=True)
    ctx = context(tmp_path / "cache")
    found = find_archive(plan_of(mirror), AMD64, Context(ctx.store, ctx.progress, ctx.connect, {}, new_lock))
    pinned = parse_image_lock(image_lock_toml(list(new_lock.used_entries.values())), "a.lock")
    locked = Context(ctx.store, ctx.progress, ctx.connect, {}, make_image_lock("a.lock", "1", pinned))
    write_release(tmp_path, name=NAME.replace("3.14.2", "3.14.3"))
    assert find_archive(plan_of(mirror), AMD64, locked) == found
    with pytest.raises(ConfigError, match=r"it has no archive for standalone:3\.13 on linux/amd64"):
        find_archive(plan_of(mirror, "3.13"), AMD64, locked)
    for path in (mirror / "20261003").glob("*.gz"):
        path.write_bytes(path.read_bytes() + b"altered")
    with pytest.raises(RegistryError, match=r"its digest is sha256:.* instead of sha256:"):
        base_of(fake, context(tmp_path / "other"), mirror)


def test_archive_is_chosen_by_platform(tmp_path: Path) -> None:
    names = NAME, NAME.replace("x86_64", "aarch64")
    for name in names:
        mirror = write_release(tmp_path, name=name)
    ctx = context(tmp_path / "cache")
    found = [find_archive(plan_of(mirror), Platform("linux", machine), ctx) for machine in ("amd64", "arm64")]
    assert [archive.filename for archive in found] == [*names]


@pytest.mark.parametrize(("mirror", "python", "release", "message"), [
    ("", "3.14t", "", "none is set; set .*standalone. mirror or UV_PYTHON_INSTALL_MIRROR"),
    ("ftp://x.example", "3.14t", "", "'ftp://x.example' is not the URL of one"),
    ("https://x.example/pythons", "3.14t", "", "a mirror has many releases; set .* release to one of them"),
    (None, "3.14t", "20200101", "20200101/SHA256SUMS does not exist; check `release` and `mirror`"),
    (None, "3.14", "20261003", "SHA256SUMS has no install_only_stripped archive of CPython 3.14 .*; it has 3.14t"),
    (None, "3.15", "", "pythons has no install_only_stripped archive of CPython 3.15 for linux/amd64; it has 3.14t"),
])  # fmt: skip
def test_missing_archive_error(tmp_path: Path, mirror: str | None, python: str, release: str, message: str) -> None:
    """The error says what is missing, and which option to set."""
    place = write_release(tmp_path) if mirror is None else mirror
    with pytest.raises(BaseImageError, match=message) as caught:
        find_archive(plan_of(place, python, release), AMD64, context(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_uv_variable_sets_the_mirror(tmp_path: Path) -> None:
    """The mirror is part of the key of a base."""
    plan, other = plan_of("", release="20261003"), context(tmp_path / "cache")
    ctx = with_environ(other, {"UV_PYTHON_INSTALL_MIRROR": write_release(tmp_path).as_uri()})
    assert find_archive(plan, AMD64, ctx).filename == NAME
    assert base_cache._key(plan, AMD64, Compression(), ctx) != base_cache._key(plan, AMD64, Compression(), other)


@pytest.mark.parametrize(("files", "message"), [
    ({"bin/python3.14": b"x"}, "has no python/bin/python3.14t"),
    ({"../usr/bin/x": b"x"}, "it is not an install_only archive|cannot be read"),
    ({"lib/x": b"x", "lib/x/y": b"x"}, "has python/lib/x/y twice, or below a file"),
    ({"lib": ("symlink", "/etc"), "lib/passwd": b"x", "bin/python3.14t": b"x"}, "cannot be written"),
])  # fmt: skip
def test_invalid_archives_are_rejected(
    fake: FakeArchive, tmp_path: Path, files: Mapping[str, Content], message: str
) -> None:
    """Files must stay in python/, and the interpreter must exist."""
    with pytest.raises(HatchDockerError, match=message):
        base_of(fake, context(tmp_path / "cache"), write_release(tmp_path, files))
