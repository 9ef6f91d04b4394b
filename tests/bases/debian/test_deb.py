"""Tests of hatch_docker.bases.debian.deb and rootfs: a .deb is unpacked within its tree, or rejected in one line."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.bases.debian.deb import open_deb
from hatch_docker.bases.debian.rootfs import unpack
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.progress import silent
from hatch_docker.oci.layer import Entry
from tests.conftest import need, run
from tests.fakes.debian_archive import Content, make_ar, make_deb, make_tar

FILES: dict[str, Content] = {
    "usr": None, "usr/bin": None, "usr/bin/tool": b"program", "usr/bin/link": ("symlink", "tool"),
    "usr/bin/same": ("hardlink", "./usr/bin/tool"), "usr/share/doc/tool/copyright": b"free",
}  # fmt: skip


def keep_all(_package: str, _entry: Entry) -> bool:
    return True


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def unpack_debs(tmp_path: Path, *debs: bytes) -> tuple[dict[str, Entry], Path]:
    """Unpack packages p0, p1, ... into a directory, and check that nothing was written outside of it."""
    tree = tmp_path / "outer/tree"
    tree.mkdir(parents=True)
    (tmp_path / "canary").write_bytes(b"canary")
    files = [open_deb(written(tmp_path / f"{number}.deb", deb), f"p{number}") for number, deb in enumerate(debs)]
    try:
        return unpack(files, tree, keep_all, silent()), tree
    finally:
        assert (tmp_path / "canary").read_bytes() == b"canary"
        assert [path.name for path in (tmp_path / "outer").iterdir()] == ["tree"]


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_members_are_read_with_any_compression(tmp_path: Path, compression: str) -> None:
    deb = open_deb(
        written(tmp_path / "x.deb", make_deb("tool", files=FILES, compression=compression, postinst="exit")), "tool"
    )
    assert deb.control.startswith(b"Package: tool\n")
    assert deb.postinst == "exit"
    assert set(deb.sums) == {"usr/bin/tool", "usr/share/doc/tool/copyright"}
    found = {entry.path: (entry.kind, content.read() if content else entry.target) for entry, content in deb.members()}
    assert found["usr/bin/tool"] == ("file", b"program")
    assert found["usr/bin/link"] == ("symlink", "tool")
    assert found["usr/bin/same"] == ("hardlink", "usr/bin/tool")


def test_package_built_by_dpkg_deb_is_read(tmp_path: Path) -> None:
    """It has long file names."""
    dpkg_deb = need("dpkg-deb")
    source = tmp_path / "source"
    long = "usr/share/" + "d" * 90 + "/" + "f" * 120
    (source / long).parent.mkdir(parents=True)
    (source / long).write_bytes(b"long")
    (source / "DEBIAN").mkdir()
    (source / "DEBIAN").chmod(0o755)  # required by dpkg-deb
    (source / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n"
    )
    run(dpkg_deb, "-Zxz", "--root-owner-group", "-b", source, tmp_path / "x.deb")
    deb = open_deb(tmp_path / "x.deb", "x")
    found = {entry.path: content.read() for entry, content in deb.members() if content}
    assert found == {long: b"long"}


def test_tree_gets_files_links_and_modes(tmp_path: Path) -> None:
    """Owners and times are only in the entries."""
    entries, tree = unpack_debs(tmp_path, make_deb("tool", files=FILES))
    assert (tree / "usr/bin/tool").read_bytes() == b"program"
    assert (tree / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tree / "usr/bin/same").samefile(tree / "usr/bin/tool")
    assert (tree / "usr/bin/link").readlink() == Path("tool")
    assert entries["usr/bin/tool"].content == tree / "usr/bin/tool"
    assert {entry.uid for entry in entries.values()} == {0}


def test_files_are_unpacked_to_merged_usr(tmp_path: Path) -> None:
    """Packages of bookworm still have /lib and /var/run as directories; in the image these are links."""
    entries, tree = unpack_debs(tmp_path, make_deb("x", files={
        "lib": None, "lib/x86/libc.so.6": b"c", "sbin/ldconfig": b"l", "var/run": None, "var/run/x": None,
        "lib64/ld.so": b"d",
        "library/x": b"no alias", "lib/x86/again": ("hardlink", "./lib/x86/libc.so.6"),
    }))  # fmt: skip
    assert {path for path, entry in entries.items() if entry.kind != "directory"} == {
        "usr/lib/x86/libc.so.6", "usr/sbin/ldconfig", "usr/lib64/ld.so", "library/x", "usr/lib/x86/again",
    }  # fmt: skip
    assert "lib" not in entries
    assert "run/x" in entries
    assert (tree / "usr/lib/x86/again").read_bytes() == b"c"


MEMBERS = [
    ("debian-binary", b"2.0\n"),
    ("control.tar", make_tar({"control": b"Package: x\n"})),
    ("data.tar", make_tar({})),
]
GOOD = make_ar(MEMBERS)
CUT = lzma.compress(MEMBERS[1][1])[:-40]


@pytest.mark.parametrize(("deb", "message"), [
    (b"PK\3\4", "package x is not a .deb: it is not an ar archive"),
    (b"", "is not an ar archive"),
    (GOOD[:60], "package x is damaged: a bad member header at byte 8"),
    (GOOD.replace(b"`\n", b"'\n", 1), "a bad member header at byte 8"),
    (GOOD[:-100], "a member is cut short"),
    (make_ar([("debian-binary", b"3.0\n"), *MEMBERS[1:]]), "not a .deb of format 2.0"),
    (make_ar(MEMBERS[1:]), "not a .deb of format 2.0"),
    (make_ar([MEMBERS[0], MEMBERS[2]]), "it has no control.tar"),
    (make_ar(MEMBERS[:2]), "it has no data.tar"),
    (make_ar([*MEMBERS, MEMBERS[0]]), "it has two members 'debian-binary'"),
    (make_ar([MEMBERS[0], MEMBERS[1], ("data.tar.zst", b"")]), "has a data.tar.zst: only xz, gzip and plain"),
    (make_ar([MEMBERS[0], ("control.tar", make_tar({"md5sums": b""})), MEMBERS[2]]), "has no control file"),
    (make_ar([MEMBERS[0], ("control.tar.xz", b"\xfd7zXZ\0rubbish"), MEMBERS[2]]), "package x is damaged: "),
    (make_ar([MEMBERS[0], ("control.tar.gz", b"\x1f\x8brubbish"), MEMBERS[2]]), "package x is damaged: "),
    (make_ar([MEMBERS[0], ("control.tar.xz", CUT), MEMBERS[2]]), "package x is damaged: "),
])  # fmt: skip
def test_damaged_deb_gives_one_line(tmp_path: Path, deb: bytes, message: str) -> None:
    with pytest.raises(BaseImageError) as error:
        open_deb(written(tmp_path / "x.deb", deb), "x")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("debs", "message"), [
    ([{"../outside": b"x"}], "unsafe path"),
    ([{"usr/../../outside": b"x"}], "unsafe path"),
    ([{"usr/x": ("hardlink", "../../canary")}], "unsafe path"),
    ([{"usr/x": ("hardlink", "etc/passwd")}], "which is not a file"),
    ([{"usr/x": ("fifo", "")}], "package p0 has a fifo, /usr/x"),
    ([{"usr/x": b"1"}, {"usr/x": b"2"}], "/usr/x"),
    ([{"usr/x": ("symlink", "../../..")}, {"usr/x/canary": b"x"}], "/usr/x"),
    ([{"usr/x": ("symlink", "../../.."), "usr/x/canary": b"x"}], "/usr/x"),
    ([{"usr/x": ("symlink", "a")}, {"usr/x": None}], "both have /usr/x"),
])  # fmt: skip
def test_unsafe_and_duplicate_paths_are_rejected(tmp_path: Path, debs: list[dict[str, Content]], message: str) -> None:
    """No path, link or device may leave the tree, and two packages must not have the same path."""
    with pytest.raises(BaseImageError) as error:
        unpack_debs(tmp_path, *(make_deb(f"p{number}", files=files) for number, files in enumerate(debs)))
    assert message in str(error.value)


def test_file_that_differs_from_md5sums_is_rejected(tmp_path: Path) -> None:
    deb = make_deb("p", files={"usr/x": b"data"}, sums={"usr/x": "0" * 32})
    with pytest.raises(BaseImageError, match="/usr/x is not what its md5sums say"):
        unpack_debs(tmp_path, deb)


@given(place=st.integers(0, 2000), value=st.integers(0, 255))
@settings(max_examples=100)
def test_changed_byte_is_read_or_rejected(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    deb = bytearray(make_deb("tool", files={"usr/bin/tool": b"program", "usr/x": ("symlink", "y")}))
    deb[place % len(deb)] = value
    path = written(tmp_path_factory.getbasetemp() / "flipped.deb", bytes(deb))
    try:
        for _, content in open_deb(path, "tool").members():
            if content:
                content.read()
    except BaseImageError as error:
        assert "tool" in str(error)
