"""Global names of a Python module, found in its source without importing it."""

import ast
import warnings
from collections.abc import Iterator

# Functions and attributes by which a module can define names dynamically.
_DYNAMIC = frozenset({"__dict__", "eval", "exec", "globals", "locals", "modules", "setattr", "vars"})


def parse_source(source: bytes) -> ast.Module | None:
    """Return the syntax tree of a module, None if this Python cannot parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # such as those for invalid escape sequences
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defined_names(tree: ast.Module) -> frozenset[str] | None:
    """Return the global names of a module after its import, None if it may define names dynamically."""
    found: set[str] = set()
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in _DYNAMIC or (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"):
            return None
        if isinstance(node, ast.Global):
            found.update(node.names)
    found.update(_bound(tree))
    return None if "__getattr__" in found else frozenset(found)


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that statements bind, except inside functions and classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child.name
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif name := getattr(child, "name", None) or getattr(child, "rest", None):  # except, match
            yield str(name)
        if not isinstance(child, ast.Lambda):
            yield from _bound(child)
