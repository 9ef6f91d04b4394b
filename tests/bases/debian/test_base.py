"""Tests of hatch_docker.bases.debian.base: layers, facts and builder roots of Debian bases, with an archive of fakes.
"""

import hashlib
import os
from pathlib import Path

import pytest

from hatch_docker.bases.bytecode import bytecode_path
from hatch_docker.bases.debian.base import builder_root, make_debian_base, upstream_version
from hatch_docker.bases.debian.base_cache import BUILDER, find_builder
from hatch_docker.bases.debian.files import existing_bytecode
from hatch_docker.bases.debian.ldconfig import Library, conf_directories, find_libraries, write_cache
from hatch_docker.bases.debian.steps import IGNORED
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, RegistryError, StoreError
from hatch_docker.oci.layer import Compression, Entry, layer_entries
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan
from tests.fakes.context import context, facts_of, with_shared_cache
from tests.fakes.debian_archive import Content, FakeArchive, make_library, serving
from tests.validate import validate

AMD64 = Platform("linux", "amd64")
LIB = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def fake(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path / "mirror").python()


def base_of(
    fake: FakeArchive, ctx: Context, *packages: str, slim: bool = True, url: str = "", platform: Platform = AMD64
) -> Base:
    plan = BasePlan("debian", "debian:trixie", "trixie", mirror=url or fake.url, slim=slim, packages=packages)
    base = make_debian_base(plan, platform, ctx, compression=Compression(), keyring=fake.keyring)
    validate(base.image)
    return base


def layer(base: Base, number: int = 0) -> dict[str, tuple[Entry, bytes]]:
    return {
        entry.path: (entry, content.read() if content else b"")
        for entry, content in layer_entries(base.image.layers[number])
    }


def test_facts_come_from_debs_and_config_has_only_env(fake: FakeArchive, tmp_path: Path) -> None:
    base = base_of(fake.write(), context(tmp_path / "cache"))
    assert (base.interpreter.path, base.interpreter.version) == ("/usr/bin/python3.13", "3.13.5")
    assert (base.libc, base.suite, base.name, base.kinds) == (("glibc", "2.41"), "trixie", "debian:trixie", ("base",))
    assert base.users == {"root": (0, 0), "nobody": (65534, 65534), "nonroot": (65532, 65532)}
    assert "libc6 2.41-12" in base.contents[0]
    assert base.digest == base.image.digest
    config = base.image.config_json
    assert config["config"] == {"Env": [
        "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    ]}  # fmt: skip
    assert config["created"] == "2023-11-14T22:13:20Z"  # the time of the newest file


def test_slim_layer_has_generated_files_and_no_documentation(fake: FakeArchive, tmp_path: Path) -> None:
    """The generated files are those that maintainer scripts would make. Licences are kept."""
    base = base_of(fake.write(), context(tmp_path / "cache"))
    found = layer(base)
    for path in ("usr/bin/python3.13", "usr/share/doc/libc6/copyright", "usr/lib/locale/C.utf8/LC_CTYPE",
                 "usr/sbin/ldconfig", "etc/mime.types", "usr/share/zoneinfo/Etc/UTC",
                 "usr/share/terminfo/x/xterm", "usr/lib/terminfo/d/dumb"):  # fmt: skip
        assert path in found
    for path in ("usr/share/doc/libc6/changelog.gz", f"{LIB}/gconv/BIG5.so", "usr/lib/python3.13/test", "usr/bin/ldd",
                 "usr/sbin/update-ca-certificates", "usr/share/ca-certificates", f"{LIB}/gconv",
                 "usr/share/terminfo/E", "usr/share/tabset"):  # fmt: skip
        assert path not in found
    assert found["etc/ssl/certs/ca-certificates.crt"][1] == b"-- A --\n-- B --\n"
    links = {path: entry.target for path, (entry, _) in found.items() if entry.kind == "symlink"}
    assert links.items() >= {
        "lib": "usr/lib", "usr/lib/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
        "usr/lib/ssl/certs": "/etc/ssl/certs", "var/run": "/run", "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
    }.items()  # fmt: skip
    assert b"nonroot:x:65532:65532:nonroot:/home/nonroot:" in found["etc/passwd"][1]
    home = found["home/nonroot"][0]
    assert (home.uid, home.gid, home.mode) == (65532, 65532, 0o700)
    assert found["tmp"][0].mode == 0o1777
    assert {entry.uid for path, (entry, _) in found.items() if path != "home/nonroot"} == {0}
    assert base.directories == {path for path, (entry, _) in found.items() if entry.kind == "directory"}
    assert dict(base.symlinks) == links


def test_status_d_has_control_files_and_md5sums(fake: FakeArchive, tmp_path: Path) -> None:
    """md5sums list only the files in the layer. Scanners need an entry for the directory, too."""
    found = layer(base_of(fake.write(), context(tmp_path / "cache")))
    status = "var/lib/dpkg/status.d"
    assert found[status][0].kind == "directory"
    assert found[f"{status}/libc6"][1].startswith(b"Package: libc6\nVersion: 2.41-12\n")
    names = {path.rpartition("/")[2] for path in found if path.startswith(status + "/")}
    assert len(names) == 2 * 11
    for name in (name for name in names if name.endswith(".md5sums")):
        for line in found[f"{status}/{name}"][1].decode().splitlines():
            value, path = line.split("  ")
            assert hashlib.md5(found[path][1]).hexdigest() == value
    assert f"{LIB}/libc.so.6" in found[f"{status}/libc6.md5sums"][1].decode()


def test_full_base_leaves_out_only_documentation(fake: FakeArchive, tmp_path: Path) -> None:
    found = layer(base_of(fake.write(), context(tmp_path / "cache"), slim=False))
    assert f"{LIB}/gconv/BIG5.so" in found
    assert "usr/lib/python3.13/test/big.txt" in found
    assert "usr/share/doc/libc6/changelog.gz" not in found


def test_runtime_packages_are_a_second_layer(fake: FakeArchive, tmp_path: Path) -> None:
    """It has no entries for directories of the base, and its loader cache has the libraries of both layers."""
    blas = f"{LIB}/blas/libblas.so.3"
    fake.add("libpq5", "1:17.5-1", {
        "usr": None, "usr/lib": None, LIB: None, f"{LIB}/libpq.so.5.17": make_library("libpq.so.5"),
        f"{LIB}/libpq.so.5": ("symlink", "libpq.so.5.17"), "usr/share/man/man1/x.gz": b"manual",
        "usr/share/doc/libpq5/copyright": b"free",
        "var/run/postgresql": None, "usr/lib/new": None,
    }, Depends="libc6, debconf")  # fmt: skip
    fake.add("libblas3", "3.12", {blas: make_library("libblas.so.3")}, postinst=(
        "#!/bin/sh\nupdate-alternatives --install /usr/lib/x86_64-linux-gnu/libblas.so.3 \\\n"
        f"  libblas.so.3-x86_64-linux-gnu /{blas} 10\n"
    ))  # fmt: skip
    ctx = context(tmp_path / "cache")
    alone = base_of(fake.write(), ctx)
    base = base_of(fake, ctx, "libpq5", "libblas3")
    assert base.image.layers[0].diff_id == alone.image.layers[0].diff_id
    assert base.kinds == ("base", "system")
    assert base.contents[1] == ("libblas3 3.12", "libpq5 1:17.5-1")
    found = layer(base, 1)
    assert {path for path, (entry, _) in found.items() if entry.kind == "directory"} & set(alone.directories) == {
        "var/lib/dpkg/status.d"
    }  # fmt: skip
    assert "usr/lib/new" in found
    assert "run/postgresql" in found  # the target of the base's link var/run
    assert not any(path.startswith(("var/run", "usr/share/man")) for path in found)
    assert found[f"{LIB}/libblas.so.3"][0].target == f"/{blas}"
    names = [f"{name}\0".encode() for name in ("libc.so.6", "libstdc++.so.6", "libpq.so.5", "libblas.so.3")]
    assert all(name in found["etc/ld.so.cache"][1] for name in names)
    assert "var/lib/dpkg/status.d/libpq5" in found
    assert "var/lib/dpkg/status.d/libc6" not in found
    assert "run/postgresql" in base.directories


def test_directory_that_is_a_link_in_the_base_stays_a_link(fake: FakeArchive, tmp_path: Path) -> None:
    """The files of the package are at the link's target."""
    fake.add("netbase", "7", {"usr/share/real/a": b"a", "usr/share/linked": ("symlink", "real")})
    linked = {"usr/share/linked": None, "usr/share/linked/b": b"b", "usr/share/linked/c": ("symlink", "b")}
    fake.add("late", "1", linked)
    base = base_of(fake.write(), context(tmp_path / "cache"), "late")
    found = layer(base, 1)
    assert "usr/share/linked" not in found
    assert found["usr/share/real/b"][1] == b"b"
    assert found["usr/share/real/c"][0].target == "b"
    assert base.symlinks["usr/share/linked"] == "real"


def test_package_replacing_a_directory_is_rejected(fake: FakeArchive, tmp_path: Path) -> None:
    fake.add("odd", "1", {"usr/lib": ("symlink", "/opt")})
    with pytest.raises(BaseImageError, match="/usr/lib, which is a directory of the base"):
        base_of(fake.write(), context(tmp_path / "cache"), "odd")


def test_second_base_sends_no_request(fake: FakeArchive, tmp_path: Path) -> None:
    """A lost or damaged layer is made again with the same bytes."""
    fake.write()
    ctx = context(tmp_path / "cache")
    with serving(fake.root) as (url, requests):
        first = base_of(fake, ctx, url=f"{url}/debian")
        requests.clear()
        again = base_of(fake, context(tmp_path / "cache"), url=f"{url}/debian")
        assert requests == []
    assert again.image.manifest == first.image.manifest
    assert (again.directories, again.symlinks, again.contents) == (first.directories, first.symlinks, first.contents)
    digest = first.image.layers[0].descriptor.digest
    ctx.store.blob_path(digest).write_bytes(b"poison")
    assert layer(again)["etc/passwd"]
    assert ctx.store.get(digest)
    ctx.store.blob_path(digest).unlink()
    assert base_of(fake, ctx, url=f"{url}/debian").image.manifest == first.image.manifest


def test_digest_is_independent_of_path_umask_and_order(fake: FakeArchive, tmp_path: Path) -> None:
    fake.add("a", "1", {"usr/a": b"a"})
    fake.add("b", "1", {"usr/b": b"b"})
    fake.write()
    first = base_of(fake, context(tmp_path / "one"), "a", "b")
    before = os.umask(0o077)
    try:
        other = base_of(fake, context(tmp_path / "elsewhere/other"), "b", "a")
    finally:
        os.umask(before)
    assert first.image.manifest == other.image.manifest


def test_base_for_arm64_is_made_on_any_machine(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "mirror", architecture="arm64").python().write()
    own = FakeArchive(tmp_path / "own", key=fake.key).python().write()
    ctx = context(tmp_path / "cache")
    base_of(own, ctx)  # the Python of this base compiles for arm64, unless this machine is an arm64
    base = base_of(fake, ctx, platform=Platform("linux", "arm64"))
    assert base.image.platform == Platform("linux", "arm64")
    found = layer(base)
    cache = found["etc/ld.so.cache"][1]
    assert b"/lib/aarch64-linux-gnu/libc.so.6\0" in cache
    assert int.from_bytes(cache[48:52], "little") == 0x0A03


@pytest.mark.parametrize(("suite", "platform", "message"), [
    ("woody", AMD64, "unknown Debian suite; known: debian:bookworm, debian:trixie, debian:forky, debian:sid"),
    ("trixie", Platform("linux", "riscv64"), "cannot be made for linux/riscv64; it can for linux/amd64, linux/arm64",),
    ("trixie", Platform("windows", "amd64"), "cannot be made for windows/amd64"),
])  # fmt: skip
def test_unknown_suite_or_platform_is_rejected(tmp_path: Path, suite: str, platform: Platform, message: str) -> None:
    """There is no download, and the error lists the known values."""
    plan = BasePlan("debian", f"debian:{suite}", suite)
    with pytest.raises(BaseImageError, match=message):
        make_debian_base(plan, platform, context(tmp_path), compression=Compression())


def test_failed_base_is_not_stored(fake: FakeArchive, tmp_path: Path) -> None:
    files: dict[str, Content] = {"usr/x": b"x", "usr/fifo": ("fifo", "")}
    fake.add("broken", "1", files)
    fake.write()
    ctx = context(tmp_path / "cache")
    with pytest.raises(BaseImageError, match="package broken has a fifo"):
        base_of(fake, ctx, "broken")
    assert list((ctx.store.root / "tmp").iterdir()) == []
    for path in (fake.root / "debian/pool/main/b/broken").iterdir():
        path.unlink()
    with pytest.raises(RegistryError):
        base_of(fake, context(tmp_path / "other"), "broken")
    base_of(fake, ctx)


def test_full_disk_error_has_cache_path(fake: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.write()
    ctx = context(tmp_path / "cache")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fchmod", full)
    with pytest.raises(StoreError, match=r"cannot unpack packages in the cache .*: No space left on device"):
        base_of(fake, ctx)


def add_tools(fake: FakeArchive) -> None:
    """Add the packages of a builder whose files do not matter for the tests."""
    for name in ("bash", "bzip2", "coreutils", "dash", "debianutils", "diffutils", "findutils", "g++", "grep", "gzip",
                 "hostname", "libc6-dev", "make", "patch", "perl-base", "pkgconf", "sed", "tar", "xz-utils",
                 "python3.13-dev"):  # fmt: skip
        fake.add(name, "1", {f"usr/share/x/{name}": b"x"})


def test_builder_root_has_alternatives_and_certificates(fake: FakeArchive, tmp_path: Path) -> None:
    """The tree is made once."""
    add_tools(fake)
    fake.add("python3.13", "3.13.5-2", {"usr/bin/python3.13-x": b"p"})
    gcc = "update-alternatives --quiet --install /usr/bin/cc cc /usr/bin/gcc 20 --slave /x x /y"
    fake.add("gcc", "4:14", {"usr/bin/gcc": b"gcc"}, Depends="python3.13", postinst=gcc)
    mawk = "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5"
    fake.add("mawk", "1.3", {"usr/bin/mawk": b"mawk"}, Provides="awk", postinst=mawk)
    fake.add("libfoo-dev", "1", {"usr/include/foo.h": b"foo"})
    fake.write()
    plan = BasePlan("registry", "python:3.13-slim", "python:3.13-slim", mirror=fake.url)
    ctx = context(tmp_path / "cache")
    root = builder_root(plan, AMD64, ("libfoo-dev",), ctx, suite="trixie", keyring=fake.keyring)
    assert (root / "usr/bin/cc").readlink() == Path("/usr/bin/gcc")
    assert (root / "usr/bin/awk").readlink() == Path("/usr/bin/mawk")
    assert (root / "usr/include/foo.h").read_bytes() == b"foo"
    assert (root / "etc/ssl/certs/ca-certificates.crt").is_file()
    assert (root / "etc/ld.so.cache").is_file()
    assert (root / "tmp").stat().st_mode & 0o1777 == 0o1777
    again = builder_root(
        plan, AMD64, ("libfoo-dev",), context(tmp_path / "cache"), suite="trixie", keyring=fake.keyring
    )
    assert again == root
    assert builder_root(plan, AMD64, (), ctx, suite="trixie", keyring=fake.keyring) != root
    with pytest.raises(BaseImageError, match="there is no compiler"):
        builder_root(plan, AMD64, (), ctx, suite="", keyring=fake.keyring)


def test_builder_root_name_comes_from_shared_cache(fake: FakeArchive, tmp_path: Path) -> None:
    """The name is valid for a day, in a build that uses the shared cache. Making the root still needs the mirror."""
    add_tools(fake)
    for name in ("gcc", "mawk"):
        fake.add(name, "1", {})
    fake.write()
    plan = BasePlan("registry", "python:3.13-slim", "python:3.13-slim", mirror=fake.url)
    first, shared = with_shared_cache(context(tmp_path / "first"))
    root = builder_root(plan, AMD64, (), first, suite="trixie", keyring=fake.keyring, unpacked=False)
    facts = facts_of(shared)
    old = [(kind, key, {**value, "time": value["time"] - 86401} if kind == BUILDER else value)
           for kind, key, value in facts]  # fmt: skip
    ctx, shared = with_shared_cache(context(tmp_path / "second"), facts)
    assert find_builder(plan, AMD64, (), ctx, suite="trixie") == root
    assert ctx.materials == first.materials
    assert facts_of(shared) == facts
    assert {kind for kind, _ in ctx.response_times} == {BUILDER}
    assert all(ctx.store.local.recall(*answer)["time"] == time for answer, time in ctx.response_times.items())
    shared.used = False
    assert find_builder(plan, AMD64, (), ctx, suite="trixie") is None
    others = ((old, (), "trixie"), (facts, ("x",), "trixie"), (facts, (), "bookworm"), (facts, (), ""))
    for number, (known, packages, suite) in enumerate(others):
        ctx, _ = with_shared_cache(context(tmp_path / f"{number}"), known)
        assert find_builder(plan, AMD64, packages, ctx, suite=suite) is None
    lost = BasePlan("registry", "python:3.13-slim", "python:3.13-slim", mirror=f"{fake.url}/lost")
    with pytest.raises(BaseImageError, match="lost/dists/trixie/InRelease does not exist"):
        builder_root(lost, AMD64, (), with_shared_cache(context(tmp_path / "third"), facts)[0], suite="trixie")


@pytest.mark.parametrize("lost", [False, True])
def test_builder_root_copies_packages_of_existing_root(fake: FakeArchive, tmp_path: Path, *, lost: bool) -> None:
    """Only new packages are unpacked, with the same result. If a file of the existing root is lost, all are unpacked.
    """
    add_tools(fake)
    fake.add("gcc", "4:14", {"usr/bin/gcc": b"gcc"}, Depends="python3.13")
    fake.add("mawk", "1.3", {"usr/bin/mawk": b"mawk", "usr/bin/awk": ("symlink", "mawk")}, Provides="awk")
    fake.add("python3.13", "3.13.5-2", {"usr/bin/python3.13-x": b"p"})
    files = {"usr/include/foo.h": b"foo", "usr/share/y/foo": ("hardlink", "usr/include/foo.h"), "etc/ld.so.cache": b""}
    fake.add("libfoo-dev", "1", files)
    fake.write()
    plan = BasePlan("registry", "python:3.13-slim", "python:3.13-slim", mirror=fake.url)

    def make_root(cache: str, *packages: str) -> tuple[Path, str]:
        lines: list[str] = []
        ctx = context(tmp_path / cache, lines)
        tree = builder_root(plan, AMD64, packages, ctx, suite="trixie", keyring=fake.keyring)
        assert ctx.store.is_intact(tree)  # the digests taken while writing match the files
        return tree, next(line for line in lines if line.startswith("making the builder"))

    def facts(tree: Path) -> list[object]:
        paths = sorted(tree.rglob("*"))
        return [(str(path.relative_to(tree)), path.lstat().st_mode, path.is_symlink() and path.readlink(),
                 path.is_file() and not path.is_symlink() and path.read_bytes()) for path in paths]  # fmt: skip

    scratch, _ = make_root("one", "libfoo-dev")
    other, line = make_root("two")
    if lost:
        (other / "usr/share/x/make").unlink()
    derived, more = make_root("two", "libfoo-dev")
    assert facts(derived) == facts(scratch)
    assert derived.name == scratch.name
    assert (", 1 package to unpack" in more) == (not lost)
    assert ", 1 package to unpack" not in line


@pytest.mark.parametrize(("more", "known", "copied"), [
    ((), ("a", "d/b"), True),
    (("c",), ("a", "d/b"), False),        # the other tree has another module, so the unit differs
    ((), ("a",), False),                   # d/b is from another version of the package
])  # fmt: skip
def test_bytecode_is_copied_if_modules_are_equal(
    more: tuple[str, ...], known: tuple[str, ...], tmp_path: Path, *, copied: bool
) -> None:
    """The bytes of a .pyc may depend on the other modules of its unit."""
    python, site = Interpreter("/usr/bin/python3.13", "3.13.5"), "usr/lib/python3.13"
    for name in ("a", "d/b", *more):
        path = tmp_path / site / f"{name}.py"
        for file in (path, tmp_path / bytecode_path(str(path.relative_to(tmp_path)), python)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
    wanted = {f"{site}/{name}.py": Entry(f"{site}/{name}.py", "file", 0o644, 0) for name in ("a", "d/b")}
    members = [Entry(f"{site}/{name}.py", "file", 0o644, 0) for name in known]
    found = existing_bytecode(wanted, python, {"libpython": (tmp_path, members)})
    compiled = [bytecode_path(path, python) for path in wanted] if copied else []
    assert {path: entry.content for path, entry in found.items()} == {path: tmp_path / path for path in compiled}


def test_upstream_version_has_no_epoch_revision_or_suffix() -> None:
    assert [upstream_version(text) for text in ("3.13.5-2+deb13u1", "2.41-12", "1:17.5-1", "2:6.3.0+dfsg-3")] == [
        "3.13.5", "2.41", "17.5", "6.3.0",
    ]  # fmt: skip
    assert "debconf" in IGNORED


def test_first_directory_of_ld_so_conf_wins() -> None:
    """Names are SONAMEs. Files that are not libraries are skipped."""
    conf = {"etc/ld.so.conf": b"include x\n", "etc/ld.so.conf.d/a.conf": b"# own\n/opt/lib\n/lib/x86_64-linux-gnu\n"}
    directories = conf_directories(conf)

    def file(content: bytes) -> Entry:
        return Entry("", "file", 0o644, 0, content=content)

    assert directories == ["opt/lib", LIB, "usr/lib"]
    entries = {
        f"{LIB}/libz.so.1.3": file(make_library("libz.so.1")), "opt/lib/libz.so.1": file(make_library("libz.so.1")),
        f"{LIB}/libz.so.1": Entry("", "symlink", 0o777, 0, "libz.so.1.3"),
        f"{LIB}/libz.so": Entry("", "symlink", 0o777, 0, "libz.so.1"),
        f"{LIB}/libbroken.so.1": Entry("", "symlink", 0o777, 0, "../nowhere"),
        f"{LIB}/liba-2.so": file(make_library("liba-2.so")), f"{LIB}/libscript.so": file(b"GROUP"),
        f"{LIB}/deep/libq.so": file(make_library("libq.so")),
        f"{LIB}/libppc.so.1": file(make_library("libppc.so.1", machine=21)),
        f"{LIB}/short.so": file(b"\x7fELF"), f"{LIB}/libshort.so": file(b"\x7fELF\x02\x01" + b"\xff" * 90),
    }  # fmt: skip
    assert find_libraries(entries, directories) == [
        Library("liba-2.so", f"{LIB}/liba-2.so", 0x303), Library("libz.so.1", "opt/lib/libz.so.1", 0x303),
    ]  # fmt: skip


def test_loader_cache_is_sorted_by_version_descending() -> None:
    names = ["libx.so", "libx.so.9", "libx.so.10", "liba.so.1"]
    cache = write_cache(Library(name, f"usr/lib/{name}", 0x303) for name in names)
    count = int.from_bytes(cache[20:24], "little")
    found = []
    for number in range(count):
        start = int.from_bytes(cache[48 + 24 * number + 4 :][:4], "little")
        found.append(cache[start:].partition(b"\0")[0].decode())
    assert found == ["libx.so.10", "libx.so.9", "libx.so", "liba.so.1"]
