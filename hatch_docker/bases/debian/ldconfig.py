"""A replacement of ldconfig(8): finds the shared libraries of a root and writes etc/ld.so.cache.

The ldconfig of the root cannot run on machines with another architecture. The format is "glibc-ld.so.cache1.1" of
glibc (sysdeps/generic/dl-cache.h), without hardware capabilities.
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
DEFAULT_DIRECTORIES = ("usr/lib",)  # searched after the directories in ld.so.conf
_LIBC6 = 3
# The flags of an entry, which ldconfig -p prints as "libc6,x86-64" and "libc6,AArch64"
_FLAGS = {"amd64": 0x0300 | _LIBC6, "arm64": 0x0A00 | _LIBC6}
_NAME = re.compile(r"(lib.*|ld-.*)\.so(\..*)?")
_LITTLE_ENDIAN = 2


@dataclass(frozen=True, slots=True, order=True)
class Library:
    """A shared library: its soname, its path relative to the root, and the flags of its entry in the cache."""

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
    """Return the libraries in `directories`, sorted. For each soname the first directory with it counts."""
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
            # Skip other files, such as linker scripts.
            if elf is None or elf.machine not in _FLAGS or (elf.bits, elf.little, elf.shared) != (64, True, True):
                continue
            soname = elf.soname or name
            # The loader opens the link that is named as the soname; without such a link, the file itself.
            if soname == name or (entries[path].kind == "file" and prefix + soname not in entries):
                found.setdefault(soname, Library(soname, path, _FLAGS[elf.machine]))
    return sorted(found.values())


def _followed(entries: Mapping[str, Entry], path: str) -> Entry | None:
    """Return the file at a path after following links, or None. The links of the merged /usr may be missing."""

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
    """Return the contents of etc/ld.so.cache for some libraries."""
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
    for item in ordered:  # like Debian's ldconfig, write /lib for /usr/lib: ld.so.conf has /lib first
        path = item.path.removeprefix("usr/") if item.path.startswith("usr/lib/") else item.path
        rows += struct.pack("<iIIIQ", item.flags, place(item.soname), place(f"/{path}"), 0, 0)
    header = MAGIC + struct.pack("<IIB3xI12x", len(ordered), len(strings), _LITTLE_ENDIAN, 0)
    return header + rows + bytes(strings)


def _sort_key(name: str) -> tuple[tuple[int, int], ...]:
    """Return a sort key for the order of glibc's _dl_cache_libcmp: numbers by value, and after other characters."""
    parts = re.findall(r"([0-9]+)|([^0-9])", name)
    return tuple((1, int(number)) if number else (0, ord(other)) for number, other in parts)
