"""Parsers of archives: layers, .debs, archives of images, sdists."""

import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path

from hatch_docker.bases.debian.deb import open_deb
from hatch_docker.core.streams import read_fully
from hatch_docker.oci.archive import read_archive, write_archive
from hatch_docker.oci.compression import LAYER_LIMIT, Decompressed
from hatch_docker.oci.filesystem import extract, merge_layers
from hatch_docker.oci.layer import Compression, Entry, layer_entries, write_layer
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, Image, Layer, digest_of
from hatch_docker.wheels.builder.sdist import read_sdist
from hatch_docker.wheels.locks.resolver import static_metadata
from tests.fakes.damaged_documents import damaged, mapped, one_of
from tests.fakes.debian_archive import make_deb
from tests.fakes.images import AMD64, small_image
from tests.fakes.package_index import make_sdist
from tests.parsers.parser import of_bytes, parses, written

IMAGE = small_image()


def tar_of(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind, target in (
            ("usr/bin/python3.13", tarfile.REGTYPE, ""), ("bin", tarfile.SYMTYPE, "usr/bin"),
            ("é" * 80, tarfile.REGTYPE, ""), ("hard", tarfile.LNKTYPE, "usr/bin/python3.13"),
            ("d/.wh..wh..opq", tarfile.REGTYPE, ""), ("etc/passwd", tarfile.REGTYPE, ""),
            (".wh.x", tarfile.REGTYPE, ""), ("l" * 150, tarfile.SYMTYPE, "t" * 150),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime = kind, target, 1.5 if form == tarfile.PAX_FORMAT else 1
            entry.size = 30 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(bytes(30)))
    return out.getvalue()


TARS = [tar_of(form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]


def with_checksums(data: bytes) -> bytes:
    """Correct the checksums of tar headers. Otherwise parsers would reject all damaged headers at once."""
    raw = bytearray(data)
    for start in range(0, len(raw) - 511, 512):
        if raw[start + 257 : start + 262] == b"ustar":
            raw[start + 148 : start + 156] = b" " * 8
            raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
    return bytes(raw)


@parses((one_of(mapped(damaged(TARS), with_checksums), damaged([TARS[1]])), TARS[0]))
def layer(data: bytes, directory: Path) -> None:
    descriptor = replace(IMAGE.layers[0].descriptor, digest=digest_of(data), media_type=OCI.layer)
    damaged_layer = Layer(descriptor, digest_of(data), None, lambda: io.BytesIO(data))
    merge_layers([damaged_layer], lambda _path, stream: stream.read())
    extract([damaged_layer], directory)


def packed(compression: str) -> bytes:
    out = io.BytesIO()
    write_layer([Entry("a", "file", 0o644, 0, content=TARS[0])], out, Compression(compression))
    return out.getvalue()


@parses(of_bytes(packed("gzip"), packed("zstd"), gzip.compress(b"") * 3 + gzip.compress(TARS[1])))
def compressed(data: bytes, _directory: Path) -> None:
    descriptor = Descriptor(OCI.layer, digest_of(data), len(data))
    diff_id = digest_of(read_fully(Decompressed(io.BytesIO(data)), LAYER_LIMIT))
    for _, content in layer_entries(Layer(descriptor, diff_id, None, lambda: io.BytesIO(data))):
        if content:
            content.read()


@parses(of_bytes(*(
    make_deb("tool", files={"usr/bin/tool": b"x", "usr/x": ("symlink", "y")}, compression=name, postinst="a")
    for name in ("", "gz", "xz")
)))  # fmt: skip
def deb(data: bytes, directory: Path) -> None:
    for _, content in open_deb(written(directory, "x.deb", data), "tool").members():
        if content:
            content.read()


def oci_archive() -> bytes:
    out = io.BytesIO()
    write_archive(IMAGE, ["a:1"], out, host=AMD64)
    return out.getvalue()


@parses((mapped(damaged([oci_archive()]), with_checksums), oci_archive()))
def archive(data: bytes, directory: Path) -> None:
    found = read_archive(written(directory, "a.tar", data), AMD64)
    assert isinstance(found, Image)
    list(layer_entries(found.layers[0]))


SDISTS = [make_sdist("gadget", "1.0", requires=["a; extra == 'x'"])[1], make_sdist("gadget", "1.0", dynamic=True)[1]]


@parses((
    one_of(
        damaged(SDISTS),
        mapped(damaged([gzip.decompress(SDISTS[0])]), lambda data: gzip.compress(with_checksums(data))),
    ),
    SDISTS[0],
))
def sdist(data: bytes, directory: Path) -> None:
    path = written(directory, "gadget-1.0.tar.gz", data)
    static_metadata(path, path.name)
    read_sdist(path)
