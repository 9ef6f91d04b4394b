"""ldconfig(8): the shared libraries of a root, and the cache in which the dynamic loader finds them.

The root's own ldconfig runs on its own architecture only. The format is glibc's, sysdeps/generic/dl-cache.h:
"glibc-ld.so.cache1.1", without hardware capabilities.
"""

import contextlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hatch_docker.bases.debian.rootfs import MERGED
from hatch_docker.bases.model import follow_links
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import BaseImageError
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import open_content

MAGIC = b"glibc-ld.so.cache1.1"
DEFAULT_DIRECTORIES = ("usr/lib",)  # the loader's own, after those of ld.so.conf
_LIBC6 = 3
# The flags of an entry, which ldconfig -p prints as "libc6,x86-64" and "libc6,AArch64"
_FLAGS = {"amd64": 0x0300 | _LIBC6, "arm64": 0x0A00 | _LIBC6}
_NAME = re.compile(r"(lib.*|ld-.*)\.so(\..*)?")
_LITTLE_ENDIAN = 2


@dataclass(frozen=True, slots=True, order=True)
class Library:
    """A shared library: the name in programs that need it, its path relative to the root, the flags of its entry."""

    soname: str
    path: str
    flags: int


def conf_directories(files: Mapping[str, bytes]) -> list[str]:
    """Return the directories in `etc/ld.so.conf` and `etc/ld.so.conf.d/*.conf`, usr-merged, in their order."""
    found: list[str] = []
    for path in ("etc/ld.so.conf", *sorted(path for path in files if path.startswith("etc/ld.so.conf.d/"))):
        for line in files.get(path, b"").decode(errors="replace").splitlines():
            name = line.partition("#")[0].strip()
            if name.startswith("/"):
                name = name.strip("/")
                found.append(f"usr/{name}" if name.startswith("lib") else name)
    return list(dict.fromkeys((*found, *DEFAULT_DIRECTORIES)))


def find_libraries(entries: Mapping[str, Entry], directories: Iterable[str]) -> list[Library]:
    """Return the libraries among a tree's entries that are in one of `directories`, the first of each soname."""
    found: dict[str, Library] = {}
    for directory in directories:
        prefix = directory + "/"
        for path in sorted(path for path in entries if path.startswith(prefix)):
            name = path[len(prefix) :]
            if "/" in name or not _NAME.fullmatch(name):
                continue
            file = _followed(entries, path)
            if file is None:
                continue
            with open_content(file.content) as stream:
                elf = read_elf(stream)
            # Not a shared library for a known machine: a linker script, for example.
            if elf is None or elf.machine not in _FLAGS or (elf.bits, elf.little, elf.shared) != (64, True, True):
                continue
            soname = elf.soname or name
            # The loader looks for the soname: a link of that name if there is one, else the file itself.
            if soname == name or (entries[path].kind == "file" and prefix + soname not in entries):
                found.setdefault(soname, Library(soname, path, _FLAGS[elf.machine]))
    return sorted(found.values())


def _followed(entries: Mapping[str, Entry], path: str) -> Entry | None:
    """Return the file that a path leads to, or None; the entries may lack the links of a merged /usr."""

    def readlink(place: str) -> str | None:
        entry = entries.get(place)
        if entry is not None and entry.kind in ("symlink", "hardlink"):
            return entry.target if entry.kind == "symlink" else f"/{entry.target}"
        return f"usr/{place}" if place in MERGED else None

    with contextlib.suppress(BaseImageError):  # a loop of links
        entry = entries.get(follow_links(path, readlink))
        return entry if entry is not None and entry.kind == "file" else None
    return None


def write_cache(libraries: Iterable[Library]) -> bytes:
    """Return the bytes of etc/ld.so.cache for some libraries."""
    ordered = sorted(libraries, key=lambda item: (_sort_key(item.soname), item.flags, item.path), reverse=True)
    strings = bytearray()
    start = 48 + 24 * len(ordered)
    places: dict[bytes, int] = {}

    def place(text: str) -> int:
        data = text.encode() + b"\0"
        if data not in places:
            places[data] = start + len(strings)
            strings.extend(data)
        return places[data]

    rows = bytearray()
    for item in ordered:  # Debian's ldconfig writes lib/... for usr/lib/..., because ld.so.conf names /lib first
        path = item.path.removeprefix("usr/") if item.path.startswith("usr/lib/") else item.path
        rows += struct.pack("<iIIIQ", item.flags, place(item.soname), place(f"/{path}"), 0, 0)
    header = MAGIC + struct.pack("<IIB3xI12x", len(ordered), len(strings), _LITTLE_ENDIAN, 0)
    return header + rows + bytes(strings)


def _sort_key(name: str) -> tuple[tuple[int, int], ...]:
    """Return a key for the order of glibc's _dl_cache_libcmp: numbers by value and after everything else."""
    parts = re.findall(r"([0-9]+)|([^0-9])", name)
    return tuple((1, int(number)) if number else (0, ord(other)) for number, other in parts)
