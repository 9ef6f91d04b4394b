"""Layers: deterministic writing, and reading of damaged and hostile layers."""

import contextlib
import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import read_fully
from hatch_docker.oci.compression import LAYER_LIMIT, RATIO_GRACE, Decompressed
from hatch_docker.oci.layer import Compression, Entry, layer_entries, make_layer, write_layer
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, Layer, digest_of
from hatch_docker.oci.paths import safe_path
from hatch_docker.oci.tar import pack_header, read_tar
from tests.conftest import run
from tests.fakes.layer_entries import TIME, directory, file, symlink


def layer_bytes(entries: list[Entry], compression: str = "none") -> bytes:
    out = io.BytesIO()
    write_layer(entries, out, Compression(compression))
    return out.getvalue()


def read_entries(raw: bytes, media_type: str = OCI.layer) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """Return the entries of the layer with these (compressed) bytes. Its diff-id is computed from them."""
    try:
        diff_id = digest_of(read_fully(Decompressed(io.BytesIO(raw)), LAYER_LIMIT))
    except ImageError:
        diff_id = "damaged"
    descriptor = Descriptor(media_type, digest_of(raw), len(raw))
    return layer_entries(Layer(descriptor, diff_id, None, lambda: io.BytesIO(raw)))


TREE = [
    directory("opt"), directory("opt/a"), file("opt/a/x", b"x" * 600), file("opt/a-b", b"1"),
    file("opt/b", b"data"), Entry("opt/a-hard", "hardlink", 0o644, TIME, target="opt/b"),
    symlink("opt/link", "../etc/passwd"), Entry("opt/home", "directory", 0o1777, TIME, uid=65532, gid=65532),
]  # fmt: skip


def test_order_of_entries_does_not_change_the_layer() -> None:
    """Parents come before children, hard links after their file."""
    assert layer_bytes(TREE, "gzip") == layer_bytes(TREE[::-1], "gzip")
    with tarfile.open(fileobj=io.BytesIO(layer_bytes(TREE))) as tar:
        names = tar.getnames()
        assert names == ["opt", "opt/a", "opt/a/x", "opt/a-b", "opt/b", "opt/home", "opt/link", "opt/a-hard"]
        assert {member.mtime for member in tar} == {TIME}
        assert {member.uname + member.gname for member in tar} == {""}
        home = tar.getmember("opt/home")
        assert (home.mode, home.uid, home.gid, home.type) == (0o1777, 65532, 65532, tarfile.DIRTYPE)
        assert tar.extractfile("opt/a-hard").read() == b"data"  # type: ignore[union-attr]


def test_known_layer_has_the_known_diff_id() -> None:
    """A diff-id may change only with the version of a recipe."""
    out = io.BytesIO()
    facts = write_layer(TREE, out, Compression("gzip"))
    assert facts.diff_id == "sha256:eb769449ca9d0ae998bacf89e47e9c02f91186c99fa5f2081a166ef4dbea7009"
    assert facts.digest == "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    assert facts.size == len(out.getvalue())
    plain = gzip.decompress(out.getvalue())
    assert (facts.unpacked_size, facts.diff_id) == (len(plain), "sha256:" + hashlib.sha256(plain).hexdigest())


def test_gzip_header_is_constant() -> None:
    """No time, no file name, no operating system."""
    assert layer_bytes(TREE, "gzip")[:10] == bytes.fromhex("1f8b08000000000000ff")


@pytest.mark.parametrize("name", ["gzip", "zstd", "none"])
def test_layer_does_not_depend_on_the_kind_of_content(name: str, tmp_path: Path) -> None:
    """A file of 3 MB in memory, on disk and from an opener."""
    data = b"".join(hashlib.sha256(bytes([n % 251, n // 251 % 251])).digest() * 2 for n in range(50_000))
    (tmp_path / "data").write_bytes(data)
    layers = {
        layer_bytes([file("f", data)], name),
        layer_bytes([file("f", tmp_path / "data")], name),
        layer_bytes([file("f", lambda: io.BytesIO(data), size=len(data))], name),
    }
    assert len(layers) == 1
    media_type = OCI.layer_type(name)
    ((entry, content),) = [
        (entry, stream.read() if stream else None)
        for entry, stream in read_entries(layers.pop(), media_type)
    ]
    assert (entry.path, entry.size, entry.mode, content) == ("f", len(data), 0o644, data)


LONG = "d/" + "n" * 120
WIDE = "/".join(["p" * 60] * 3) + "/name"


@pytest.mark.parametrize(
    ("path", "pax"),
    [("short", False), (WIDE, False), (LONG, True), ("a/Főtanúsítvány.crt", True), ("x" * 100, False),
     ("/".join(["p" * 90] * 3), True), ("a\\x2db", False)],
)  # fmt: skip
def test_long_and_unicode_names_round_trip(path: str, pax: bool) -> None:
    """USTAR if the name fits, otherwise PAX. tarfile and our reader return the same names."""
    raw = layer_bytes([file(path, b"1"), symlink("zz", path)])
    assert (b"PaxHeader" in raw) is (pax or len(path) > 100)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getnames() == [path, "zz"]
        assert tar.getmember("zz").linkname == path
    entries = [entry for entry, _ in read_tar(io.BytesIO(raw))]
    assert [entry.path for entry in entries] == [path, "zz"]
    assert entries[1].target == path


def test_large_numbers_are_pax_records() -> None:
    """Sizes from 8 GiB, large user IDs and times before 1970."""
    big = Entry("big", "file", 0o644, -5, uid=1 << 22, gid=3)
    member = tarfile.TarInfo.frombuf(pack_header(big, 1 << 34)[-512:], "utf-8", "strict")
    assert member.name == "big"
    raw = pack_header(big, 1 << 34)
    entry, _ = next(read_tar(io.BytesIO(raw)))
    assert (entry.size, entry.uid, entry.gid, entry.mtime) == (1 << 34, 1 << 22, 3, -5)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_of_tarfile_are_read(form: int) -> None:
    """GNU, PAX and USTAR: long names and links, devices, pipes. The root directory is omitted."""
    out = io.BytesIO()
    name = "./" + "long/" * 25 + "file" if form != tarfile.USTAR_FORMAT else "./etc/file"
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for path, kind, link in [
            ("./", tarfile.DIRTYPE, ""), (name, tarfile.REGTYPE, ""), ("/dev/null", tarfile.CHRTYPE, ""),
            ("./hard", tarfile.LNKTYPE, name), ("pipe", tarfile.FIFOTYPE, ""),
        ]:  # fmt: skip
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.mtime = kind, link, 1.75 if form == tarfile.PAX_FORMAT else 1
            info.size = 700 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"z" * info.size))
    out.seek(0)
    seen = [(entry.path, entry.kind, entry.mtime) for entry, _ in read_tar(out)]
    plain = name.removeprefix("./")
    assert seen == [(plain, "file", 1), ("dev/null", "character", 1), ("hard", "hardlink", 1), ("pipe", "fifo", 1)]


@pytest.mark.parametrize("name", ["", ".", "./", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", "a\0b", "x" * 256])
def test_unsafe_names_are_rejected(name: str) -> None:
    """Names outside of the root, and names that no file system can store."""
    with pytest.raises(ImageError, match="unsafe path"):
        safe_path(name)


def test_safe_names_are_normalised() -> None:
    """With `backslash` False a backslash is rejected."""
    assert safe_path("./a//b/./c/") == "a/b/c"
    assert safe_path("a\\b") == "a\\b"
    assert safe_path("...") == "..."
    with pytest.raises(ImageError):
        safe_path("a\\..\\b", backslash=False)


@pytest.mark.parametrize(("entries", "message"), [
    ([file("a"), file("a")], "two entries"),
    ([file("a/")], "not normalised"),
    ([file("/a")], "unsafe path"),
    ([file("a"), file("a/b")], "a is a file"),
    ([symlink("lib", "usr/lib"), file("lib/x")], "lib is a symlink"),
    ([Entry("dev/null", "character", 0o666, 0)], "it is a character"),
    ([file("a", lambda: io.BytesIO(b"123"), size=2)], "2 bytes were expected"),
    ([file("a", lambda: io.BytesIO(b"1"), size=2)], "2 bytes were expected"),
    ([Entry("a", "file", 0o644, 0, size=5)], "no content"),
    ([file("a", Path("/no/such/file"))], "No such file"),
    ([file("a\udc80")], "not UTF-8"),
])  # fmt: skip
def test_invalid_entries_are_rejected(entries: list[Entry], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        layer_bytes(entries)


def damaged(change: Callable[[bytearray], object], compression: str = "none") -> bytes:
    raw = bytearray(layer_bytes([directory("d"), file("d/f", b"x" * 5000)], compression))
    change(raw)
    return bytes(raw)


def pax(body: bytes, size: int | None = None) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(body) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


def sparse() -> bytes:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(("raw", "message"), [
    (damaged(lambda raw: raw.__setitem__(3, 65)), "wrong checksum"),
    (damaged(lambda raw: raw.__delitem__(slice(3000, None))), "ends inside"),
    (damaged(lambda raw: raw.__delitem__(slice(700, None))), "ends inside"),
    (damaged(lambda raw: raw.__setitem__(slice(100, 108), b"xyz"), "gzip"), "damaged"),
    (damaged(lambda raw: raw.__delitem__(slice(-9, None)), "gzip"), "damaged"),
    (damaged(lambda raw: raw.__delitem__(slice(-9, None)), "zstd"), "damaged"),
    (pax(b"99 path=x\n"), "damaged extended header"),
    (pax(b"path=x\n"), "damaged extended header"),
    (pax(b"10 size=x\n") + tarfile.TarInfo("a").tobuf(), "size = 'x'"),
    (pax(b"22 GNU.sparse.major=1\n"), "sparse"),
    (pax(b"", 1 << 33), "extended header of 8589934592 bytes"),
    (sparse(), "unknown type"),
    (b"\0" * 511, "ends inside"),
])  # fmt: skip
def test_damaged_layers_are_rejected(raw: bytes, message: str) -> None:
    """With ImageError, and without reading large data into memory."""
    with pytest.raises(ImageError, match=message):
        for _entry, content in read_entries(bytes(raw)):
            if content:
                content.read()


def test_extended_attributes_are_ignored() -> None:
    """File capabilities of a base's layer are not copied into other layers."""
    body = b"40 SCHILY.xattr.security.capability=\1\0\2\n"
    plain = tarfile.TarInfo("bin/ping")
    plain.size = 1
    raw = pax(body) + plain.tobuf(tarfile.GNU_FORMAT) + b"x" + bytes(511 + 1024)
    ((entry, content),) = [(entry, content.read() if content else b"") for entry, content in read_entries(raw)]
    assert (entry.path, entry.kind, content) == ("bin/ping", "file", b"x")


def test_unknown_media_type_of_a_layer_is_rejected() -> None:
    with pytest.raises(ImageError, match="encrypted"):
        next(read_entries(b"", OCI.layer + "+encrypted"))


def test_decompression_bomb_is_stopped_early() -> None:
    """Too high a ratio is detected after 64 MiB, too many bytes at the limit."""
    zeros = gzip.compress(pack_header(file("srv/zeros"), RATIO_GRACE + 512) + bytes(RATIO_GRACE + (1 << 20)), 9)
    stream = Decompressed(io.BytesIO(zeros))
    with pytest.raises(ImageError, match="bomb"):
        while stream.read(1 << 20):
            pass
    assert stream.size <= RATIO_GRACE + (1 << 20)
    with pytest.raises(ImageError, match=r"^srv/zeros: it unpacks to more than 200 times its size: refused as a bomb"):
        list(read_entries(zeros))
    with pytest.raises(ImageError, match="more than 1000 bytes"):
        list(read_tar(Decompressed(io.BytesIO(layer_bytes([file("f", b"x" * 5000)], "gzip")), 1000)))


def test_gzip_with_several_members_is_read() -> None:
    """pigz and eStargz write such files."""
    raw = layer_bytes([file("f", b"x" * 5000)])
    parts = gzip.compress(raw[:1000]) + gzip.compress(raw[1000:])
    ((entry, _),) = read_entries(parts, OCI.layer_type("gzip"))
    assert entry.path == "f"


def test_kinds_of_whiteouts() -> None:
    """`.wh.x` removes x, the opaque marker returns its directory, metadata of AUFS is ignored."""
    entries = [
        directory("d"), file("d/.wh.x"), file("d/.wh..wh..opq"), file(".wh.y"),
        file(".wh..wh.plnk"), file("d/.wh"),
    ]  # fmt: skip
    seen = [(entry.path, entry.kind) for entry, _ in read_entries(layer_bytes(entries))]
    assert sorted(seen) == [
        ("d", "directory"), ("d", "opaque"), ("d/.wh", "file"), ("d/x", "whiteout"), ("y", "whiteout"),
    ]  # fmt: skip
    for name in (".wh.", ".wh..", ".wh..."):
        with pytest.raises(ImageError, match="whiteout"):
            list(read_entries(layer_bytes([file(name)])))


def test_diff_id_is_checked_after_reading() -> None:
    """A valid tar with another diff-id is rejected."""
    out = io.BytesIO()
    compression = Compression("gzip")
    facts = write_layer(TREE, out, compression)
    good = make_layer(facts, compression, lambda: io.BytesIO(out.getvalue()))
    assert good.descriptor.media_type == OCI.layer_type("gzip")
    assert len(list(layer_entries(good))) == len(TREE)
    other = make_layer(facts, compression, lambda: io.BytesIO(layer_bytes(TREE[:3])))
    with pytest.raises(ImageError, match="as its image says"):
        list(layer_entries(other))


def test_compression_identity_and_invalid_levels() -> None:
    """The identity (compressor, version, level) is part of cache keys."""
    assert Compression("gzip").identity.startswith("gzip:zlib-ng-")
    assert Compression("zstd").identity.endswith(":3")
    assert Compression("none").identity == "none"
    assert Compression("gzip", 9).level == 9
    for name, level in [("xz", -1), ("gzip", 10), ("none", 1), ("gzip", 0)]:
        with pytest.raises(ImageError):
            Compression(name, level)


def test_layer_does_not_depend_on_the_environment() -> None:
    """With another hash seed, time zone, umask and locale."""
    script = (
        "import os, sys; os.umask(0o077); from tests.oci.test_layer import TREE, layer_bytes;"
        "import hashlib; print(hashlib.sha256(layer_bytes(TREE, 'gzip')).hexdigest())"
    )
    variables = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    digest = run(sys.executable, "-c", script, cwd=Path(__file__).parent.parent.parent, variables=variables).strip()
    assert digest == hashlib.sha256(layer_bytes(TREE, "gzip")).hexdigest()


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1, max_size=60)


@settings(max_examples=100)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=5), min_size=1, max_size=5), st.integers(0, 2**40))
@example([["..."], ["a", "...", "b"]], 0)
def test_any_name_and_time_round_trip(paths: list[list[str]], mtime: int) -> None:
    """A written layer is read back by our reader and by tarfile."""
    entries = {}
    for parts in paths:
        with contextlib.suppress(ImageError):
            path = safe_path("/".join(parts))
            entries[path] = Entry(path, "symlink", 0o777, mtime, target=path)
    try:
        raw = layer_bytes(list(entries.values()))
    except ImageError:  # a path below a symlink
        return
    found = {entry.path: entry for entry, _ in read_tar(io.BytesIO(raw))}
    assert found == entries
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert {member.name: member.linkname for member in tar} == {path: path for path in entries}


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 3583), st.integers(0, 255)), max_size=8))
def test_any_damage_is_an_image_error(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(layer_bytes([file("a/" + "ő" * 60, b"x" * 600), symlink("b", "c")]))
    for position, value in changes:
        raw[position] = value
    for start in range(0, len(raw), 512):  # correct the checksums, so that the damage is not detected by them
        total = sum(raw[start : start + 148]) + sum(raw[start + 156 : start + 512]) + 256
        if raw[start + 257 : start + 262] == b"ustar":
            raw[start + 148 : start + 156] = b"%06o\0 " % total
    with contextlib.suppress(ImageError):
        for _entry, content in read_entries(bytes(raw)):
            if content:
                content.read()
