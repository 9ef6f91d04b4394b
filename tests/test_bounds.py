"""Large and deeply nested documents, and bombs: they are read within limits of memory and time, or rejected.

Each case writes a file that an attacker could send. A new process reads it and is measured.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.tar import Entry, pack_header
from tests.fakes.debian_archive import make_ar, make_tar
from tests.fakes.package_index import make_wheel
from tests.fakes.resource_use import Measured, measure

MEMORY = 300 << 20  # bytes, of the whole process
BLOCK = bytes(16 << 20)
BLOCKS = 640  # number of blocks of zeros in a bomb, 10 GB
ZEROS = gzip.compress(BLOCK, 9, mtime=0)  # 16 kB; the concatenation of gzip members is one stream


def json_lists(path: Path) -> None:
    """Write 8 MiB of the smallest JSON values."""
    path.write_bytes(b'{"a": [' + b"{}," * ((8 << 20) // 3 - 10) + b"1]}")


def json_deep(path: Path) -> None:
    path.write_bytes(b'{"a":' * 800_000)


def manifest_large(path: Path) -> None:
    row = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{'a' * 64}", "size": 1}
    path.write_bytes(json.dumps({"config": row, "layers": [row] * 29_000}).encode()[: 4 << 20])


def read_json(path: str) -> None:
    from hatch_docker.oci.manifest import parse_json

    parse_json(Path(path).read_bytes(), "it")


def members(path: Path, entries: Iterable[Entry]) -> None:
    """Write a layer with entries without contents."""
    with gzip.open(path, "wb", 1) as out:
        for entry in entries:
            out.write(pack_header(entry, 0))
        out.write(bytes(1024))


def million(path: Path) -> None:
    """Write a layer with 10^6 members."""
    one = pack_header(Entry("d/file-000000", "file", 0o644, 0), 0)
    with gzip.open(path, "wb", 1) as out:
        for number in range(0, 1_000_000, 1000):
            out.write(b"".join(_renamed(one, n) for n in range(number, number + 1000)))
        out.write(bytes(1024))


def _renamed(header: bytes, number: int) -> bytes:
    block = b"d/file-%06d" % number + header[13:148] + b" " * 8 + header[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def long_names(path: Path) -> None:
    """Write a layer with 80 000 names of 4000 characters: 320 MB."""
    members(path, (Entry("/".join([f"{n:06}"] + ["x" * 200] * 19), "file", 0o644, 0) for n in range(80_000)))


def some_long_names(path: Path) -> None:
    members(path, (Entry("/".join([f"{n:06}"] + ["x" * 200] * 19), "file", 0o644, 0) for n in range(6_000)))


def records(path: Path) -> None:
    """Write a layer with global pax headers that contain five million unknown records with different names."""
    with gzip.open(path, "wb", 1) as out:
        for number in range(100):
            body = b"".join(b"21 k%07d=12345678\n" % (number * 50_000 + n) for n in range(49_000))
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XGLTYPE, len(body)
            out.write(info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512))
        out.write(bytes(1024))


def links(path: Path) -> None:
    """Write a layer with nested symlinks, each with a thousand steps, and files behind them."""
    chain = [Entry(f"l{n}", "symlink", 0o777, 0, target="d/../" * 500 + (f"l{n - 1}" if n else "d")) for n in range(39)]
    files = [Entry(f"l38/f{n}", "file", 0o644, 0) for n in range(5000)]
    members(path, [Entry("d", "directory", 0o755, 0), *chain, *files])


def whiteouts(path: Path) -> None:
    """Write a layer with a directory of many files that is emptied as many times."""
    files = [Entry(f"d/f{n}", "file", 0o644, 0) for n in range(50_000)]
    members(path, [*files, *(Entry("d/.wh..wh..opq", "file", 0o644, 0) for _ in range(50_000))])


def large_size(path: Path) -> None:
    """Write a layer whose header declares 2^40 bytes."""
    path.write_bytes(gzip.compress(pack_header(Entry("f", "file", 0o644, 0), 1 << 40) + bytes(1 << 20)))


def gzip_bomb(path: Path) -> None:
    """Write a layer with a file of 10 GB in 10 MB."""
    path.write_bytes(gzip.compress(pack_header(Entry("f", "file", 0o644, 0), BLOCKS * len(BLOCK))) + ZEROS * BLOCKS)


def zstd_bomb(path: Path) -> None:
    from backports import zstd

    frame = zstd.compress(BLOCK)
    path.write_bytes(zstd.compress(pack_header(Entry("f", "file", 0o644, 0), BLOCKS * len(BLOCK))) + frame * BLOCKS)


def zstd_window(path: Path) -> None:
    """Write a frame with a window of 2 GiB."""
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0x00, (21 << 3)]) + b"\x01\x00\x10" + bytes(1 << 20))


def nested_bomb(path: Path) -> None:
    """Write a layer with a compressed archive as a file, which must not be unpacked."""
    with gzip.open(path, "wb") as out:
        out.write(pack_header(Entry("f.gz", "file", 0o644, 0), len(ZEROS)) + ZEROS + bytes(-len(ZEROS) % 512 + 1024))


def read_layer(path: str) -> None:
    from hatch_docker.oci.filesystem import merge_layers
    from hatch_docker.oci.layer import layer_entries
    from hatch_docker.oci.media_types import OCI
    from hatch_docker.oci.model import Descriptor, Layer

    def open_file() -> io.BufferedReader:
        return Path(path).open("rb")

    layer = Layer(Descriptor(OCI.layer, f"sha256:{'0' * 64}", 1), f"sha256:{'0' * 64}", None, open_file)
    merge_layers([layer])
    list(layer_entries(layer))


def read_sdist(path: str) -> None:
    from hatch_docker.wheels.builder.sdist import read_sdist

    read_sdist(Path(path), "gadget-1.0.tar.gz")


def xz_bomb(path: Path) -> None:
    """Write a .deb with 10 GB in control.tar.xz."""
    block = lzma.compress(BLOCK)
    control = lzma.compress(pack_header(Entry("control", "file", 0o644, 0), BLOCKS * len(BLOCK))) + block * BLOCKS
    path.write_bytes(make_ar([("debian-binary", b"2.0\n"), ("control.tar.xz", control), ("data.tar", make_tar({}))]))


def xz_memory(path: Path) -> None:
    """Write a .deb whose control.tar.xz needs a dictionary of 1.5 GiB."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
    data = bytearray(lzma.compress(b"x" * 5000, filters=filters))
    data[16] = 39  # dictionary size in the block header, which ends with a checksum
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(bytes(data[12 : 12 + size - 4])))
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", bytes(data)), ("data.tar", make_tar({}))]
    path.write_bytes(make_ar(members))


def read_deb(path: str) -> None:
    from hatch_docker.bases.debian.deb import open_deb

    for _entry, content in open_deb(Path(path), "tool").members():
        if content:
            content.read()


def packages_bomb(path: Path) -> None:
    path.write_bytes(lzma.compress(BLOCK) * BLOCKS)


def read_packages(path: str) -> None:
    from hatch_docker.bases.debian.archive import unpack_index

    unpack_index(Path(path), "it")


def wheel_with(path: Path, files: Iterable[tuple[str, bytes]], record: bytes = b"") -> None:
    """Write a compressed wheel with files that are not in its RECORD, or are in `record` if it is given."""
    _name, data = make_wheel("gadget", "1.0", files={})
    with zipfile.ZipFile(io.BytesIO(data)) as sound, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, True, 1) as out:
        for info in sound.infolist():
            if not (record and info.filename == RECORD):
                out.writestr(info.filename, sound.read(info))
        for name, content in files:
            record += f"{name},sha256={_hash(content)},{len(content)}\n".encode() if record else b""
            out.writestr(name, content)
        if record:
            out.writestr(RECORD, record)


RECORD = "gadget-1.0.dist-info/RECORD"


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def wheel_bomb(path: Path) -> None:
    """Write a wheel with 300 MB of zeros in 300 kB."""
    wheel_with(path, [("gadget/zeros", bytes(300 << 20))])


def wheel_directory(path: Path) -> None:
    """Write a wheel whose central directory has a million entries for one member."""
    _name, data = make_wheel("gadget", "1.0", files={"gadget/x.py": b"x"})
    end = data.rindex(b"PK\5\6")
    start = struct.unpack_from("<I", data, end + 16)[0]
    first = data[start : start + 46 + struct.unpack_from("<H", data, start + 28)[0]]
    directory = first * 1_000_000
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 65535, 65535, len(directory), start)
    path.write_bytes(data[:start] + directory + bytes(tail))


def wheel_record(path: Path) -> None:
    """Write a wheel whose RECORD has rows for two million missing files."""
    wheel_with(path, [], b"".join(b"%d,,\n" % n for n in range(2_000_000)))


def wheel_small_files(path: Path) -> None:
    """Write a wheel with 500 MB in files of 500 kB, which is not a bomb."""
    with zipfile.ZipFile(io.BytesIO(make_wheel("gadget", "1.0", files={})[1])) as sound:
        record = sound.read(RECORD)
    body = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\n" for n in range(8_000))
    wheel_with(path, ((f"gadget/m{n}.py", b"# %d\n" % n + body) for n in range(1000)), record)


def read_wheel(path: str) -> None:
    from hatch_docker.bases.model import Interpreter
    from hatch_docker.wheels.install.layout import VenvTarget
    from hatch_docker.wheels.install.venv import wheel_entries

    venv = VenvTarget(Interpreter("/usr/bin/python3.13", "3.13.5"))
    for entry in wheel_entries(Path(path), venv, filename="gadget-1.0-py3-none-any.whl"):
        if callable(entry.content):
            with entry.content() as stream:
                stream.read()


def metadata(path: Path) -> None:
    """Write 16 MiB of continuation lines, fields and brackets."""
    path.write_bytes(
        b"Name: x\n" + b" a\n" * 1_000_000 + b"Requires-Dist: " + b"(" * 100_000 + b"\n" + b"A: b\n" * 1_000_000
    )


def read_metadata(path: str) -> None:
    from hatch_docker.release.sbom.inventory import reader

    data = Path(path).read_bytes()
    for name in ("usr/share/doc/x/copyright", "var/lib/dpkg/status", "x-1.dist-info/METADATA", "lib/apk/db/installed"):
        reader(name)(name, data)


def sections(path: Path) -> None:
    """Write an ELF library with 60 000 sections, 60 000 segments and 8 MB of names."""
    count, names = 60_000, b".debug_x" * (1 << 20)
    segments = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, 64, 64, 4096) * count
    start = 64 + len(segments)
    header = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, start + len(names), 0, 64, 56, count, 64, count, 1)
    rows = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, start, len(names), 0, 0, 1, 0)
    rows += struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, start, 1, 0, 0, 1, 0) * (count - 2)
    path.write_bytes(b"\x7fELF\2\1\1" + bytes(9) + header + segments + names + rows)


def read_sections(path: str) -> None:
    from hatch_docker.wheels.install.strip import strip_plan

    with Path(path).open("rb") as stream:
        strip_plan(stream, Path(path).stat().st_size)


def importing_tests(path: Path) -> None:
    """Write names of 20 000 packages whose tests import the next package's tests, and of 20 000 with unused tests."""
    imported = [f"p/s{n}/{name}" for n in range(20_000) for name in ("m.py", "tests/t.py")]
    path.write_text("\n".join([*imported, *(f"q{n}/tests/{n}.txt" for n in range(20_000)), "p/__init__.py", "p/m.py"]))


def read_names(path: str) -> None:
    from hatch_docker.wheels.install.slim import Rules, left_out_files

    def read(name: str) -> bytes:
        number = name.split("/")[1][1:]
        following = {"p/m.py": 0}.get(name, int(number) + 1 if "tests" in name else None)
        return b"" if following is None else b"import p.s%d.tests\n" % following

    left_out_files(Path(path).read_text().split("\n"), read, Rules(("tests",)))


def extras(path: Path) -> None:
    """Write 20 000 extras, each of which requires the next extra of the same distribution."""
    path.write_text("a[e0]\n" + "\n".join(f"a[e{n + 1}]; extra == 'e{n}'" for n in range(20_000)))


def read_extras(path: str) -> None:
    from types import SimpleNamespace
    from typing import Any, cast

    from hatch_docker.cli.inspect.packages import Metadata, dependencies_of
    from hatch_docker.oci.model import Platform
    from hatch_docker.release.sbom.model import _needs
    from hatch_docker.wheels.target import Target

    lines, platform = tuple(Path(path).read_text().split("\n")), Platform("linux", "amd64")
    dependencies_of([Metadata("python", "a", "1", "a/METADATA", lines, own=True)], "3.13.5", platform)
    plan = cast("Any", SimpleNamespace(name="p", lock=SimpleNamespace(requirements=("a[e0]",))))
    _needs({"a": ("x", {"requires": lines})}, plan, Target("3.13.5", platform, ("glibc", "2.36")))


def chain(path: Path) -> None:
    """Write 20 000 Debian packages: a half needs the next package each, the others each other and the first."""
    text = "Package: p{0}\nVersion: 1\nDepends: p{1}{2}\n\n"
    path.write_text("".join(text.format(n, *((n + 1, "") if n < 10_000 else (n ^ 1, ", p0"))) for n in range(20_000)))


def read_chain(path: str) -> None:
    from hatch_docker.cli.inspect.reader import read_contents
    from hatch_docker.cli.inspect.why import find_reasons
    from tests.fakes.bases import file
    from tests.fakes.images import layer_of
    from tests.fakes.inspected_images import foreign_image

    contents = read_contents(foreign_image(layer_of([file("var/lib/dpkg/status", Path(path).read_text())])))
    assert [len(item.chains) for item in find_reasons(contents, "p9999")] == [1]


def challenge(path: Path) -> None:
    path.write_text('Bearer realm="' + "a\\" * 20_000 + " , =" * 20_000)


def read_challenge(path: str) -> None:
    from hatch_docker.core.http.retry import retry_after
    from hatch_docker.oci.auth import parse_challenges
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.referrers import _next

    text = Path(path).read_text()
    parse_challenges(text), _next("<" + text), retry_after({"retry-after": text, "date": "1 " * 30_000})
    with contextlib.suppress(ImageError):
        parse_reference("a" + "-" * 500)


def one_line(path: Path) -> None:
    path.write_text("import sys\nfor _ in range(200):\n    sys.stderr.write('x' * (1 << 20))\nsys.exit('end')\n")


def read_line(path: str) -> None:
    from hatch_docker.core.process import run

    run([sys.executable, path], log=lambda _line: None)


def words(path: Path) -> None:
    """Write CMake's message for a missing library many times."""
    path.write_text("\n".join(["CMake Error " * 20_000, *["  Could not find a " * 20_000] * 5]))


def read_words(path: str) -> None:
    from hatch_docker.wheels.builder.failure_hints import hint

    hint(Path(path).read_text(), network=True)


def uv_words(path: Path) -> None:
    """Write uv's message for a very long version."""
    path.write_text("No solution found: Because a==" + "9" * 300_000 + " depends on b, there is none")


def read_uv(path: str) -> None:
    from hatch_docker.oci.model import Platform
    from hatch_docker.wheels.locks.uv import _error_for
    from hatch_docker.wheels.target import Target

    raise _error_for(Path(path).read_text(), Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.36")))


Make = Callable[[Path], None]
# The writer of the file, its reader, a part of the reader's error, and the limit of CPU seconds.
CASES: dict[str, tuple[Make, Callable[[str], None], str, float]] = {
    "json of small values": (json_lists, read_json, "", 6),
    "deep JSON": (json_deep, read_json, "not readable as JSON", 1),
    "a manifest of 4 MiB": (manifest_large, read_json, "not readable as JSON", 1),
    "a million members": (million, read_layer, "take more than", 20),
    "long names": (long_names, read_layer, "take more than", 20),
    "pax records": (records, read_layer, "records in them", 20),
    "nested symlinks": (links, read_layer, "lead on and on", 20),
    "whiteouts": (whiteouts, read_layer, "lead on and on", 20),
    "a size of 2^40": (large_size, read_layer, "ends inside f", 1),
    "a gzip bomb": (gzip_bomb, read_layer, "refused as a bomb", 2),
    "a zstd bomb": (zstd_bomb, read_layer, "refused as a bomb", 2),
    "a zstd window": (zstd_window, read_layer, "damaged", 1),
    "a nested bomb": (nested_bomb, read_layer, "as its image says", 1),
    "an sdist that is a bomb": (gzip_bomb, read_sdist, "refused as a bomb", 2),
    "an sdist of long names": (some_long_names, read_sdist, "holds more than", 5),
    "an xz bomb": (xz_bomb, read_deb, "unpacks to more than", 2),
    "xz with a large dictionary": (xz_memory, read_deb, "Memory usage limit exceeded", 1),
    "a bomb of package lists": (packages_bomb, read_packages, "unpacks to more than", 5),
    "a wheel that is a bomb": (wheel_bomb, read_wheel, "it unpacks to", 2),
    "a wheel with a large directory": (wheel_directory, read_wheel, "directory has more than", 2),
    "a wheel with a large RECORD": (wheel_record, read_wheel, "RECORD", 3),
    "a wheel of many files": (wheel_small_files, read_wheel, "", 20),
    "long metadata": (metadata, read_metadata, "", 20),
    "an ELF file of many sections": (sections, read_sections, "", 2),
    "tests that import tests": (importing_tests, read_names, "", 5),
    "nested extras": (extras, read_extras, "", 10),
    "a chain of packages": (chain, read_chain, "", 20),
    "a program's line of 200 MB": (one_line, read_line, "failed with status 1", 5),
    "long output of CMake": (words, read_words, "", 2),
    "long output of uv": (uv_words, read_uv, "cannot resolve the dependencies for", 2),
    "long HTTP headers": (challenge, read_challenge, "", 1),
}  # fmt: skip


LONG = {
    "a million members", "long names", "pax records", "nested symlinks", "whiteouts",
    "a wheel of many files", "long metadata",
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.long] * (case in LONG)) for case in CASES])
def test_large_input_is_read_within_limits(case: str, tmp_path: Path) -> None:
    """In at most 300 MB of memory."""
    write, read, said, seconds = CASES[case]
    path = tmp_path / "it"
    write(path)
    found: Measured = measure(read, str(path))
    assert said in found.error if said else not found.error, found
    assert found.peak < MEMORY, found
    assert found.seconds < seconds, found
