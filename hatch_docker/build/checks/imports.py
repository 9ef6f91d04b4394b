"""The compiled files of a wheel that are loaded by the first import of the package that they are in.

A package that lacks a library of these fails at once; other files are loaded on demand, perhaps never. Nothing is run:
the statements of a module that always run are read (Python's `ast`), and the modules that they import.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.core.elf import Elf

_MODULE = re.compile(r"(?P<name>[^./]+)(\.(cpython|abi3|pypy)[^/]*)?\.so")  # EXT_SUFFIX, or the name alone
_LOADERS = frozenset({"CDLL", "PyDLL", "LoadLibrary", "cdll", "dlopen"})  # of ctypes and of cffi
_SWALLOWED = frozenset({"ImportError", "ModuleNotFoundError", "OSError", "Exception", "BaseException"})


def files_loaded_by_import(sources: Mapping[str, bytes], code: Mapping[str, Elf]) -> frozenset[str]:
    """Return the paths of those compiled files of a wheel that an import of their package loads.

    `sources` are its modules and `code` its compiled files, by their paths from site-packages.
    """
    modules = {name: path for path in sources if (name := _dotted(path.removesuffix(".py")))}
    extensions = {}
    for path in code:
        if match := _MODULE.fullmatch(posixpath.basename(path)):
            extensions[_dotted(posixpath.join(posixpath.dirname(path), match["name"]))] = path
    found: set[str] = set()
    for top in {name.partition(".")[0] for name in (*modules, *extensions)}:
        if not top.startswith("_"):
            found |= _loaded_by(top, sources, modules, extensions, code)
    waiting = list(found)
    names = {name: path for path, elf in code.items() for name in (elf.soname, posixpath.basename(path)) if name}
    while waiting:
        more = {names[needed] for needed in code[waiting.pop()].needed if needed in names} - found
        found |= more
        waiting += more
    return frozenset(found)


def _dotted(path: str) -> str:
    return path.removesuffix("/__init__").replace("/", ".")


def _loaded_by(
    top: str, sources: Mapping[str, bytes], modules: Mapping[str, str], extensions: Mapping[str, str],
    code: Mapping[str, Elf],
) -> set[str]:
    """Return the extension modules that an import of a package or module loads, and the libraries that it opens."""
    # A package such as cv2 imports cv2/cv2.abi3.so by a name that it makes: there is no other reason for that name.
    reached = {top, f"{top}.{top}", f"{top}._{top}"}
    waiting = [top]
    texts: set[str] = set()
    opens = False
    while waiting:
        name = waiting.pop()
        if name not in modules:
            continue
        try:
            tree = ast.parse(sources[modules[name]])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # for another Python
        package = name if modules[name].endswith("/__init__.py") else name.rpartition(".")[0]
        wanted = {known for found in _imports(tree.body, package) for known in _with_parents(found)}
        waiting += [found for found in wanted - reached if found in modules or found in extensions]
        reached |= wanted
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(posixpath.basename(node.value))
            word = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            opens = opens or word in _LOADERS
    found = {path for name, path in extensions.items() if name in reached}
    return found | {path for path in code if opens and path.startswith(f"{top}/") and posixpath.basename(path) in texts}


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _imports(statements: Sequence[ast.stmt], package: str) -> Iterator[str]:
    """Yield the modules that some statements of a module in a package always import, or names in these."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            parts = package.split(".") if statement.level else []
            parts = parts[:len(parts) - statement.level + 1]
            base = ".".join([*parts, *([statement.module] if statement.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.With):
            yield from _imports(statement.body, package)
        elif isinstance(statement, ast.Try) and all(map(_passes_on, statement.handlers)):
            yield from _imports([*statement.body, *statement.orelse, *statement.finalbody], package)


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Return whether a failed import leaves an `except`: it is for other errors, or raises one itself."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id if isinstance(kind, ast.Name) else "Exception" for kind in kinds}
    return not names & _SWALLOWED or isinstance(handler.body[-1], ast.Raise)
