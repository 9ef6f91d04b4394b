"""Wheels that must not be installed: refused with the wheel's name and the entry's."""

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
from tests.fakes.lock_files import AMD64, using
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.sbom_images import SITE
from tests.fakes.wheels import INFO, VENV, Wheel, install, read, record_hash, with_file


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
    "climbs out": (with_file("../evil.py"), "../evil.py"),
    "absolute": (with_file("/etc/evil"), "/etc/evil"),
    "climbs out of .data": (with_file("demo-1.0.data/scripts/../../../evil"), "evil"),
    "an unknown scheme": (with_file("demo-1.0.data/etc/passwd"), "demo-1.0.data/etc/passwd"),
    "no scheme at all": (with_file("demo-1.0.data/passwd"), "demo-1.0.data/passwd"),
    "a symbolic link": (with_file("demo/link", b"/etc/passwd", 0o777, stat.S_IFLNK), "demo/link"),
    "a setuid file": (with_file("demo-1.0.data/scripts/su", mode=0o4755), "su"),
    "a bomb": (with_file("demo/zeros", bytes(65 << 20)), "as a bomb does, 68157440 of them demo/zeros; let"),
    "one name twice": (Wheel(twice=("demo/__init__.py", b"import os\n")), "demo/__init__.py"),
    "one name twice, in other words": (
        with_file("demo/./__init__.py", b"import os\n"), "demo/__init__.py"),
    "an entry point climbs out": (
        Wheel(scripts="[console_scripts]\n../../../usr/bin/evil = demo:main\n"), "../../../usr/bin/evil"),
    "an entry point that cannot be read": (Wheel(scripts="[console_scripts]\nx = demo\n"), "entry_points"),
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
    "no metadata in the metadata": (Wheel(metadata="\n"), "METADATA"),
    "two packages": (with_file("other-2.0.dist-info/METADATA"), "2 .dist-info"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_wheel_is_refused_with_its_name_and_the_entry(case: str, tmp_path: Path) -> None:
    """A forbidden member of a wheel never becomes an entry; the message names the wheel and the member."""
    wheel, entry = BAD[case]
    with pytest.raises(WheelError) as caught:
        install(wheel, tmp_path)
    assert "demo-1.0-py3-none-any.whl" in str(caught.value)
    assert entry in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "data"), [("demo.pth", b"import demo\n"), ("sitecustomize.py", b"x = 1\n")])
def test_code_that_runs_at_every_start_is_told(name: str, data: bytes, tmp_path: Path) -> None:
    """Legal and used, but worth a warning."""
    lines: list[str] = []
    assert f"{SITE}/{name}" in install(with_file(name, data), tmp_path, lines.append)
    assert len(lines) == 1
    assert name in lines[0]
    assert "demo-1.0-py3-none-any.whl" in lines[0]


def test_paths_in_pth_are_not_worth_a_warning(tmp_path: Path) -> None:
    lines: list[str] = []
    install(with_file("demo.pth", b"demo/more\n"), tmp_path, lines.append)
    assert lines == []


@pytest.mark.parametrize(("name", "count"), [("setuptools", 0), ("other", 1)])
def test_the_start_of_setuptools_is_not_worth_a_warning(name: str, count: int, tmp_path: Path) -> None:
    """Every release has it; in another package the same file would be news."""
    lines: list[str] = []
    wheel, data = make_wheel(name, "80.0", files={"distutils-precedence.pth": b"import os\n"})
    (tmp_path / wheel).write_bytes(data)
    wheel_entries(tmp_path / wheel, VENV, warn=lines.append)
    assert len(lines) == count


@pytest.mark.parametrize("size", [2_000_000, 20])
def test_a_file_is_compared_with_record_when_it_is_read(size: int, tmp_path: Path) -> None:
    """None is held in memory; a false one still reaches no finished layer."""
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
    (Wheel(unrecorded={f"{INFO}/WHEEL"}), "RECORD has no hash of demo-1.0.dist-info/WHEEL"),  # as sentry-cli 3.8
])  # fmt: skip
def test_a_wrong_record_is_repaired_where_the_wheel_is_known_by_its_hash(
    wheel: Wheel, fault: str, tmp_path: Path
) -> None:
    """A wheel with a wrong RECORD is installed as a sound one, with a right RECORD."""
    sound = read(wheel_entries(Wheel().write(tmp_path / "demo-1.0-py3-none-any.whl"), VENV))
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    with pytest.raises(RecordError, match=re.escape(fault)):
        read(wheel_entries(path, VENV))
    faults: list[str] = []
    assert read(wheel_entries(path, VENV, faults=faults)) == sound
    assert fault in faults[0]


def test_a_build_requirement_with_a_wrong_record_is_installed(
    root: Path, index: FakeIndex, ctx: Context, lines: list[str]
) -> None:
    """The index names its hash; the image never has its RECORD."""
    path = mismatched().write(root / "demo-1.0-py3-none-any.whl")
    index.add("demo", (path.name, path.read_bytes()))
    installed = install_pure(pin_requirements(["demo"], root, AMD64, ctx := using(ctx, index)), root, ctx)
    assert (installed / "demo/__init__.py").read_bytes() == Wheel().files["demo/__init__.py"]
    assert "build requirement demo-1.0-py3-none-any.whl has a wrong RECORD: demo/__init__.py differs" in str(lines)


def test_scripts_are_held_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first line is another one in the image."""
    monkeypatch.setattr("hatch_docker.wheels.install.destination.SCRIPTS_LIMIT", 1000)
    large = with_file("demo-1.0.data/scripts/large", b"#!python\n" + bytes(1000))
    with pytest.raises(WheelError, match="its scripts have more than"):
        install(large, tmp_path)


def test_another_hash_than_sha256(tmp_path: Path) -> None:
    """RECORD may have sha512; small files have a sha256 in the image's, as they always had."""
    wheel = Wheel()
    digest = base64.urlsafe_b64encode(hashlib.sha512(wheel.files["demo/__init__.py"]).digest()).decode().rstrip("=")
    wheel.records["demo/__init__.py"] = f"demo/__init__.py,sha512={digest},14\n"
    files = wheel_files(install(wheel, tmp_path).values(), VENV)
    assert files[f"{SITE}/demo/__init__.py"] == record_hash(wheel.files["demo/__init__.py"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), new=st.binary(min_size=1, max_size=6))
def test_damaged_wheel_gives_our_error_or_the_same_files(place: float, new: bytes, tmp_path: Path) -> None:
    """Whatever byte is changed, a wheel is installed as it was or refused in one line."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    sound = {name: entry.content for name, entry in read(wheel_entries(path, VENV)).items()}
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + len(new)] = new
    path.write_bytes(data)
    try:
        found = read(wheel_entries(path, VENV, warn=lambda _line: None))
    except WheelError as error:
        assert "\n" not in str(error)
    else:
        assert {name: entry.content for name, entry in found.items()} == sound


def rewritten(data: bytes, old: bytes, new: bytes, times: int = 1) -> bytes:
    assert old in data
    return data.replace(old, new, times)


def local_size(data: bytes) -> bytes:
    """The first local header promises another size than the archive's directory."""
    return data[:22] + struct.pack("<I", 9) + data[26:]


def overlapping(data: bytes) -> bytes:
    """The directory's second entry leads to where the first one is."""
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 4)
    return data[: second + 42] + data[first + 42 : first + 46] + data[second + 46 :]


def two_ends(data: bytes) -> bytes:
    """The comment holds another end of the directory: of an empty archive."""
    end = data.rindex(b"PK\5\6")
    other = b"PK\5\6" + bytes(18)
    return data[: end + 20] + struct.pack("<H", len(other)) + other


def unicode_path(data: bytes) -> bytes:
    """An extra field of the first entry says another path (APPNOTE 4.6.9)."""
    first, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    name = b"demo/evil.py"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(b"demo/__init__.py")) + name
    length = struct.unpack_from("<H", data, first + 28)[0]
    grown = data[: first + 30] + struct.pack("<H", len(extra)) + data[first + 32 : first + 46 + length] + extra
    tail = bytearray(data[end:])
    struct.pack_into("<I", tail, 12, struct.unpack_from("<I", tail, 12)[0] + len(extra))
    return grown + data[first + 46 + length : end] + bytes(tail)


# Archives that readers of zip understand differently, as uv's tests have them.
AMBIGUOUS: dict[str, Callable[[bytes], bytes]] = {
    "another name in the local header": lambda data: rewritten(data, b"demo/__init__.py", b"demo/__evil__.py"),
    "another name in the directory": lambda data: data[::-1].replace(
        b"demo/__init__.py"[::-1], b"demo/__evil__.py"[::-1], 1)[::-1],
    "another size in the local header": local_size,
    "entries that overlap": overlapping,
    "something before it": lambda data: b"#!/bin/sh\nexit 1\n" + data,
    "something after it": lambda data: data + b"PK\3\4 and more",
    "two ends": two_ends,
    "two archives": lambda data: data + data,
    "another path in an extra field": unicode_path,
    "no end": lambda data: data[:-22],
    "a disk of several": lambda data: data[:-18] + b"\1\0\1\0" + data[-14:],
    "more entries than there are": lambda data: data[:-14] + b"\x09\0\x09\0" + data[-10:],
    "fewer entries than there are": lambda data: data[:-14] + b"\1\0\1\0" + data[-10:],
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_an_archive_that_can_be_read_in_two_ways(case: str, tmp_path: Path) -> None:
    """The wheel is refused in one line, or every reader reads the same wheel."""
    path = Wheel().write(tmp_path / "demo-1.0-py3-none-any.whl")
    sound = {name: entry.content for name, entry in read(wheel_entries(path, VENV)).items()}
    path.write_bytes(AMBIGUOUS[case](path.read_bytes()))
    try:
        found = {name: entry.content for name, entry in read(wheel_entries(path, VENV)).items()}
    except WheelError as error:
        assert "\n" not in str(error)
        assert "demo-1.0-py3-none-any.whl" in str(error)
    else:
        assert found == sound


@pytest.mark.parametrize("refuse", [
    lambda name: check_prebuilt(Path(name), AMD64), lambda name: check_fits(name, AMD64),
    lambda name: check_fits(f"{name}.zip", AMD64),
])  # fmt: skip
def test_a_name_of_two_lines_splits_no_error(refuse: Callable[[str], None]) -> None:
    """A forged line could be taken for one of ours."""
    name = "demo\nhatch-docker: all is well-1.0-py3-none-win32.whl"
    with pytest.raises(WheelError) as caught:
        refuse(name)
    for error in (caught.value, wheel_error(name, "why")):
        assert len(str(error).splitlines()) == 1
        assert r"demo\nhatch-docker" in str(error)
