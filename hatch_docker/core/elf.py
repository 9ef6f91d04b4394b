"""Reader of ELF files: machine, soname, needed libraries, RPATH and RUNPATH, interpreter.

It reads program headers and the dynamic section, like the dynamic loader (gabi, "Dynamic Linking"). All reads are
bounded, because the files are not trusted and their offsets may be wrong.
"""

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO

MACHINES: Mapping[int, str] = {  # e_machine -> GOARCH
    3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64",
}  # fmt: skip
MAGIC = b"\x7fELF"
_DYNAMIC_LIMIT = 1 << 16  # bytes of a dynamic section that are read
_SEGMENTS = 512
_LONGEST = 1024           # bytes of a name that are read
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_Segment = tuple[int, int, int, int]  # type, offset in the file, address, size in the file
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29


@dataclass(frozen=True, slots=True)
class Elf:
    """A program or shared library. `machine` is a GOARCH name, "" if it is unknown; `bits` is 32 or 64.

    `rpath` and `runpath` are not expanded; `interpreter` is the path of a program's dynamic loader.
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


def read_elf(stream: IO[bytes]) -> Elf | None:
    """Read a seekable stream; return None if it is not an ELF program or shared library.

    Names whose offset is outside of the file are omitted.
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
        names = _dynamic_names(stream, segments, struct.Struct(f"{order}QQ" if wide else f"{order}II"))
        soname, rpath, runpath = (names.get(tag, [""])[0] for tag in (_DT_SONAME, _DT_RPATH, _DT_RUNPATH))
        interpreter = [_text(stream, offset, size) for kind, offset, _, size in segments if kind == _PT_INTERP]
        needed = tuple(filter(None, names.get(_DT_NEEDED, ())))
    except (OSError, ValueError, OverflowError):  # an offset that no file can have
        return bare
    return replace(
        bare, soname=soname, needed=needed, rpath=rpath, runpath=runpath, interpreter="".join(interpreter[:1])
    )


def _segments(stream: IO[bytes], header: bytes, order: str, *, wide: bool) -> Iterator[_Segment]:
    (start,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", header, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", header, 54 if wide else 42)
    if size != (56 if wide else 32) or count > _SEGMENTS:
        return
    stream.seek(start)
    table = stream.read(size * count)
    row_format = f"{order}IIQQQQ16x" if wide else f"{order}IIIII12x"
    for row in struct.iter_unpack(row_format, table[: len(table) // size * size]):
        yield (row[0], row[2], row[3], row[5]) if wide else (row[0], row[1], row[2], row[4])


def _dynamic_names(stream: IO[bytes], segments: list[_Segment], entry: struct.Struct) -> dict[int, list[str]]:
    """Return the strings of the dynamic section by tag."""
    def values() -> Iterator[tuple[int, int]]:
        for kind, offset, _, size in segments:
            if kind == _PT_DYNAMIC:
                stream.seek(offset)
                data = stream.read(min(size, _DYNAMIC_LIMIT))
                yield from entry.iter_unpack(data[: len(data) // entry.size * entry.size])

    found: dict[int, list[str]] = {}
    rows = list(itertools.takewhile(lambda row: row[0] != _DT_NULL, values()))
    for table in [value for tag, value in rows if tag == _DT_STRTAB][:1]:
        for tag, value in rows:
            if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
                places = (
                    offset + table + value - address for kind, offset, address, size in segments
                    if kind == _PT_LOAD and address <= table + value < address + size
                )
                place = next(places, None)
                found.setdefault(tag, []).append("" if place is None else _text(stream, place))
    return found


def _text(stream: IO[bytes], offset: int, size: int = _LONGEST) -> str:
    """Return the string at an offset of the file. It ends at a NUL byte or after `size` bytes."""
    stream.seek(offset)
    return stream.read(min(size, _LONGEST)).partition(b"\0")[0].decode(errors="replace")
