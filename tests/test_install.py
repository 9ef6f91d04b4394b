"""Wheels into entries: what is installed where, and the wheels that must not be."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import shutil
import stat
import struct
import subprocess
import sys
import sysconfig
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.bases import Interpreter
from hatch_docker.errors import WheelError
from hatch_docker.oci.layer import Compression, Entry, write_layer
from hatch_docker.oci.model import Platform
from hatch_docker.wheels import Target
from hatch_docker.wheels.compile import Compiled
from hatch_docker.wheels.install import (
    SOURCE_DATE,
    VenvTarget,
    bytecode_entries,
    check_fits,
    check_owners,
    parent_entries,
    python_sources,
    venv_entries,
    wheel_entries,
    wheel_files,
)

VENV = VenvTarget(Interpreter("/usr/bin/python3.13", "3.13.5"))
SITE = "opt/venv/lib/python3.13/site-packages"
INFO = "demo-1.0.dist-info"


@dataclass
class Wheel:
    """A wheel to be written, sound unless a test spoils it."""

    files: dict[str, bytes] = field(default_factory=lambda: {"demo/__init__.py": b"name = 'demo'\n"})
    modes: dict[str, int] = field(default_factory=dict)
    scripts: str = ""
    unrecorded: set[str] = field(default_factory=set)
    records: dict[str, str] = field(default_factory=dict)  # path -> the line that RECORD has for it
    metadata: str = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    record: bool = True
    twice: tuple[str, bytes] | None = None

    def write(self, path: Path) -> Path:
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files = {**self.files, f"{INFO}/METADATA": self.metadata.encode(), f"{INFO}/WHEEL": tag.encode()}
        if self.scripts:
            files[f"{INFO}/entry_points.txt"] = self.scripts.encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, data in [*files.items(), *([self.twice] if self.twice else [])]:
                info = zipfile.ZipInfo(name)
                info.external_attr = self.modes.get(name, stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
            if self.record:
                archive.writestr(f"{INFO}/RECORD", self._record(files))
        return path

    def _record(self, files: dict[str, bytes]) -> str:
        out = io.StringIO()
        for name, data in files.items():
            if name in self.records:
                out.write(self.records[name])
            elif name not in self.unrecorded:
                csv.writer(out, lineterminator="\n").writerow([name, _hash(data), len(data)])
        return out.getvalue() + f"{INFO}/RECORD,,\n"


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def install(wheel: Wheel, directory: Path, warn: Callable[[str], object] = print) -> dict[str, Entry]:
    path = wheel.write(directory / "demo-1.0-py3-none-any.whl")
    return read(wheel_entries(path, VENV, warn=warn))


def read(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By their paths, their contents read, as a layer's writer reads them: that is where RECORD is compared."""
    return {entry.path: replace(entry, content=content(entry) if entry.kind == "file" else None) for entry in entries}


def content(entry: Entry) -> bytes:
    if entry.content is None or isinstance(entry.content, bytes):
        return entry.content or b""
    assert callable(entry.content)
    out = io.BytesIO()
    with entry.content() as stream:
        shutil.copyfileobj(stream, out)
    assert entry.size == len(out.getvalue())
    return out.getvalue()


def with_file(name: str, data: bytes = b"x = 1\n", mode: int = 0o644, kind: int = stat.S_IFREG) -> Wheel:
    wheel = Wheel()
    wheel.files[name] = data
    wheel.modes[name] = kind | mode
    return wheel


def mismatched() -> Wheel:
    wheel = Wheel()
    wheel.records["demo/__init__.py"] = f"demo/__init__.py,{_hash(b'name = 2')},14\n"
    return wheel


BAD = {
    "a file differs from its hash": (mismatched(), "demo/__init__.py"),
    "a file has another size": (
        Wheel(records={"demo/__init__.py": f"demo/__init__.py,{_hash(b'x')},3\n"}), "demo/__init__.py"),
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
    "a bomb": (with_file("demo/zeros", bytes(300 << 20)), "unpacks to 3145"),
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
    """D5: what a stranger may put into a wheel never becomes an entry; the message says which wheel and what."""
    wheel, entry = BAD[case]
    with pytest.raises(WheelError) as caught:
        install(wheel, tmp_path)
    assert "demo-1.0-py3-none-any.whl" in str(caught.value)
    assert entry in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "data"), [
    ("demo.pth", b"import demo\n"), ("sitecustomize.py", b"x = 1\n"),
])  # fmt: skip
def test_code_that_runs_at_every_start_is_told(name: str, data: bytes, tmp_path: Path) -> None:
    """D5, the seventeenth: legal and used, but worth a warning."""
    told: list[str] = []
    assert f"{SITE}/{name}" in install(with_file(name, data), tmp_path, told.append)
    assert len(told) == 1
    assert name in told[0]
    assert "demo-1.0-py3-none-any.whl" in told[0]


def test_paths_in_pth_are_not_worth_a_warning(tmp_path: Path) -> None:
    told: list[str] = []
    install(with_file("demo.pth", b"demo/more\n"), tmp_path, told.append)
    assert told == []


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
    wheel.records["demo/large.bin"] = f"demo/large.bin,{_hash(b'other')},{len(data)}\n"
    entries = wheel_entries(wheel.write(path), VENV)
    with pytest.raises(WheelError, match=r"demo-1.0-py3-none-any.whl.*demo/large.bin"):
        write_layer(entries, io.BytesIO(), Compression("none"))


def test_scripts_are_held_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first line is another one in the image."""
    monkeypatch.setattr("hatch_docker.wheels.unpack.SCRIPTS_LIMIT", 1000)
    large = with_file("demo-1.0.data/scripts/large", b"#!python\n" + bytes(1000))
    with pytest.raises(WheelError, match="its scripts have more than"):
        install(large, tmp_path)


def test_another_hash_than_sha256(tmp_path: Path) -> None:
    """RECORD may have sha512; small files have a sha256 in the image's, as they always had."""
    wheel = Wheel()
    digest = base64.urlsafe_b64encode(hashlib.sha512(wheel.files["demo/__init__.py"]).digest()).decode().rstrip("=")
    wheel.records["demo/__init__.py"] = f"demo/__init__.py,sha512={digest},14\n"
    files = wheel_files(install(wheel, tmp_path).values(), VENV)
    assert files[f"{SITE}/demo/__init__.py"] == _hash(wheel.files["demo/__init__.py"])


def test_every_scheme_has_its_place(tmp_path: Path) -> None:
    """The paths of sysconfig's venv scheme, as other installers take them."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo.web:app.main [fast]\n[gui_scripts]\nshow = demo:show\n")
    start = "demo-1.0.data"
    for name in ("data/share/man/man1/demo.1", "purelib/pure.py", "platlib/plat.so", "headers/demo.h",
                 "scripts/tool", "data/lib64/extra"):  # fmt: skip
        wheel.files[f"{start}/{name}"] = b"#!python -u\nprint(1)\n"
    entries = install(wheel, tmp_path)
    files = {path for path, entry in entries.items() if entry.kind == "file"}
    assert {path for path in files if INFO not in path} == {
        f"{SITE}/demo/__init__.py", f"{SITE}/pure.py", f"{SITE}/plat.so", "opt/venv/share/man/man1/demo.1",
        "opt/venv/include/site/python3.13/demo/demo.h", "opt/venv/bin/tool", "opt/venv/bin/serve",
        "opt/venv/bin/show", "opt/venv/lib/extra",
    }  # fmt: skip
    assert entries["opt/venv/bin/tool"].content == b"#!/opt/venv/bin/python\nprint(1)\n"
    assert entries["opt/venv/bin/tool"].mode == 0o755
    assert entries[f"{SITE}/pure.py"].content == b"#!python -u\nprint(1)\n"
    assert entries[f"{SITE}/pure.py"].mode == 0o644
    assert entries["opt/venv/bin/serve"].content == (
        b'#!/opt/venv/bin/python\nimport sys\nfrom demo.web import app\n'
        b'if __name__ == "__main__":\n    sys.exit(app.main())\n'
    )


def test_record_is_sorted_and_speaks_of_what_was_installed(tmp_path: Path) -> None:
    """RECORD names every file with its hash (PEP 376), in an order that does not depend on the archive's."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    wheel.files["demo/a,b.txt"] = b"comma"
    wheel.records["demo/__init__.py"] = f"./demo/__init__.py,{_hash(wheel.files['demo/__init__.py'])},14\n"
    entries = install(wheel, tmp_path)
    record = entries[f"{SITE}/{INFO}/RECORD"].content
    assert isinstance(record, bytes)
    rows = list(csv.reader(io.StringIO(record.decode())))
    assert [row[0] for row in rows] == [
        "../../../bin/serve", f"{INFO}/INSTALLER", f"{INFO}/METADATA", f"{INFO}/WHEEL",
        f"{INFO}/entry_points.txt", "demo/__init__.py", "demo/a,b.txt", f"{INFO}/RECORD",
    ]  # fmt: skip
    files = wheel_files(entries.values(), VENV)
    assert set(files) == {path for path, entry in entries.items() if entry.kind == "file"}
    for path, digest in files.items():
        content = entries[path].content
        assert isinstance(content, bytes)
        assert digest in ("", _hash(content))
    assert entries[f"{SITE}/{INFO}/INSTALLER"].content == b"hatch-docker\n"


def test_traces_of_other_installations_are_left_out(tmp_path: Path) -> None:
    """A wheel made out of an installed package speaks of that one; compiled files come from nobody knows where."""
    wheel = Wheel()
    for name in ("INSTALLER", "REQUESTED", "direct_url.json"):
        wheel.files[f"{INFO}/{name}"] = b"file:///home/someone"
    wheel.files["demo/__pycache__/demo.cpython-313.pyc"] = b"?"
    entries = install(wheel, tmp_path)
    assert entries[f"{SITE}/{INFO}/INSTALLER"].content == b"hatch-docker\n"
    assert not [path for path in entries if "direct_url" in path or "REQUESTED" in path or "pycache" in path]


def test_entries_are_the_same_whoever_made_them(tmp_path: Path) -> None:
    """No time, mode or order of the archive's gets into a layer; nothing above the environment is written."""
    first, second = Wheel(), Wheel(modes={"demo/__init__.py": stat.S_IFREG | 0o600})
    second.files = {"demo/b.py": b"b", **second.files}
    first.files["demo/b.py"] = b"b"
    (tmp_path / "other").mkdir()
    entries, others = install(first, tmp_path), install(second, tmp_path / "other")
    layers = [io.BytesIO(), io.BytesIO()]
    for out, some in zip(layers, (entries, others), strict=True):
        write_layer(some.values(), out, Compression("gzip"))
    assert layers[0].getvalue() == layers[1].getvalue()
    assert {entry.mtime for entry in entries.values()} == {SOURCE_DATE}
    assert {entry.mode for entry in entries.values()} == {0o644, 0o755}
    assert min(entries) == "opt/venv"


def test_name_of_the_wheel_may_come_apart_from_the_file(tmp_path: Path) -> None:
    """In the store a wheel is called by its digest."""
    path = Wheel().write(tmp_path / "0123abc")
    assert wheel_entries(path, VENV, filename="demo-1.0-py3-none-any.whl")
    with pytest.raises(WheelError, match="wheel 0123abc cannot"):
        wheel_entries(path, VENV)


def test_environment_is_what_python_takes_for_one() -> None:
    """pyvenv.cfg and links as `python -m venv` makes them, with the interpreter of the base."""
    entries = {entry.path: entry for entry in venv_entries(VENV)}
    assert entries["opt/venv/bin/python"].target == "/usr/bin/python3.13"
    assert entries["opt/venv/bin/python3"].target == "python"
    assert entries["opt/venv/bin/python3.13"].target == "python"
    settings_ = entries["opt/venv/pyvenv.cfg"].content
    assert isinstance(settings_, bytes)
    assert b"home = /usr/bin\n" in settings_
    assert entries[SITE].kind == "directory"
    assert "opt" not in entries


def test_parents_are_made_but_those_that_are_there() -> None:
    made = parent_entries(["srv/app/static/x.css", "srv/app/y"], {"srv"})
    assert [(entry.path, entry.kind, entry.mode) for entry in made] == [
        ("srv/app", "directory", 0o755), ("srv/app/static", "directory", 0o755),
    ]  # fmt: skip


def test_two_owners_of_a_path_are_named() -> None:
    """Which of two wheels wins must not be an accident; the same contents twice are no harm."""
    same = {"site/google/__init__.py": "sha256=a"}
    check_owners({"one 1": same, "two 2": {**same, "site/two.py": "sha256=b"}})
    with pytest.raises(WheelError, match=r"one 1 and two 2 both bring /site/x.py"):
        check_owners({"one 1": {"site/x.py": "sha256=a"}, "two 2": {"site/x.py": "sha256=b"}})
    with pytest.raises(WheelError, match=r"/site/x is a file in one 1 and a directory in two 2"):
        check_owners({"one 1": {"site/x": "sha256=a"}, "two 2": {"site/x/y.py": "sha256=b"}})


def test_wheel_for_another_platform_is_refused_with_both_sides() -> None:
    """D6: told before anything is built."""
    target = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.36"))
    check_fits("demo-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", target)
    check_fits("demo-1.0-py3-none-any.whl", target)
    for tags in ("cp312-cp312-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_39_x86_64",
                 "cp313-cp313-manylinux_2_28_aarch64", "cp313-cp313-musllinux_1_2_x86_64"):  # fmt: skip
        with pytest.raises(WheelError, match=rf"demo-1.0-{tags}.whl.*Python 3.13 on linux/amd64 with glibc 2.36"):
            check_fits(f"demo-1.0-{tags}.whl", target)


def test_bytecode_lies_beside_its_source(tmp_path: Path) -> None:
    """One .pyc a module of site-packages, with the directories that hold them; scripts have none."""
    entries = install(with_file("demo-1.0.data/scripts/tool.py"), tmp_path)
    sources = python_sources(entries.values(), VENV)
    assert sources == [(f"{SITE}/demo/__init__.py", b"name = 'demo'\n")]
    compiled = Compiled()
    compiled.add(f"{SITE}/demo/__pycache__/__init__.cpython-313.pyc", b"pyc")
    compiled.add("elsewhere", b"x")
    made = bytecode_entries(entries.values(), compiled, VENV)
    assert [(entry.path, entry.kind) for entry in made] == [
        (f"{SITE}/demo/__pycache__", "directory"),
        (f"{SITE}/demo/__pycache__/__init__.cpython-313.pyc", "file"),
    ]
    assert content(made[1]) == b"pyc"


def test_installed_environment_works(tmp_path: Path) -> None:
    """A Python started in the environment finds the package, its metadata and its script."""
    interpreter = Interpreter(str(Path(sys.executable).resolve()), sysconfig.get_python_version() + ".0")
    venv = VenvTarget(interpreter, str(tmp_path).lstrip("/") + "/venv")
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    wheel.files["demo/__init__.py"] = b"import sys\ndef main():\n    print(sys.prefix)\n"
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    for entry in [*venv_entries(venv), *read(wheel_entries(path, venv)).values()]:
        place = Path("/", entry.path)
        if entry.kind == "directory":
            place.mkdir(exist_ok=True)
        elif entry.kind == "symlink":
            place.symlink_to(entry.target)
        else:
            assert isinstance(entry.content, bytes)
            place.write_bytes(entry.content)
            place.chmod(entry.mode)
    run = [f"/{venv.root}/bin/serve"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == f"/{venv.root}\n"
    code = "import importlib.metadata as m; print(m.version('demo'), all(f.locate().exists() for f in m.files('demo')))"
    run = [venv.python, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "1.0 True\n"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), new=st.binary(min_size=1, max_size=6))
def test_damaged_wheel_gives_our_error_or_the_same_files(place: float, new: bytes, tmp_path: Path) -> None:
    """J: whatever byte is changed, a wheel is installed as it was or refused in one line."""
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
    """D5: refused in one line, or it is the wheel that every reader takes it for."""
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
