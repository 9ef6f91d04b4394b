"""The library search of the dynamic loader (glibc's ld.so(8), or musl's), simulated on the files of an image.

Each layer is read once. The cache keeps this of each layer, by diff-id:

    names    files that may be shared libraries (".so" in the name)
    links    symbolic links
    texts    configuration of the loader: etc/ld.so.conf, etc/ld.so.conf.d/*.conf, musl's etc/ld-musl-*.path
    code     ELF programs and shared libraries; of layers of the base, only Python
    programs files in directories of programs, such as usr/bin
    scripts  first lines of scripts, without #!; not of layers of the base
    gone     paths that the layer removes (whiteouts)

A library that a file needs (DT_NEEDED) is searched in the file's RPATH or RUNPATH, in the image's LD_LIBRARY_PATH, and
in the directories of the loader's configuration. A library that any wheel has in another directory is no error: a
package may load it first, and the loader does not search for a library that is already loaded.
"""

import contextlib
import csv
import hashlib
import posixpath
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from hatch_docker.bases.model import real_path
from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.elf import MAGIC, Elf, read_elf
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.validation import read_record
from hatch_docker.oci.layer import Entry, LayerReader
from hatch_docker.oci.model import Layer
from hatch_docker.wheels.install.archive import record_rows

RECIPE = 2                # part of the cache key: increase it if the result for a layer changes
KIND = "native-files"
IN_MEMORY = 8 << 20       # bytes; larger ELF files are copied to a temporary file
TEXT_LIMIT = 1 << 20      # bytes that are read of a configuration file
CHUNK = 1 << 20
_TEXT = re.compile(r"etc/ld\.so\.conf(\.d/[^/]+\.conf)?|etc/ld-musl-[^/]+\.path")
_PYTHON = re.compile(r"(?:.*/)?bin/python3\.\d{1,2}t?d?")
_PROGRAM = re.compile(r"(?:usr/(?:local/)?|opt/venv/)?s?bin/[^/]+")
_LINE = 200                # bytes of a script's first line
_RECORD = re.compile(r"(?P<site>.*)/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/RECORD")
TRIPLETS = {
    "386": "i386-linux-gnu", "amd64": "x86_64-linux-gnu", "arm": "arm-linux-gnueabihf", "arm64": "aarch64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu", "riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
    "loong64": "loongarch64-linux-gnu",
}  # fmt: skip
# Drivers of the host; the container engine adds them when the container starts.
_DRIVERS = re.compile(r"lib(cuda|cudadebugger|nvidia-.+|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia)\.so(\..*)?")
_MUSL_OWN = re.compile(r"lib(c|dl|m|pthread|rt|util|xnet)\..*")  # parts of musl's loader itself


@dataclass(frozen=True, slots=True)
class ElfFile:
    """A program or shared library in an image. `layer`: the index of its layer."""

    path: str
    elf: Elf
    size: int
    sha256: str                               # hexadecimal
    owner: str                                # the wheel, as "numpy 2.4.0"; "" if the file is of no wheel
    layer: int = 0


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Files of an image after all layers are applied (the fields are described at the top of this module)."""

    names: frozenset[str]
    links: Mapping[str, str]
    texts: Mapping[str, str]
    code: tuple[ElfFile, ...]
    programs: frozenset[str] = frozenset()
    scripts: Mapping[str, str] = field(default_factory=dict)


def read_files(layers: Sequence[Layer], base: int, ctx: Context) -> ImageFiles:
    """Read the files of an image. `base`: the number of layers of its base, which come first."""
    names: dict[str, None] = {}
    links: dict[str, str] = {}
    texts: dict[str, str] = {}
    code: dict[str, ElfFile] = {}
    programs: dict[str, None] = {}
    scripts: dict[str, str] = {}
    for number, layer in enumerate(layers):
        found = NativeReader(ctx.store, layer, whole=number >= base).result()
        for path, below in found["gone"]:
            for table in (names, links, texts, code, programs, scripts):
                for other in list(table):  # "" is the root (layer.md)
                    if (other == path and not below) or other.startswith(f"{path}/") or not path:
                        del table[other]
        for path in found["names"]:
            links.pop(path, None)
        for path in found["links"]:
            names.pop(path, None)
        names |= dict.fromkeys(found["names"])
        links |= found["links"]
        texts |= found["texts"]
        programs |= dict.fromkeys(found["programs"])
        scripts |= found["scripts"]
        code |= {
            path: ElfFile(path, read_record(Elf, row["elf"]), row["size"], row["sha256"], row["owner"], number)
            for path, row in found["code"].items()
        }  # fmt: skip
    ordered = tuple(code[path] for path in sorted(code))
    return ImageFiles(frozenset(names), links, texts, ordered, frozenset(programs), scripts)


class NativeReader(LayerReader):
    """Reader of one layer. `whole`: also read ELF files other than Python, and scripts (for layers above the base)."""

    def __init__(self, store: Store, layer: Layer, *, whole: bool = False) -> None:
        super().__init__(store, layer, KIND, key_of(RECIPE, layer.diff_id, whole))
        self._whole = whole
        self._found: dict[str, Any] = {"names": [], "links": {}, "texts": {}, "code": {}, "gone": []}
        self._found |= {"programs": [], "scripts": {}}
        self._records: list[tuple[str, str, bytes]] = []  # of each wheel: title, site-packages directory, RECORD

    def read_entry(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Record an entry of the layer, if the loader uses it."""
        path, found = entry.path, self._found
        if entry.kind in ("whiteout", "opaque"):
            found["gone"].append([path, entry.kind == "opaque"])
        elif entry.kind == "symlink" and not path.startswith("usr/share/"):
            found["links"][path] = entry.target
        if entry.kind in ("file", "hardlink") and ".so" in path.rpartition("/")[2]:
            found["names"].append(path)
        if entry.kind in ("file", "hardlink", "symlink") and _PROGRAM.fullmatch(path):
            found["programs"].append(path)
        if stream is not None:
            self._see_content(entry, stream)

    def _see_content(self, entry: Entry, stream: BinaryIO) -> None:
        path, found = entry.path, self._found
        if _TEXT.fullmatch(path):
            found["texts"][path] = stream.read(TEXT_LIMIT).decode(errors="replace")
        elif self._whole and (match := _RECORD.fullmatch(path)):
            title = f"{match['name'].replace('_', '-')} {match['version']}"
            self._records.append((title, match["site"], stream.read().decode(errors="replace").encode()))
        elif self._whole or _PYTHON.fullmatch(path):
            start = stream.read(len(MAGIC))
            if read := _read_elf(entry, start, stream):
                found["code"][path] = read
            elif start[:2] == b"#!" and entry.mode & 0o111 and "/site-packages/" not in path:
                line = (start + stream.read(_LINE)).partition(b"\n")[0]
                found["scripts"][path] = line[2:].decode(errors="replace").strip()

    def fact(self) -> dict[str, Any]:
        """Return the result for the layer, as JSON. The owners of ELF files are read from the wheels' RECORD files."""
        code: dict[str, dict[str, Any]] = self._found["code"]
        for read in code.values():
            read["owner"] = ""
        for title, site, data in self._records if code else ():
            with contextlib.suppress(csv.Error):
                for path in (posixpath.normpath(f"{site}/{row[0]}") for row in record_rows(data) if row):
                    if path in code:
                        code[path]["owner"] = title
        return self._found


def _read_elf(entry: Entry, piece: bytes, stream: BinaryIO) -> dict[str, Any] | None:
    """Read an ELF file whose first bytes, `piece`, were already read; return None if it is no ELF file."""
    if piece != MAGIC:
        return None
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        while piece:
            digest.update(piece)
            file.write(piece)
            piece = stream.read(CHUNK)
        file.seek(0)
        elf = read_elf(file)
    return {"elf": asdict(elf), "size": entry.size, "sha256": digest.hexdigest()} if elf else None


@dataclass(frozen=True, slots=True)
class MissingLibrary:
    """A library that the file at `path` needs and the loader does not find. `owner`: the wheel of that file, or "".

    `apart`: the path of the library, if the same wheel has it in a directory that the loader does not search, or "".
    """

    library: str
    path: str
    owner: str
    layer: int
    apart: str = ""


@dataclass(frozen=True, slots=True)
class Loader:
    """The dynamic loader of an image: the directories that it searches, and the files of the image."""

    files: ImageFiles
    musl: bool
    system: tuple[str, ...]                   # LD_LIBRARY_PATH, the configured directories, the default directories
    inherited: tuple[str, ...] = ()           # the RPATH of Python, which also applies to the libraries that it loads
    known: dict[str, bool] = field(default_factory=dict)  # results of `has`

    def has(self, path: str) -> bool:
        """Return whether the path is a file that may be a library, or a link to such a file."""
        if path not in self.known:
            self.known[path] = False
            with contextlib.suppress(BaseImageError):  # a cycle of links
                self.known[path] = real_path(self.files.links, path.strip("/")) in self.files.names
        return self.known[path]

    def finds(self, library: str, code: ElfFile) -> bool:
        """Return whether the loader finds a library that a file needs."""
        if "/" in library:
            return self.has(library)
        if self.musl and _MUSL_OWN.fullmatch(library):
            return True
        places = (*search_path(code), *self.system)
        if self.musl or not code.elf.runpath:
            places = (*places, *self.inherited)
        return any(self.has(f"{place}/{library}") for place in places)


def search_path(code: ElfFile) -> list[str]:
    """Return the directories of a file's RUNPATH, or RPATH if it has no RUNPATH, with $ORIGIN and $LIB expanded."""
    elf = code.elf
    origin = "/" + posixpath.dirname(code.path)
    found = []
    for place in (elf.runpath or elf.rpath).split(":"):
        place = re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, place)
        place = re.sub(r"\$(LIB\b|\{LIB\})", f"lib/{TRIPLETS.get(elf.machine, '')}", place)
        if place.startswith("/"):
            found.append(posixpath.normpath(place))
    return found


def make_loader(files: ImageFiles, architecture: str, *, musl: bool, variable: str, interpreter: str) -> Loader:
    """Return the loader of an image. `variable`: its LD_LIBRARY_PATH. `interpreter`: the path of its Python."""
    configured = [place for place in variable.split(":") if place.startswith("/")]
    if musl:
        named = [text for path, text in sorted(files.texts.items()) if path.startswith("etc/ld-musl-")]
        configured += re.split(r"[:\n]", named[0]) if named else ["/lib", "/usr/local/lib", "/usr/lib"]
    else:
        for path, text in sorted(files.texts.items()):
            lines = (line.partition("#")[0].strip() for line in text.splitlines())
            configured += [line for line in lines if line.startswith("/") and path.startswith("etc/ld.so.conf")]
        triplet = TRIPLETS.get(architecture, architecture)
        configured += ["/lib64", "/usr/lib64", f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib", "/usr/lib"]
    python = [file for file in files.code if file.path == interpreter.strip("/")]
    inherited = [place for file in python if musl or file.elf.rpath for place in search_path(file)]
    system = tuple(dict.fromkeys(place.rstrip("/") for place in configured if place))
    return Loader(files, musl, system, tuple(inherited))


def find_missing(loader: Loader, architecture: str, base: int) -> list[MissingLibrary]:
    """Return the libraries that the loader does not find for files above the first `base` layers, sorted.

    ELF files for other architectures are data and are not checked.
    """
    own = [file for file in loader.files.code if file.layer >= base and file.elf.machine == architecture]
    included: dict[str, ElfFile] = {}  # shared libraries of wheels, by soname and by file name
    for file in own:
        for name in (file.elf.soname, posixpath.basename(file.path)):
            if name and file.elf.shared:
                included.setdefault(name, file)
    missing = []
    for file in own:
        wanted = [*file.elf.needed, *([file.elf.interpreter] if file.elf.interpreter else [])]
        for library in dict.fromkeys(wanted):
            if loader.finds(library, file) or _DRIVERS.fullmatch(library):
                continue
            other = included.get(library)
            if other is None or other.elf.bits != file.elf.bits:
                missing.append(MissingLibrary(library, file.path, file.owner, file.layer))
            elif other.owner == file.owner:
                # If the search path of any file in the wheel has the library's directory, that file may load it first.
                place = "/" + posixpath.dirname(other.path)
                if not any(place in search_path(code) for code in own if code.owner == other.owner):
                    missing.append(MissingLibrary(library, file.path, file.owner, file.layer, other.path))
    return sorted(missing, key=lambda need: (need.library, need.path))
