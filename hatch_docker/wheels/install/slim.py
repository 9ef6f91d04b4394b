"""Files of a wheel that an image does not need. A file that another module of the wheel imports is never left out.

Standard library only, for Python 3.9: a stage of the Dockerfile runs this file too (`engines.buildkit.stage_install`).
Modules are not parsed as Python, because every version of Python parses differently. Lines are searched, and a line
that may be an import counts as an import.

    tests     directories named test or tests in a package that has other modules, none of which imports them
    stubs     *.pyi and py.typed; not if the module beside a stub reads it (lazy_loader)
    headers   files for compilers, linkers and build systems; not of packages that compile at run time
    symbols   debug information and symbol tables of ELF files (`strip.py`)
    locales   translations (LC_MESSAGES/*.mo and similar files, Babel's locale-data) except the selected languages
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from hatch_docker.oci.paths import parents

KINDS = ("tests", "stubs", "headers", "symbols", "locales")
TESTS, STUBS, HEADERS, SYMBOLS, LOCALES = KINDS
IMPORTS_LIMIT = 1 << 20  # bytes of a module that are searched for imports
ALWAYS = "en"  # the fallback language of programs
MODULES = (".py", ".so", ".pyd")
_HEADERS = (".h", ".hh", ".hpp", ".hxx", ".cuh", ".a", ".la", ".pxd", ".pxi", ".pyx", ".pc", ".cmake")
# These packages pass headers to a compiler (NVRTC, OpenCL, Clang) at run time.
_COMPILE_AT_RUN_TIME = (
    "CPyCppyy", "Cython", "cppyy", "cppyy_backend", "cuda", "cupy", "cupyx", "numba_cuda", "nvidia", "pycuda",
    "pyopencl", "taichi", "triton", "warp",
)  # fmt: skip
_LOCALES = (
    re.compile(r"(?:.*/)?(?P<language>[a-z]{2,3})(?:[_@-][^/]+)?/LC_MESSAGES/[^/]+\.(?:mo|po|pot|json|js)"),
    re.compile(r"babel/locale-data/(?P<language>[a-z]{2,3})(?:_[^/]+)?\.dat"),
)
# For untrusted files: every repetition has a limit or cannot backtrack.
_FROM = re.compile(
    rb"^[ \t]*from[ \t]{1,40}(\.{0,20})([\w.]{0,300})[ \t]{0,40}import\b[ \t]*(\([^)]{0,4000}\)|(?:\\\r?\n|[^\n;])*)",
    re.MULTILINE,
)
_IMPORT = re.compile(rb"^[ \t]*import[ \t]+((?:\\\r?\n|[^\n;])*)", re.MULTILINE)
_NAME = re.compile(rb"[A-Za-z_][\w.]*")
_TEXT = re.compile(rb"[\"']([A-Za-z_]\w*(?:\.\w+)*\.tests?\b[\w.]*)")


class Rules(NamedTuple):
    """Kinds of files that are left out, sorted; languages to keep; patterns of files to keep in any case."""

    leave_out: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


NONE = Rules()


def left_out_files(names: Iterable[str], read: Callable[[str], bytes], rules: Rules) -> dict[str, str]:
    """Return the files of a wheel that are left out: name in the archive -> kind.

    `read` returns the first IMPORTS_LIMIT bytes of a file.
    """
    files = {path: name for name in sorted(names) if (path := _installed_path(name))}
    tests = _tests(files, read) if TESTS in rules.leave_out else frozenset()
    found = {}
    for path, name in files.items():
        kind = TESTS if _test_root(path) in tests else _kind(path, files, read)
        is_kept = kind == LOCALES and _language(path) in (ALWAYS, *rules.locales)
        if kind in rules.leave_out and not is_kept and not _is_kept(path, rules.keep):
            found[name] = kind
    return found


def count(tally: dict[str, list[int]], kind: str, size: int) -> None:
    """Add a file to the statistics of left-out files: kind -> number of files and bytes."""
    row = tally.setdefault(kind, [0, 0])
    row[0] += 1
    row[1] += size


def is_stripped(name: str, rules: Rules) -> bool:
    """Return whether the symbols of a file in the archive are removed, if it is an ELF file."""
    path = _installed_path(name) or name
    return SYMBOLS in rules.leave_out and not _is_kept(path, rules.keep)


def _installed_path(name: str) -> str:
    """Return the path of a file of the archive below site-packages; "" for files that are never left out."""
    top, _, rest = name.partition("/")
    if top.endswith(".dist-info"):
        return ""
    if not top.endswith(".data"):
        return name
    scheme, _, path = rest.partition("/")
    if scheme in ("purelib", "platlib"):
        return path
    return f"include/{path}" if scheme == "headers" else path if scheme == "data" else ""


def _is_kept(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches a path or one of its parent directories; a * also matches "/"."""
    parts = path.split("/")
    places = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(fnmatchcase(place, pattern.rstrip("/")) for pattern in patterns for place in places)


def _kind(path: str, names: dict[str, str], read: Callable[[str], bytes]) -> str:
    """Return the kind of a file by its name, independent of the rules."""
    directory, _, name = path.rpartition("/")
    if name.endswith(".pyi"):
        module = names.get(path[:-1])
        return "" if module and b"stub" in read(module) else STUBS
    if name == "py.typed":
        return STUBS
    if name.endswith(_HEADERS) or (directory.split("/")[0] == "include" and not name.endswith(MODULES)):
        return "" if path.split("/", maxsplit=1)[0] in _COMPILE_AT_RUN_TIME else HEADERS
    return LOCALES if _language(path) else ""


def _language(path: str) -> str:
    matches = (pattern.fullmatch(path) for pattern in _LOCALES)
    return next((match["language"] for match in matches if match), "")


def _tests(names: dict[str, str], read: Callable[[str], bytes]) -> frozenset[str]:
    """Return the test directories that only test directories import."""
    places: dict[str, list[str]] = {}  # files by test directory; "" for files outside of them
    for path in names:
        places.setdefault(_test_root(path), []).append(path)
    others = [path for path in places.pop("", ()) if path.endswith(MODULES)]
    packages = {posixpath.dirname(root) for root in places}
    packages = {parent for path in others for parent in parents(path) if parent in packages}
    unused = {root for root in places if posixpath.dirname(root) in packages}
    while others and unused:
        used = (name for path in others if path.endswith(".py") for name in _imported(path, read(names[path])))
        back = unused & {_test_root(f"{name}.".replace(".", "/")) for name in used}
        unused -= back
        others = [path for root in back for path in places[root] if path.endswith(MODULES)]
    return frozenset(unused)


def _test_root(path: str) -> str:
    """Return the first test directory below a package that contains a path; "" if there is none."""
    parts = path.split("/")[:-1]
    for number in range(1, len(parts)):
        if parts[number] in ("test", "tests"):
            return "/".join(parts[: number + 1])
    return ""


def _imported(path: str, text: bytes) -> Iterator[str]:
    """Yield the dotted names with "test" in them that a module may import."""
    if b"test" not in text:
        return
    package = path.split("/")[:-1]
    for dots, base, what in _FROM.findall(text):
        above = package[: len(package) - len(dots) + 1] if dots else []
        start = ".".join([*above, *filter(None, base.decode().split("."))])
        yield start
        yield from (f"{start}.{name.decode()}" for name in _NAME.findall(what))
    for what in _IMPORT.findall(text):
        yield from (name.decode() for name in _NAME.findall(what))
    yield from (name.decode() for name in _TEXT.findall(text))
