"""The files of an image that its dynamic loader uses. Each layer is read once and remembered by its diff-id.

    names    files that may be shared libraries (".so" in the name)
    links    symbolic links
    texts    configuration of the loader: etc/ld.so.conf, etc/ld.so.conf.d/*.conf, musl's etc/ld-musl-*.path
    code     programs and shared libraries; in the base, only its Python
    gone     paths that a layer removes
"""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.elf import MAGIC, Elf, read_elf
from hatch_docker.core.records import read_record
from hatch_docker.oci.layer import Entry, layer_entries
from hatch_docker.oci.model import Layer

if TYPE_CHECKING:
    from hatch_docker.core.context import Context

RECIPE = 1                # raise it if the same layers must be read differently
KIND = "native-files"
AT_HAND = 8 << 20         # bytes of a file that are held in memory; a larger one goes to a disk
TEXT_LIMIT = 1 << 20      # bytes of a text that is read
CHUNK = 1 << 20
_TEXT = re.compile(r"etc/ld\.so\.conf(\.d/[^/]+\.conf)?|etc/ld-musl-[^/]+\.path")
_PYTHON = re.compile(r"(?:.*/)?bin/python3\.\d{1,2}")
_RECORD = re.compile(r"(?P<site>.*)/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/RECORD")


@dataclass(frozen=True, slots=True)
class ElfFile:
    """A program or shared library: its path, size and hexadecimal sha256, its wheel, and the number of its layer."""

    path: str
    elf: Elf
    size: int
    sha256: str
    owner: str                                # "numpy 2.4.0"; "" for a file of no wheel
    layer: int = 0


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of an image after all layers are applied."""

    names: frozenset[str]
    links: Mapping[str, str]
    texts: Mapping[str, str]
    code: tuple[ElfFile, ...]


def read_files(layers: Sequence[Layer], base: int, ctx: Context) -> ImageFiles:
    """Read the files of an image, whose first `base` layers are those of its base."""
    names: dict[str, None] = {}
    links: dict[str, str] = {}
    texts: dict[str, str] = {}
    code: dict[str, ElfFile] = {}
    for number, layer in enumerate(layers):
        whole = number >= base
        key = key_of(RECIPE, layer.diff_id, whole)
        found = ctx.store.remembered(KIND, key, partial(_read, layer, whole=whole))
        for path, below in found["gone"]:
            for table in (names, links, texts, code):
                for other in [other for other in table if _is_removed(other, path, below=below)]:
                    del table[other]
        for path in found["names"]:
            links.pop(path, None)
        for path in found["links"]:
            names.pop(path, None)
        names |= dict.fromkeys(found["names"])
        links |= found["links"]
        texts |= found["texts"]
        code |= {
            path: ElfFile(path, read_record(Elf, row["elf"]), row["size"], row["sha256"], row["owner"], number)
            for path, row in found["code"].items()
        }  # fmt: skip
    return ImageFiles(frozenset(names), links, texts, tuple(code[path] for path in sorted(code)))


def _is_removed(path: str, removed: str, *, below: bool) -> bool:
    """Return whether the removal of a path, or of all `below` it, removes another path; "" is the root (layer.md)."""
    return (path == removed and not below) or path.startswith(f"{removed}/") or not removed


def _read(layer: Layer, *, whole: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"names": [], "links": {}, "texts": {}, "code": {}, "gone": []}
    owners: dict[str, str] = {}
    for entry, stream in layer_entries(layer):
        path = entry.path
        if entry.kind in ("whiteout", "opaque"):
            found["gone"].append([path, entry.kind == "opaque"])
        elif entry.kind == "symlink" and not path.startswith("usr/share/"):
            found["links"][path] = entry.target
        if entry.kind in ("file", "hardlink") and ".so" in path.rpartition("/")[2]:
            found["names"].append(path)
        if stream is None:
            continue
        if _TEXT.fullmatch(path):
            found["texts"][path] = stream.read(TEXT_LIMIT).decode(errors="replace")
        elif whole and (match := _RECORD.fullmatch(path)):
            owners |= _owned(match, stream)
        elif (whole or _PYTHON.fullmatch(path)) and (read := _read_elf(entry, stream)):
            found["code"][path] = read
    for path, read in found["code"].items():
        read["owner"] = owners.get(path, "")
    return found


def _owned(match: re.Match[str], stream: BinaryIO) -> dict[str, str]:
    """Return the files in the RECORD of a wheel (PEP 376), each with the wheel's name and version."""
    title = f"{match['name'].replace('_', '-')} {match['version']}"
    try:
        rows = csv.reader(io.StringIO(stream.read().decode(errors="replace"), newline=""))
        return {posixpath.normpath(f"{match['site']}/{row[0]}"): title for row in rows if row}
    except csv.Error:
        return {}


def _read_elf(entry: Entry, stream: BinaryIO) -> dict[str, Any] | None:
    """Read an ELF file, through a temporary one if it is large; return None for any other file."""
    start = stream.read(len(MAGIC))
    if start != MAGIC:
        return None
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(AT_HAND) as file:
        piece = start
        while piece:
            digest.update(piece)
            file.write(piece)
            piece = stream.read(CHUNK)
        file.seek(0)
        elf = read_elf(file)
    if elf is None:
        return None
    return {"elf": asdict(elf), "size": entry.size, "sha256": digest.hexdigest()}
