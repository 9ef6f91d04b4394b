"""The search of the dynamic loader, glibc's (ld.so(8)) or musl's, in the files of an image.

A library that a file needs (DT_NEEDED) is searched in the file's RPATH or RUNPATH, in the image's LD_LIBRARY_PATH, and
in the directories of the loader's configuration. A library that a wheel has somewhere else is not an error: packages
may load it first, and the loader does not search for a library that is loaded already.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hatch_docker.bases.model import real_path
from hatch_docker.build.checks.elf_files import ElfFile, ImageFiles
from hatch_docker.core.errors import BaseImageError

TRIPLETS = {
    "386": "i386-linux-gnu", "amd64": "x86_64-linux-gnu", "arm": "arm-linux-gnueabihf", "arm64": "aarch64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu", "riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
    "loong64": "loongarch64-linux-gnu",
}  # fmt: skip
# Drivers of the machine that a container runs on; the container engine adds them when it starts.
_DRIVERS = re.compile(r"lib(cuda|cudadebugger|nvidia-.+|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia)\.so(\..*)?")
_MUSL_OWN = re.compile(r"lib(c|dl|m|pthread|rt|util|xnet)\..*")  # musl is all of them


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
            try:
                self.known[path] = real_path(self.files.links, path.strip("/")) in self.files.names
            except BaseImageError:  # a loop of links
                self.known[path] = False
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
    included = _libraries(own)
    missing = []
    for file in own:
        wanted = [*file.elf.needed, *([file.elf.interpreter] if file.elf.interpreter else [])]
        for library in dict.fromkeys(wanted):
            if loader.finds(library, file) or _DRIVERS.fullmatch(library):
                continue
            other = included.get(library)
            if other is None or other.elf.bits != file.elf.bits:
                missing.append(MissingLibrary(library, file.path, file.owner, file.layer))
            elif other.owner == file.owner and not _is_named(other, own):
                missing.append(MissingLibrary(library, file.path, file.owner, file.layer, other.path))
    return sorted(missing, key=lambda need: (need.library, need.path))


def _is_named(library: ElfFile, code: Sequence[ElfFile]) -> bool:
    """Return whether a file of the same wheel has a library's directory in its path: it may load the library first."""
    place = "/" + posixpath.dirname(library.path)
    return any(place in search_path(file) for file in code if file.owner == library.owner)


def _libraries(code: Sequence[ElfFile]) -> Mapping[str, ElfFile]:
    """Return the shared libraries of wheels, by soname and by file name."""
    found: dict[str, ElfFile] = {}
    for file in code:
        for name in (file.elf.soname, posixpath.basename(file.path)):
            if name and file.elf.shared:
                found.setdefault(name, file)
    return found
