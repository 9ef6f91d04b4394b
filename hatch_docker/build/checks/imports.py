"""The compiled files of a wheel that the first import of their package loads.

If a library of such a file is missing, the import fails. Other compiled files are loaded later, or never. No code is
executed: this module parses Python sources (`ast`) and follows the imports that are always executed.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.core.elf import Elf

_MODULE = re.compile(r"(?P<name>[^./]+)(\.(cpython|abi3|pypy)[^/]*)?\.so")  # with or without EXT_SUFFIX
_LOADERS = frozenset({"CDLL", "PyDLL", "LoadLibrary", "cdll", "dlopen"})  # functions of ctypes and cffi
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "OSError", "Exception", "BaseException"})


def files_loaded_by_import(sources: Mapping[str, bytes], code: Mapping[str, Elf]) -> frozenset[str]:
    """Return the paths of the compiled files of a wheel that an import of their package loads.

    `sources`: the .py files of the wheel. `code`: its compiled files. Keys are paths relative to site-packages.
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
    """Return the compiled files that an import of `top` loads: extension modules, and libraries opened with ctypes."""
    # Packages such as cv2 compute the name of the extension that they import (cv2/cv2.abi3.so): assume an import.
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
            continue  # syntax of another Python version
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
    """Yield the modules, or names in modules, that `statements` of a module in `package` import in every execution."""
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
        elif isinstance(statement, ast.Try) and all(map(_lets_import_errors_through, statement.handlers)):
            yield from _imports([*statement.body, *statement.orelse, *statement.finalbody], package)


def _lets_import_errors_through(handler: ast.ExceptHandler) -> bool:
    """Return whether an import error leaves this `except` block: the block catches other errors, or raises again."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id if isinstance(kind, ast.Name) else "Exception" for kind in kinds}
    return not names & _IMPORT_ERRORS or isinstance(handler.body[-1], ast.Raise)
