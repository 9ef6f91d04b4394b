"""Reader of ELF files: the machine they are for, their own name as a library, the libraries that they need.

Reads what the dynamic loader reads of a program or shared library (gabi, "Dynamic Linking"): program headers and the
dynamic section. All reads are bounded: the files are not trusted, and may point anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import IO

MACHINES: Mapping[int, str] = MappingProxyType({  # e_machine -> GOARCH
    3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64",
})  # fmt: skip
MAGIC = b"\x7fELF"
_DYNAMIC_LIMIT = 1 << 16  # bytes of a dynamic section that are read
_SEGMENTS = 512
_LONGEST = 1024           # bytes of a name
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29


@dataclass(frozen=True, slots=True)
class Elf:
    """A program or shared library. `machine` is a GOARCH name, "" for an unknown one; `bits` is 32 or 64.

    `rpath` and `runpath` are as written, `interpreter` is the path of the loader that a program names.
    """

    machine: str
    bits: int
    little: bool
    shared: bool
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: str = ""
    interpreter: str = ""


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(stream: IO[bytes]) -> Elf | None:
    """Read a seekable stream; return None if it is not a program or library that a loader accepts.

    Names that point outside of the file are left out.
    """
    header = stream.read(64)
    if len(header) < 52 or header[:4] != MAGIC or header[4] not in (1, 2) or header[5] not in (1, 2):
        return None
    wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
    kind, number = struct.unpack_from(f"{order}HH", header, 16)
    if kind not in (_EXECUTABLE, _SHARED) or (wide and len(header) < 64):
        return None
    bare = Elf(MACHINES.get(number, ""), 64 if wide else 32, order == "<", kind == _SHARED)
    try:
        segments = list(_segments(stream, header, order, wide=wide))
        values = list(_dynamic(stream, segments, order, wide=wide))
        return replace(_named(bare, stream, segments, values), interpreter=_interpreter(stream, segments))
    except (OSError, ValueError, OverflowError):  # it points to a place that no file has
        return bare


def _segments(stream: IO[bytes], header: bytes, order: str, *, wide: bool) -> Iterator[_Segment]:
    (start,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", header, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", header, 54 if wide else 42)
    if size != (56 if wide else 32) or count > _SEGMENTS:
        return
    stream.seek(start)
    table = stream.read(size * count)
    for place in range(0, len(table) - size + 1, size):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", table, place)
        else:
            kind, offset, address, _, length = struct.unpack_from(f"{order}IIIII", table, place)
        yield _Segment(kind, offset, address, length)


def _dynamic(stream: IO[bytes], segments: list[_Segment], order: str, *, wide: bool) -> Iterator[tuple[int, int]]:
    for segment in segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        stream.seek(segment.offset)
        data = stream.read(min(segment.size, _DYNAMIC_LIMIT))
        entry = struct.Struct(f"{order}QQ" if wide else f"{order}II")
        for tag, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
            if tag == _DT_NULL:
                return
            yield tag, value


def _named(bare: Elf, stream: IO[bytes], segments: list[_Segment], values: list[tuple[int, int]]) -> Elf:
    """Return the file with the names in its dynamic section."""
    table = next((value for tag, value in values if tag == _DT_STRTAB), None)
    if table is None:
        return bare
    found: dict[int, list[str]] = {}
    for tag, value in values:
        if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
            found.setdefault(tag, []).append(_text(stream, segments, table + value))
    first = {tag: names[0] for tag, names in found.items()}
    return replace(
        bare, soname=first.get(_DT_SONAME, ""), needed=tuple(name for name in found.get(_DT_NEEDED, ()) if name),
        rpath=first.get(_DT_RPATH, ""), runpath=first.get(_DT_RUNPATH, ""),
    )


def _text(stream: IO[bytes], segments: list[_Segment], address: int) -> str:
    """Return the string at an address of the loaded file."""
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            stream.seek(segment.offset + address - segment.address)
            return stream.read(_LONGEST).partition(b"\0")[0].decode(errors="replace")
    return ""


def _interpreter(stream: IO[bytes], segments: list[_Segment]) -> str:
    for segment in segments:
        if segment.kind == _PT_INTERP:
            stream.seek(segment.offset)
            return stream.read(min(segment.size, _LONGEST)).partition(b"\0")[0].decode(errors="replace")
    return ""
