"""Removal of symbols and debug information from ELF files. No loaded byte changes.

Standard library only, for Python 3.9: a stage of the Dockerfile runs this file too (`engines.buildkit.stage_install`).
binutils' strip is not used: the bytes must be the same on every machine and for every architecture, and strip breaks
files that patchelf edited (auditwheel edits most wheels). This module does less. It removes the debug sections and the
linker's symbol table (.symtab; the loader's .dynsym stays); before segments only whole pages. The headers of these
sections become empty, so that no index changes (gabi, "Sections"). A file with an unexpected structure is not changed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple, Union

MAGIC = b"\x7fELF"
LEAST = 1024              # bytes that stripping must save
CHUNK = 1 << 20
_DEBUG = (".debug_", ".zdebug_", ".gdb_index", ".stab", ".gnu.debuglto_", ".gnu_debugdata")
_SYMBOLS = (2, 18)        # SHT_SYMTAB, SHT_SYMTAB_SHNDX
_NULL, _NOBITS, _ALLOC, _LOAD, _INTERP = 0, 8, 2, 1, 3
_TYPE, _SEGMENTS, _SECTIONS, _HEADER, _SHSTRNDX = 0, 4, 5, 7, 12  # fields after e_ident
_ALIGN_LIMIT = 1 << 21    # bytes; the largest alignment of segments
_ROWS = 1 << 10           # segments or sections; libraries have about 40, and the time is quadratic
_NAMES = 1 << 16          # bytes of the names of sections
# By e_ident[EI_CLASS]: the ELF header after e_ident, a segment, a section, and the positions of p_type, p_offset,
# p_filesz and p_align in a segment.
_LAYOUTS = {
    1: ("HHIIIIIHHHHHH", "IIIIIIII", "IIIIIIIIII", (0, 1, 4, 7)),
    2: ("HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ", (0, 2, 5, 7)),
}

Piece = Union[bytes, "tuple[int, int]"]
"""A part of a stripped file: new bytes, or offset and length in the old file (in increasing order)."""


class _Cut(NamedTuple):
    """A range of the old file without needed bytes; `size` of its bytes are removed."""

    start: int
    end: int
    size: int


class _Elf:
    """The headers of a file. Raise ValueError or struct.error for unexpected headers."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.ident = stream.read(16)
        if len(self.ident) < 16 or self.ident[:4] != MAGIC or self.ident[4] not in _LAYOUTS:
            raise ValueError("no ELF file")
        order = {1: "<", 2: ">"}.get(self.ident[5], "")
        header, segment, section, self.segment_fields = _LAYOUTS[self.ident[4]]
        self.header, self.segment, self.section = (struct.Struct(order + part) for part in (header, segment, section))
        self.fields = list(self.header.unpack(stream.read(self.header.size)))
        if not order or self.fields[_TYPE] not in (2, 3) or self.fields[_HEADER] != 16 + self.header.size:
            raise ValueError("no program and no shared library")
        self.size = size
        self.segments = self._table(stream, self.segment, self.fields[_SEGMENTS], *self.fields[8:10])
        self.sections = self._table(stream, self.section, self.fields[_SECTIONS], *self.fields[10:12])
        row = self.sections[self.fields[_SHSTRNDX]] if self.fields[_SHSTRNDX] < len(self.sections) else None
        if row is None or row[4] + row[5] > size or row[5] > _NAMES:
            raise ValueError("sections have no names")
        stream.seek(row[4])
        names = stream.read(row[5])
        self.names = [names[row[0]:].partition(b"\0")[0].decode("latin-1") for row in self.sections]

    def _table(self, stream: IO[bytes], row: struct.Struct, start: int, step: int, count: int) -> list[list[int]]:
        if step != row.size or not 0 < count < _ROWS or start + step * count > self.size or start < 16:
            raise ValueError("a table is not as it must be")
        stream.seek(start)
        return [list(row) for row in row.iter_unpack(stream.read(step * count))]

    def segment_values(self, number: int) -> tuple[int, int, int, int]:
        """Return p_type, p_offset, p_filesz and p_align of a segment."""
        kind, offset, size, align = (self.segments[number][field] for field in self.segment_fields)
        return kind, offset, size, max(align, 1)

    def table_range(self, field: int) -> tuple[int, int]:
        """Return start and end of the table of segments or sections."""
        step, count = self.fields[8:10] if field == _SEGMENTS else self.fields[10:12]
        return self.fields[field], self.fields[field] + step * count


def strip_plan(stream: IO[bytes], size: int) -> list[Piece]:
    """Return the parts of the stripped file, from a seekable stream of `size` bytes; [] if the file is not changed."""
    try:
        elf = _Elf(stream, size)
        removed = _removable_sections(elf)
        kept = _kept_ranges(elf, removed)
        end = max(stop for _, stop in kept)
        rest = max(stop for _, stop in [*kept, *_free_ranges(elf, removed)])
        stream.seek(rest)
        if not 0 <= size - rest <= CHUNK or stream.read(size - rest).strip(b"\0"):
            raise ValueError("the file is cut, or something hangs behind it, as in some programs")
        pieces = _pieces(elf, removed, _cuts(elf, removed, kept), end)
    except (ValueError, struct.error, OverflowError):
        return []
    return pieces if size - length(pieces) >= LEAST else []


def length(pieces: list[Piece]) -> int:
    """Return the size of a stripped file in bytes."""
    return sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)


def strip_parts(stream: IO[bytes], pieces: list[Piece]) -> Iterator[bytes]:
    """Yield the stripped file from a stream, which may be not seekable and is read to its end."""
    place = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        start, count = piece
        for remaining, is_output in ((start - place, False), (count, True)):
            while remaining > 0:
                data = stream.read(min(remaining, CHUNK))
                if not data:
                    raise EOFError("a file is shorter than it was")
                remaining -= len(data)
                if is_output:
                    yield data
        place = start + count
    while stream.read(CHUNK):
        pass


def _removable_sections(elf: _Elf) -> set[int]:
    """Return the numbers of the sections that are not needed at run time. Raise ValueError if others refer to them."""
    found: set[int] = set()
    for number, row in enumerate(elf.sections):
        if not row[2] & _ALLOC and number != elf.fields[_SHSTRNDX] and row[1] != _NULL:
            if row[1] in _SYMBOLS:
                found.add(number)
                if row[1] == 2 and 0 < row[6] < len(elf.sections) and not elf.sections[row[6]][2] & _ALLOC:
                    found.add(row[6])  # its names
            elif elf.names[number].startswith(_DEBUG):
                found.add(number)
    found.discard(elf.fields[_SHSTRNDX])
    if any(row[6] in found for number, row in enumerate(elf.sections) if number not in found and row[6]):
        raise ValueError("a section needs one of those")
    return found


def _kept_ranges(elf: _Elf, removed: set[int]) -> list[tuple[int, int]]:
    """Return the ranges of the file that stay."""
    found = [(0, elf.fields[_HEADER]), elf.table_range(_SEGMENTS)]
    for number in range(len(elf.segments)):
        _, offset, size, align = elf.segment_values(number)
        if align & (align - 1) or align > _ALIGN_LIMIT:
            raise ValueError("a strange alignment")
        found.append((offset, offset + size))
    for number, row in enumerate(elf.sections):
        if number not in removed and row[1] not in (_NULL, _NOBITS):
            found.append((row[4], row[4] + row[5]))
    return sorted((start, end) for start, end in found if end > start)


def _free_ranges(elf: _Elf, removed: set[int]) -> list[tuple[int, int]]:
    """Return the ranges that no kept section needs. They include the section header table, which is written again."""
    rows = [elf.sections[number] for number in removed]
    ranges = [(row[4], row[4] + row[5]) for row in rows if row[1] != _NOBITS and row[5]]
    return sorted([*ranges, elf.table_range(_SECTIONS)])


def _cuts(elf: _Elf, removed: set[int], kept: list[tuple[int, int]]) -> list[_Cut]:
    """Return the ranges to remove: before segments only whole pages, so that the segments can still be mapped."""
    holes = _free_ranges(elf, removed)
    for start, end in kept:
        holes = [
            part for hole in holes for part in ((hole[0], min(hole[1], start)), (max(hole[0], end), hole[1]))
            if part[0] < part[1]
        ]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [_Cut(start, end, (end - start) // unit * unit) for start, end in merged if (unit := _unit(elf, end))]


def _unit(elf: _Elf, end: int) -> int:
    """Return the unit in bytes of a removal before the offset `end`; 0 if nothing can be removed."""
    segments = [elf.segment_values(number) for number in range(len(elf.segments))]
    after = [segment for segment in segments if segment[1] >= end and segment[2]]
    if not after and elf.fields[_SEGMENTS] < end:
        return max([row[8] for row in elf.sections if row[4] >= end and 0 < row[8] <= CHUNK], default=1)
    if any(segment[0] == _INTERP for segment in segments):  # kernels expect a program's headers at the same offset
        return 0
    return max([segment[3] for segment in segments if segment[0] == _LOAD], default=0)


def _pieces(elf: _Elf, removed: set[int], cuts: list[_Cut], end: int) -> list[Piece]:
    def new_offset(place: int) -> int:
        return place - sum(cut.size for cut in cuts if cut.end <= place)

    for number, row in enumerate(elf.segments):
        kind, offset, _, _ = elf.segment_values(number)
        if kind == _LOAD and any(cut.start < offset < cut.end for cut in cuts):
            raise ValueError("a segment starts in what is cut out")
        row[elf.segment_fields[1]] = new_offset(offset)
    rows = [
        elf.section.pack(*([0] * 10 if number in removed else [*row[:4], new_offset(row[4]), *row[5:]]))
        for number, row in enumerate(elf.sections)
    ]
    table = elf.table_range(_SEGMENTS)
    stop = new_offset(end)
    fields = list(elf.fields)
    fields[_SEGMENTS], fields[_SECTIONS] = new_offset(table[0]), (stop + 7) // 8 * 8
    new: list[tuple[int, int, bytes]] = [
        (0, fields[_HEADER], elf.ident + elf.header.pack(*fields)),
        (*table, b"".join(elf.segment.pack(*row) for row in elf.segments)),
        *((cut.start, cut.end, bytes(cut.end - cut.start - cut.size)) for cut in cuts if cut.start < end),
    ]
    pieces: list[Piece] = []
    place = 0
    for start, until, data in sorted(new):
        if start < place:
            raise ValueError("headers lie in each other")
        pieces += [(place, start - place), data]
        place = until
    return [*pieces, (place, end - place), bytes(fields[_SECTIONS] - stop), b"".join(rows)]
