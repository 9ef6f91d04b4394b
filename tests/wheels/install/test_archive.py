"""Invalid wheels are rejected: the error names the wheel and the entry."""

import base64
import hashlib
import io
import re
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.oci.layer import Compression, write_layer
from hatch_docker.wheels.builder.environment import install_pure
from hatch_docker.wheels.install.archive import RecordError, wheel_error
from hatch_docker.wheels.install.compatibility import check_fits, check_prebuilt
from hatch_docker.wheels.install.venv import wheel_entries, wheel_files
from hatch_docker.wheels.locks.pin import pin_requirements
from tests.fakes.lock_files import AMD64, with_index
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.sbom_images import SITE
from tests.fakes.wheels import INFO, VENV, Wheel, install, read_entries, record_hash, with_file


def mismatched() -> Wheel:
    wheel = Wheel()
    wheel.records["demo/__init__.py"] = f"demo/__init__.py,{record_hash(b'name = 2')},14\n"
    return wheel


BAD = {
    "a file differs from its hash": (mismatched(), "demo/__init__.py"),
    "a file has another size": (
        Wheel(records={"demo/__init__.py": f"demo/__init__.py,{record_hash(b'x')},3\n"}), "demo/__init__.py"),
    "a weak hash": (Wheel(records={"demo/__init__.py": "demo/__init__.py,md5=abc,14\n"}), "demo/__init__.py"),
    "a file is not in RECORD": (Wheel(unrecorded={"demo/__init__.py"}), "demo/__init__.py"),
    "no RECORD": (Wheel(record=False), "RECORD"),
    "relative path outside": (with_file("../evil.py"), "../evil.py"),
    "absolute": (with_file("/etc/evil"), "/etc/evil"),
    "relative path out of .data": (with_file("demo-1.0.data/scripts/../../../evil"), "evil"),
    "an unknown scheme": (with_file("demo-1.0.data/etc/passwd"), "demo-1.0.data/etc/passwd"),
    "no scheme at all": (with_file("demo-1.0.data/passwd"), "demo-1.0.data/passwd"),
    "a symbolic link": (with_file("demo/link", b"/etc/passwd", 0o777, stat.S_IFLNK), "demo/link"),
    "a setuid file": (with_file("demo-1.0.data/scripts/su", mode=0o4755), "su"),
    "a zip bomb": (with_file("demo/zeros", bytes(65 << 20)), "as a bomb does, 68157440 of them demo/zeros; let"),
    "duplicate name": (Wheel(twice=("demo/__init__.py", b"import os\n")), "demo/__init__.py"),
    "duplicate normalised name": (
        with_file("demo/./__init__.py", b"import os\n"), "demo/__init__.py"),
    "entry point with a relative path": (
        Wheel(scripts="[console_scripts]\n../../../usr/bin/evil = demo:main\n"), "../../../usr/bin/evil"),
    "invalid entry point": (Wheel(scripts="[console_scripts]\nx = demo\n"), "entry_points"),
    "an entry point named python": (Wheel(scripts="[console_scripts]\npython = demo:main\n"), "bin/python"),
    "a script named python": (with_file("demo-1.0.data/scripts/python3", b"#!python\n"), "bin/python3"),
    "data over the interpreter": (with_file("demo-1.0.data/data/bin/python3.13"), "bin/python3.13"),
    "data over the settings": (with_file("demo-1.0.data/data/pyvenv.cfg"), "pyvenv.cfg"),
    "data over a link": (with_file("demo-1.0.data/data/lib64"), "lib64"),
    "a backslash": (with_file("demo\\..\\..\\evil.py"), "evil.py"),
    "a NUL in a name": (with_file("demo/a.py\0.txt"), "a.py"),
    "a file where a directory is": (with_file("demo-1.0.data/purelib/demo"), "demo"),
    "another package's metadata": (
        Wheel(metadata="Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"), "other 1.0"),
    "a version of 5000 digits": (
        Wheel(metadata=f"Metadata-Version: 2.1\nName: demo\nVersion: {'9' * 5000}\n"), "demo 9999"),
    "empty METADATA": (Wheel(metadata="\n"), "METADATA"),
    "two packages": (with_file("other-2.0.dist-info/METADATA"), "2 .dist-info"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_wheel_is_rejected(case: str, tmp_path: Path) -> None:
    """The error is one line that names the wheel and the entry."""
    wheel, entry = BAD[case]
    with pytest.raises(WheelError) as caught:
        install(wheel, tmp_path)
    assert "demo-1.0-py3-none-any.whl" in str(caught.value)
    assert entry in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "data"), [("demo.pth", b"import demo\n"), ("sitecustomize.py", b"x = 1\n")])
def test_startup_code_gives_a_warning(name: str, data: bytes, tmp_path: Path) -> None:
    """Such files are valid and in use."""
    lines: list[str] = []
    assert f"{SITE}/{name}" in install(with_file(name, data), tmp_path, lines.append)
    assert len(lines) == 1
    assert name in lines[0]
    assert "demo-1.0-py3-none-any.whl" in lines[0]


def test_pth_file_with_paths_gives_no_warning(tmp_path: Path) -> None:
    lines: list[str] = []
    install(with_file("demo.pth", b"demo/more\n"), tmp_path, lines.append)
    assert lines == []


@pytest.mark.parametrize(("name", "count"), [("setuptools", 0), ("other", 1)])
def test_distutils_precedence_pth_of_setuptools_gives_no_warning(name: str, count: int, tmp_path: Path) -> None:
    """Each release has the file; in another package it is unusual."""
    lines: list[str] = []
    wheel, data = make_wheel(name, "80.0", files={"distutils-precedence.pth": b"import os\n"})
    (tmp_path / wheel).write_bytes(data)
    wheel_entries(tmp_path / wheel, VENV, warn=lines.append)
    assert len(lines) == count


@pytest.mark.parametrize("size", [2_000_000, 20])
def test_file_is_compared_with_record_when_it_is_read(size: int, tmp_path: Path) -> None:
    """No file is kept in memory, and a file that differs never gets into a finished layer."""
    data = hashlib.sha256(b"seed").digest() * (size // 32 + 1)
    wheel = with_file("demo/large.bin", data)
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    (large,) = (entry for entry in wheel_entries(path, VENV) if entry.path.endswith("large.bin"))
    assert callable(large.content)
    assert large.size == len(data)
    for _ in range(2):
        with large.content() as stream:
            assert stream.read() == data
    wheel.records["demo/large.bin"] = f"demo/large.bin,{record_hash(b'other')},{len(data)}\n"
    entries = wheel_entries(wheel.write(path), VENV)
    with pytest.raises(WheelError, match=r"demo-1.0-py3-none-any.whl.*demo/large.bin"):
        write_layer(entries, io.BytesIO(), Compression("none"))


@pytest.mark.parametrize(("wheel", "fault"), [
    (mismatched(), "demo/__init__.py differs from what RECORD says"),
    (Wheel(records={"demo/__init__.py": f"demo/__init__.py,{record_hash(b'x')},3\n"}), "says: 14 bytes"),
    (Wheel(records={"demo/__init__.py": "demo/__init__.py,md5=x,14\n"}), "a weak hash of demo/__init__.py"),
    (Wheel(records={"demo/__init__.py": "demo/__init__.py,sha256=x\n"}), "a line of RECORD has 2 fields"),
    (Wheel(unrecorded={"demo/__init__.py"}), "RECORD has no hash of demo/__init__.py"),
    (Wheel(unrecorded={f"{INFO}/WHEEL"}), "RECORD has no hash of demo-1.0.dist-info/WHEEL"),  # as in sentry-cli 3.8
])  # fmt: skip
def test_wrong_record_is_repaired_if_faults_are_collected(
    wheel: Wheel, fault: str, tmp_path: Path
) -> None:
    """The wheel is then installed like a valid one. Callers do this if they verified the wheel's own hash."""
    sound = read_entries(wheel_entries(Wheel().write(tmp_path / "demo-1.0-py3-none-any.whl"), VENV))
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    with pytest.raises(RecordError, match=re.escape(fault)):
        read_entries(wheel_entries(path, VENV))
    faults: list[str] = []
    assert read_entries(wheel_entries(path, VENV, faults=faults)) == sound
    assert fault in faults[0]


def test_build_requirement_with_wrong_record_is_installed(
    root: Path, index: FakeIndex, ctx: Context, lines: list[str]
) -> None:
    """Its hash from the index is verified, and its RECORD is never in an image."""
    path = mismatched().write(root / "demo-1.0-py3-none-any.whl")
    index.add("demo", (path.name, path.read_bytes()))
    installed = install_pure(pin_requirements(["demo"], root, AMD64, ctx := with_index(ctx, index)), root, ctx)
    assert (installed / "demo/__init__.py").read_bytes() == Wheel().files["demo/__init__.py"]
    assert "build requirement demo-1.0-py3-none-any.whl has a wrong RECORD: demo/__init__.py differs" in str(lines)


def test_size_limit_of_rewritten_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts whose first line is replaced are kept in memory."""
    monkeypatch.setattr("hatch_docker.wheels.install.destination.SCRIPTS_LIMIT", 1000)
    large = with_file("demo-1.0.data/scripts/large", b"#!python\n" + bytes(1000))
    with pytest.raises(WheelError, match="its scripts have more than"):
        install(large, tmp_path)


def test_sha512_in_record_becomes_sha256(tmp_path: Path) -> None:
    """For small files only."""
    wheel = Wheel()
    digest = base64.urlsafe_b64encode(hashlib.sha512(wheel.files["demo/__init__.py"]).digest()).decode().rstrip("=")
    wheel.records["demo/__init__.py"] = f"demo/__init__.py,sha512={digest},14\n"
    files = wheel_files(install(wheel, tmp_path).values(), VENV)
    assert files[f"{SITE}/demo/__init__.py"] == record_hash(wheel.files["demo/__init__.py"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), new=st.binary(min_size=1, max_size=6))
def test_damaged_wheel_gives_wheel_error_or_same_files(place: float, new: bytes, tmp_path: Path) -> None:
    """For changes of any bytes; the error is one line."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    sound = {name: entry.content for name, entry in read_entries(wheel_entries(path, VENV)).items()}
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + len(new)] = new
    path.write_bytes(data)
    try:
        found = read_entries(wheel_entries(path, VENV, warn=lambda _line: None))
    except WheelError as error:
        assert "\n" not in str(error)
    else:
        assert {name: entry.content for name, entry in found.items()} == sound


def rewritten(data: bytes, old: bytes, new: bytes, times: int = 1) -> bytes:
    assert old in data
    return data.replace(old, new, times)


def local_size(data: bytes) -> bytes:
    """Return the archive with another size in the first local header than in the central directory."""
    return data[:22] + struct.pack("<I", 9) + data[26:]


def overlapping(data: bytes) -> bytes:
    """Return the archive with a second directory entry at the offset of the first one."""
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 4)
    return data[: second + 42] + data[first + 42 : first + 46] + data[second + 46 :]


def two_ends(data: bytes) -> bytes:
    """Return the archive with a second end record, of an empty archive, in the comment."""
    end = data.rindex(b"PK\5\6")
    other = b"PK\5\6" + bytes(18)
    return data[: end + 20] + struct.pack("<H", len(other)) + other


def unicode_path(data: bytes) -> bytes:
    """Return the archive with another path in an extra field of the first entry (APPNOTE 4.6.9)."""
    first, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    name = b"demo/evil.py"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(b"demo/__init__.py")) + name
    length = struct.unpack_from("<H", data, first + 28)[0]
    grown = data[: first + 30] + struct.pack("<H", len(extra)) + data[first + 32 : first + 46 + length] + extra
    tail = bytearray(data[end:])
    struct.pack_into("<I", tail, 12, struct.unpack_from("<I", tail, 12)[0] + len(extra))
    return grown + data[first + 46 + length : end] + bytes(tail)


# Archives that zip readers interpret differently; the cases are those of uv's tests.
AMBIGUOUS: dict[str, Callable[[bytes], bytes]] = {
    "another name in the local header": lambda data: rewritten(data, b"demo/__init__.py", b"demo/__evil__.py"),
    "another name in the directory": lambda data: data[::-1].replace(
        b"demo/__init__.py"[::-1], b"demo/__evil__.py"[::-1], 1)[::-1],
    "another size in the local header": local_size,
    "entries that overlap": overlapping,
    "data before the archive": lambda data: b"#!/bin/sh\nexit 1\n" + data,
    "data after the archive": lambda data: data + b"PK\3\4 and more",
    "two end records": two_ends,
    "two archives": lambda data: data + data,
    "another path in an extra field": unicode_path,
    "no end record": lambda data: data[:-22],
    "one of several disks": lambda data: data[:-18] + b"\1\0\1\0" + data[-14:],
    "too large number of entries": lambda data: data[:-14] + b"\x09\0\x09\0" + data[-10:],
    "too small number of entries": lambda data: data[:-14] + b"\1\0\1\0" + data[-10:],
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_archive_is_rejected_or_unchanged(case: str, tmp_path: Path) -> None:
    """The error is one line, or the same files are installed."""
    path = Wheel().write(tmp_path / "demo-1.0-py3-none-any.whl")
    sound = {name: entry.content for name, entry in read_entries(wheel_entries(path, VENV)).items()}
    path.write_bytes(AMBIGUOUS[case](path.read_bytes()))
    try:
        found = {name: entry.content for name, entry in read_entries(wheel_entries(path, VENV)).items()}
    except WheelError as error:
        assert "\n" not in str(error)
        assert "demo-1.0-py3-none-any.whl" in str(error)
    else:
        assert found == sound


@pytest.mark.parametrize("check", [
    lambda name: check_prebuilt(Path(name), AMD64), lambda name: check_fits(name, AMD64),
    lambda name: check_fits(f"{name}.zip", AMD64),
])  # fmt: skip
def test_file_name_with_newline_gives_one_line_error(check: Callable[[str], None]) -> None:
    """Otherwise a file name could forge a line of output."""
    name = "demo\nhatch-docker: all is well-1.0-py3-none-win32.whl"
    with pytest.raises(WheelError) as caught:
        check(name)
    for error in (caught.value, wheel_error(name, "why")):
        assert len(str(error).splitlines()) == 1
        assert r"demo\nhatch-docker" in str(error)
