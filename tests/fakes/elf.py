"""Generated ELF files with a header and a dynamic section, but without code."""

import struct
from collections.abc import Sequence

STRINGS, DYNAMIC = 0x200, 0x1000


def make_elf(
    soname: str = "", needed: Sequence[str] = (), *, rpath: str = "", runpath: str = "", interpreter: str = "",
    machine: int = 62, bits: int = 64, order: str = "<", kind: int = 3, rest: bytes = b"",
) -> bytes:
    """Return a shared library, or with `kind` 2 a program. `rest`: bytes at its end."""
    wide = bits == 64
    strings = bytearray(b"\0")

    def place(text: str) -> int:
        start = len(strings)
        strings.extend(text.encode() + b"\0")
        return start

    tags = [(1, place(name)) for name in needed]
    tags += [(tag, place(text)) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text]
    tags += [(5, STRINGS), (0, 0)]
    loader = place(interpreter)
    dynamic = b"".join(struct.pack(f"{order}{'QQ' if wide else 'II'}", *tag) for tag in tags)
    total = DYNAMIC + len(dynamic)
    segments = [(1, 0, total), (2, DYNAMIC, len(dynamic))]
    segments += [(3, STRINGS + loader, len(interpreter) + 1)] if interpreter else []
    header = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    size, entry = (64, 56) if wide else (52, 32)
    words = "QQQ" if wide else "III"
    header += struct.pack(f"{order}HHI{words}IHHHHHH", kind, machine, 1, 0, size, 0, 0, size, entry, len(segments), 0,
                          0, 0)  # fmt: skip
    data = bytearray(total)
    table = b"".join(
        struct.pack(f"{order}IIQQQQQQ", kind_of_segment, 4, at, at, at, length, length, 8) if wide
        else struct.pack(f"{order}IIIIIIII", kind_of_segment, at, at, at, length, length, 4, 8)
        for kind_of_segment, at, length in segments
    )
    data[: len(header + table)] = header + table
    data[STRINGS : STRINGS + len(strings)] = strings
    data[DYNAMIC:] = dynamic
    assert len(strings) < DYNAMIC - STRINGS
    return bytes(data) + rest
