"""Facts of an image, read from its layers: the Python, the C library, users and directories.

The facts are read from files only, because labels and environment variables may be outdated.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.bases.model import Interpreter, real_path, runnable_platform
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.cache.tree_digest import FileDigests
from hatch_docker.core.context import Context
from hatch_docker.core.elf import MACHINES
from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.core.text import plural
from hatch_docker.core.validation import read_record
from hatch_docker.oci.layer import Entry, LayerReader
from hatch_docker.oci.model import Image, Layer

RECIPE = 1               # raise it when the same layers give different facts
TEXT_LIMIT = 1 << 20     # bytes of a text file
CHUNK = 1 << 20
OVERLAP = 512            # bytes, more than the longest match of a pattern
MATCHES = 4096           # the most matches of a pattern that are kept from a program
_PLACES = ("usr/local/bin", "usr/bin", "bin")  # the Python of the official python images is in /usr/local
# Top directories of the builder stage. The base's Python is there at its own path, so it cannot be in these.
_TAKEN = frozenset({"build", "dev", "env", "etc", "out", "proc", "repository", "run", "sys", "tmp"})

_PYTHON = re.compile(r"(?:.*/)?bin/python(3\.\d{1,2})(t?d?)")
_LIBRARY = re.compile(r"(?:.*/)?libpython3\.\d+t?d?\.so\.1\.0")
_LIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.\d+\.so|ld-musl-[^/]+\.so\.1|libc\.musl-[^/]+\.so\.1)")
_KINDS = (_PYTHON, _LIBRARY, _LIBC)
_NAMES = ("python3.", "libpython3.", "libc.", "libc-2.", "ld-musl-")  # prefixes of their names: a quick first test
RELEASES = ("usr/lib/os-release", "etc/os-release")
_TEXTS = frozenset({"etc/passwd", *RELEASES})
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]{0,200}version (2\.\d{1,3})(?=\W)")
_MUSL_VERSION = re.compile(rb"\0(1\.\d{1,2})\.\d{1,3}(?=\0)")
# If the prefix of an installation ends with the version (/opt/python/3.12.1), the linker merges the two strings, and
# the version follows a "/" and not a NUL.
_PYTHON_VERSION = re.compile(rb"[\0/](3\.\d{1,2}\.\d{1,3}(?:(?:a|b|rc)\d{1,2})?)\+?(?=\0)")


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts read from an image: fields of `Base`, and the size of each layer's uncompressed tar in bytes."""

    interpreter: Interpreter
    libc: tuple[str, str]
    users: Mapping[str, tuple[int, int]]
    directories: frozenset[str]
    symlinks: Mapping[str, str]
    suite: str
    unpacked_sizes: tuple[int, ...]


Found = Callable[[Mapping[str, Entry], Sequence[int]], object]
"""Callback with the merged tree of some layers, and the size of each layer's tar in bytes."""


def layers_key(layers: Sequence[Layer]) -> str:
    """Return the name of the directory that `unpack_layers` makes, which is a key of its contents."""
    return key_of("base tree", 1, [layer.diff_id for layer in layers])


def unpack_layers(layers: Sequence[Layer], name: str, ctx: Context, found: Found | None = None) -> Path:
    """Unpack some layers into a directory of the store, once, and return the directory.

    If the directory has to be made, `found` is called with the tree, whose contents are those of `_read_part`, and the
    readers of the context (`ctx.layer_readers`) read each layer.
    """
    from hatch_docker.oci.filesystem import extract

    def readers_of(layer: Layer) -> list[LayerReader]:
        readers: list[Any] = [make_reader(ctx, layer) for make_reader in ctx.layer_readers]
        return [reader for reader in readers if reader is not None]

    def make(root: Path) -> FileDigests:
        written: dict[str, bytes] = {}
        size = sum(layer.descriptor.size for layer in layers)
        title, sizes = f"unpacking {plural(len(layers), 'layer')} of {name}", list[int]()
        with ctx.progress.task(title, size, quick=True) as task:
            tree = extract(
                layers, root, task.advance, read_file=_read_part if found else None, sizes=sizes,
                readers_of=readers_of if found else lambda _layer: (), file_digests=written,
            )  # fmt: skip
        if found is not None:
            found(tree, sizes)
        return written

    return ctx.store.tree("base", layers_key(layers), make)


def read_facts(image: Image, name: str, ctx: Context, *, unpack: bool = False) -> Facts:
    """Return the facts of an image. They are read once and kept in the store by the layers' diff-ids.

    `name` is for error messages. With `unpack`, layers that have to be read are also unpacked, if their programs run
    on this machine. Raises BaseImageError if the image has no Python, or a Python for another architecture.
    """
    path = image.env.get("PATH", "").split(":")
    own = [place.strip("/") for place in path if place.startswith("/") and place.strip("/")]
    places = list(dict.fromkeys([*own, *_PLACES]))  # directories in which the interpreter is searched
    key = key_of("base facts", RECIPE, [layer.diff_id for layer in image.layers], str(image.platform), places)
    known = ctx.store.recall("base", key)
    if known is None:
        with ctx.store.lock(f"base facts {key}"):  # wait for another build that reads the same layers
            known = ctx.store.recall_or_make("base", key, lambda: _scan(image, name, places, ctx, unpack=unpack))
    return read_record(Facts, known)


def _scan(image: Image, name: str, places: list[str], ctx: Context, *, unpack: bool) -> dict[str, Any]:
    """Read the layers and return the fields of `Facts` as JSON values."""
    from hatch_docker.oci.filesystem import merge_layers

    host, read = runnable_platform(), list[tuple[Mapping[str, Entry], Sequence[int]]]()
    try:
        if unpack and host is not None and host.architecture == image.platform.architecture:
            unpack_layers(image.layers, name, ctx, lambda *found: read.append(found))
        if not read:
            title, size = f"reading {plural(len(image.layers), 'layer')} of {name}", image.size
            with ctx.progress.task(title, size, quick=True) as task:
                measured = list[int]()
                read.append((merge_layers(image.layers, _read_part, measured, advance=task.advance), measured))
        tree, sizes = read[0]
    except ImageError as error:
        raise BaseImageError(f"base {name} cannot be read: {error}") from error
    symlinks = {path: entry.target for path, entry in tree.items() if entry.kind == "symlink"}
    python, program = _find_python(tree, symlinks, places, name)
    plain, prefix = python.rpartition("/")[2], python.rpartition("/bin/")[0]
    if f"{python}t" in tree and f"{prefix}/lib/{plain}/os.py" not in tree:  # a hard link to the free-threaded build
        python += "t"
    if program[:4] != b"\x7fELF" or len(program) < 20:
        raise BaseImageError(f"base {name}: its Python is not an ELF program")
    (machine,) = struct.unpack_from("<H" if program[5] == 1 else ">H", program, 18)
    found = MACHINES.get(machine, f"machine {machine}")
    if found != image.platform.architecture:
        raise BaseImageError(f"base {name} is declared for {image.platform}, but its Python is for {found}")
    return {
        "interpreter": [f"/{python}", *_python_version(python, program, tree, name)], "libc": _libc(tree, name),
        "users": read_users(_text(tree, "etc/passwd")), "symlinks": symlinks, "unpacked_sizes": list(sizes),
        "directories": sorted(path for path, entry in tree.items() if entry.kind == "directory"),
        "suite": suite_of(_text(tree, RELEASES[0]) or _text(tree, RELEASES[1])),
    }  # fmt: skip


def _read_part(path: str, stream: BinaryIO) -> bytes | None:
    """Return the needed part of a file, else None: a whole text; the start of a program with its version strings."""
    if path in _TEXTS:
        text = stream.read(TEXT_LIMIT + 1)
        if len(text) > TEXT_LIMIT:
            raise ImageError(f"/{path} has more than {TEXT_LIMIT} bytes, too many to read")
        return text
    if not path.rpartition("/")[2].startswith(_NAMES) or not any(kind.fullmatch(path) for kind in _KINDS):
        return None
    found: dict[re.Pattern[bytes], dict[bytes, None]] = {_PYTHON_VERSION: {}, _GLIBC_VERSION: {}, _MUSL_VERSION: {}}
    head = rest = stream.read(CHUNK)
    while rest:
        for pattern, texts in found.items():
            for match in pattern.finditer(rest) if len(texts) < MATCHES else ():
                texts[match[0]] = None
        piece = stream.read(CHUNK)
        rest = rest[-OVERLAP:] + piece if piece else b""
    return b"\0".join([head[:64], *(text for texts in found.values() for text in texts), b""])


def _find_python(
    tree: Mapping[str, Entry], symlinks: Mapping[str, str], places: list[str], name: str
) -> tuple[str, bytes]:
    """Return the real path and the part of the interpreter: `python3` in the first of `places` that has a Python."""
    for place in places:
        versions = [path for path in tree if path.startswith(f"{place}/python3.") and _PYTHON.fullmatch(path)]
        versions.sort(key=lambda path: (-int(path.rpartition(".")[2].rstrip("td")), path))
        for candidate in (f"{place}/python3", *versions):
            path = real_path(symlinks, candidate)
            content = tree[path].content if path in tree else None
            if _PYTHON.fullmatch(path) and isinstance(content, bytes):
                if path.partition("/")[0] in _TAKEN:
                    raise BaseImageError(
                        f"base {name} has its Python in /{path.rpartition('/')[0]}, a directory that the builder stage "
                        "needs for other files; use a base that has it in /usr, /usr/local or /opt"
                    )
                return path, content
    raise BaseImageError(
        f"base {name} has no Python 3 in /{', /'.join(places)}; "
        "use one that has, such as python:3.13-slim or debian:trixie"
    )


def _python_version(path: str, program: bytes, tree: Mapping[str, Entry], name: str) -> tuple[str, str]:
    """Return PY_VERSION, a string in the interpreter or its libpython, and the ABI flags in the interpreter's name."""
    own, short = path.rpartition("/python")[2], path.rpartition("/python")[2].rstrip("td")
    prefix = path.rpartition("/bin/")[0]
    libraries = [
        entry.content for other, entry in tree.items()
        if isinstance(entry.content, bytes) and other.startswith(prefix)
        and other.endswith(f"/libpython{own}.so.1.0")
    ]
    for content in (program, *libraries):
        for found in sorted(_PYTHON_VERSION.finditer(content), key=lambda found: found[0][:1]):  # NUL before "/"
            if found[1].startswith(f"{short}.".encode()):
                return found[1].decode(), own[len(short) :]
    raise BaseImageError(f"base {name}: its /{path} has no version of Python in it")


def _libc(tree: Mapping[str, Entry], name: str) -> tuple[str, str]:
    """Return kind and version of the C library, as in `Base.libc`."""
    found = [(path, entry.content) for path, entry in tree.items() if _LIBC.fullmatch(path)]
    for kind, pattern in (("glibc", _GLIBC_VERSION), ("musl", _MUSL_VERSION)):
        for path, content in found:
            text = content if isinstance(content, bytes) and ("musl" in path) == (kind == "musl") else b""
            if version := pattern.search(text):
                return kind, version[1].decode()
    raise BaseImageError(f"base {name} has no C library that wheels are made for (glibc or musl)")


def read_users(text: str) -> dict[str, tuple[int, int]]:
    """Return the users in the text of an etc/passwd: name -> user id, group id."""
    users: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and all(re.fullmatch(r"[0-9]{1,10}", number) for number in fields[2:4]):
            users.setdefault(fields[0], (int(fields[2]), int(fields[3])))
    return users


def suite_of(text: str) -> str:
    """Return Debian's codename in the text of an os-release file: "trixie"; "" for another distribution."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    release = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    codename = release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""
    return codename if re.fullmatch(r"[a-z]{1,32}", codename) else ""


def _text(tree: Mapping[str, Entry], path: str) -> str:
    content = tree[path].content if path in tree else None
    return content.decode(errors="replace") if isinstance(content, bytes) else ""
