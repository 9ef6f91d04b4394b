"""The modules of the package."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "hatch_docker"


@functools.cache
def modules() -> dict[str, Path]:
    """Return the paths of the package's modules by their names below hatch_docker."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a module's syntax tree, the module first."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))
