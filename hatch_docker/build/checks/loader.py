"""The search of the dynamic loader, glibc's (ld.so(8)) or musl's, in the files of an image.

Each layer is read once, and what the loader uses of it is remembered by its diff-id:

    names    files that may be shared libraries (".so" in the name)
    links    symbolic links
    texts    configuration of the loader: etc/ld.so.conf, etc/ld.so.conf.d/*.conf, musl's etc/ld-musl-*.path
    code     programs and shared libraries; in the base, only its Python
    programs files in the directories of programs
    scripts  first lines of programs that are texts, without #!; none of the base's
    gone     paths that a layer removes

A library that a file needs (DT_NEEDED) is searched in the file's RPATH or RUNPATH, in the image's LD_LIBRARY_PATH, and
in the directories of the loader's configuration. A library that a wheel has somewhere else is not an error: packages
may load it first, and the loader does not search for a library that is loaded already.
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

RECIPE = 2                # raise it if the same layers must be read differently
KIND = "native-files"
AT_HAND = 8 << 20         # bytes of a file that are held in memory; a larger one goes to a disk
TEXT_LIMIT = 1 << 20      # bytes of a text that is read
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
# Drivers of the machine that a container runs on; the container engine adds them when it starts.
_DRIVERS = re.compile(r"lib(cuda|cudadebugger|nvidia-.+|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia)\.so(\..*)?")
_MUSL_OWN = re.compile(r"lib(c|dl|m|pthread|rt|util|xnet)\..*")  # musl is all of them


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
    programs: frozenset[str] = frozenset()
    scripts: Mapping[str, str] = field(default_factory=dict)


def read_files(layers: Sequence[Layer], base: int, ctx: Context) -> ImageFiles:
    """Read the files of an image, whose first `base` layers are those of its base."""
    names: dict[str, None] = {}
    links: dict[str, str] = {}
    texts: dict[str, str] = {}
    code: dict[str, ElfFile] = {}
    programs: dict[str, None] = {}
    scripts: dict[str, str] = {}
    for number, layer in enumerate(layers):
        found = NativeReader(ctx.store, layer, whole=number >= base).remembered()
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
    """The reader of one layer; `whole` if it is none of the base's."""

    def __init__(self, store: Store, layer: Layer, *, whole: bool = False) -> None:
        super().__init__(store, layer, KIND, key_of(RECIPE, layer.diff_id, whole))
        self._whole = whole
        self._found: dict[str, Any] = {"names": [], "links": {}, "texts": {}, "code": {}, "gone": []}
        self._found |= {"programs": [], "scripts": {}}
        self._records: list[tuple[str, str, bytes]] = []  # of each wheel its title, where it is installed, its RECORD

    def see(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Add what the loader uses of an entry."""
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

    def found(self) -> dict[str, Any]:
        """Return what was found in all entries."""
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
    """Read an ELF file that starts with `piece`, through a temporary one if it is large; return None for another."""
    if piece != MAGIC:
        return None
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(AT_HAND) as file:
        while piece:
            digest.update(piece)
            file.write(piece)
            piece = stream.read(CHUNK)
        file.seek(0)
        elf = read_elf(file)
    return {"elf": asdict(elf), "size": entry.size, "sha256": digest.hexdigest()} if elf else None


@dataclass(frozen=True, slots=True)
class MissingLibrary:
    """A library that a file needs and the loader does not find. `path` is the file, `owner` its wheel or "".

    `apart` is the path of the library if the same wheel has it in another directory, else "".
    """

    library: str
    path: str
    owner: str
    layer: int
    apart: str = ""


@dataclass(frozen=True, slots=True)
class Loader:
    """The loader of an image: the directories that it searches, and the files in the image."""

    files: ImageFiles
    musl: bool
    system: tuple[str, ...]                   # directories, from LD_LIBRARY_PATH to the trusted ones
    inherited: tuple[str, ...] = ()           # the interpreter's RPATH, which applies to everything that it loads
    known: dict[str, bool] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        """Return whether there is a file that may be a library, or a link to one."""
        if path not in self.known:
            self.known[path] = False
            with contextlib.suppress(BaseImageError):  # a loop of links
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
    """Return the directories in a file's RUNPATH, or else its RPATH, with $ORIGIN and $LIB filled in."""
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
    """Return the loader of an image; `variable` is its LD_LIBRARY_PATH, `interpreter` the path of its Python."""
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
    """Return the libraries that files above the first `base` layers need and the loader does not find, sorted.

    Files for other machines than the image's are data, and are not checked.
    """
    own = [file for file in loader.files.code if file.layer >= base and file.elf.machine == architecture]
    included: dict[str, ElfFile] = {}  # the shared libraries of wheels, by soname and by file name
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
                # A file of the wheel whose path leads to the library may load it first.
                place = "/" + posixpath.dirname(other.path)
                if not any(place in search_path(code) for code in own if code.owner == other.owner):
                    missing.append(MissingLibrary(library, file.path, file.owner, file.layer, other.path))
    return sorted(missing, key=lambda need: (need.library, need.path))
