"""Which libraries the loader would not find: ld.so(8) and musl's, over the files of an image.

What a file needs by DT_NEEDED is looked for by the file's RPATH or RUNPATH, in the image's LD_LIBRARY_PATH, and in the
directories of the loader's configuration. A library that a wheel of the image brings in another place is no fault:
packages load their libraries in an order of their own, and what is loaded is not searched for.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hatch_docker.bases.model import real_path
from hatch_docker.build.checks.elf_files import Code, Files
from hatch_docker.core.errors import BaseImageError

TRIPLETS = {
    "386": "i386-linux-gnu", "amd64": "x86_64-linux-gnu", "arm": "arm-linux-gnueabihf", "arm64": "aarch64-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu", "riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
    "loong64": "loongarch64-linux-gnu",
}  # fmt: skip
# Come with the machine that a container runs on, put there by whoever starts it.
_DRIVERS = re.compile(r"lib(cuda|cudadebugger|nvidia-.+|nvcuvid|nvoptix|EGL_nvidia|GLX_nvidia)\.so(\..*)?")
_MUSL_OWN = re.compile(r"lib(c|dl|m|pthread|rt|util|xnet)\..*")  # musl is all of them


@dataclass(frozen=True, slots=True)
class Need:
    """A library that a file needs and the loader does not find. `path` is the file, `owner` its wheel, if it has one.

    `apart` is where the same wheel has it, "" where no wheel does.
    """

    library: str
    path: str
    owner: str
    layer: int
    apart: str = ""


@dataclass(frozen=True, slots=True)
class Loader:
    """Where the loader of an image looks for every file, and what is there."""

    files: Files
    musl: bool
    system: tuple[str, ...]                   # directories, from LD_LIBRARY_PATH to the trusted ones
    inherited: tuple[str, ...] = ()           # of the interpreter's RPATH, which holds for all that it loads
    known: dict[str, bool] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        """Whether there is a file that may be a library, or a link that leads to one."""
        if path not in self.known:
            try:
                self.known[path] = real_path(self.files.links, path.strip("/")) in self.files.names
            except BaseImageError:  # a loop of links
                self.known[path] = False
        return self.known[path]

    def finds(self, library: str, code: Code) -> bool:
        """Whether a file is given a library that it needs."""
        if "/" in library:
            return self.has(library)
        if self.musl and _MUSL_OWN.fullmatch(library):
            return True
        places = (*search_path(code), *self.system)
        if self.musl or not code.elf.runpath:
            places = (*places, *self.inherited)
        return any(self.has(f"{place}/{library}") for place in places)


def search_path(code: Code) -> list[str]:
    """The directories that a file itself names, $ORIGIN filled in; RPATH counts where there is no RUNPATH."""
    elf = code.elf
    origin = "/" + posixpath.dirname(code.path)
    found = []
    for place in (elf.runpath or elf.rpath).split(":"):
        place = re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, place)
        place = re.sub(r"\$(LIB\b|\{LIB\})", f"lib/{TRIPLETS.get(elf.machine, '')}", place)
        if place.startswith("/"):
            found.append(posixpath.normpath(place))
    return found


def make_loader(files: Files, architecture: str, *, musl: bool, variable: str, interpreter: str) -> Loader:
    """The loader of an image; `variable` is its LD_LIBRARY_PATH, `interpreter` the path of its Python."""
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
    python = [one for one in files.code if one.path == interpreter.strip("/")]
    inherited = [place for one in python if musl or one.elf.rpath for place in search_path(one)]
    system = tuple(dict.fromkeys(place.rstrip("/") for place in configured if place))
    return Loader(files, musl, system, tuple(inherited))


def find_needs(loader: Loader, architecture: str, base: int) -> list[Need]:
    """What the files above the first `base` layers need that the loader does not find, sorted.

    A file for another machine than the image's is data: packages bring such for others to run.
    """
    mine = [one for one in loader.files.code if one.layer >= base and one.elf.machine == architecture]
    brought = _brought(mine)
    needs = []
    for one in mine:
        wanted = [*one.elf.needed, *([one.elf.interpreter] if one.elf.interpreter else [])]
        for library in dict.fromkeys(wanted):
            if loader.finds(library, one) or _DRIVERS.fullmatch(library):
                continue
            other = brought.get(library)
            if other is None or other.elf.bits != one.elf.bits:
                needs.append(Need(library, one.path, one.owner, one.layer))
            elif other.owner == one.owner and not _is_named(other, mine):
                needs.append(Need(library, one.path, one.owner, one.layer, other.path))
    return sorted(needs, key=lambda need: (need.library, need.path))


def _is_named(library: Code, code: Sequence[Code]) -> bool:
    """Whether another file of the same wheel names a library's directory: what it loads, others find loaded."""
    place = "/" + posixpath.dirname(library.path)
    return any(place in search_path(one) for one in code if one.owner == library.owner)


def _brought(code: Sequence[Code]) -> Mapping[str, Code]:
    """The libraries that wheels bring, by the names that others may know them by."""
    found: dict[str, Code] = {}
    for one in code:
        for name in (one.elf.soname, posixpath.basename(one.path)):
            if name and one.elf.shared:
                found.setdefault(name, one)
    return found
