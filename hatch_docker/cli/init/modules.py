"""Modules of a project that its image needs, and the options of hatchling that put them into the wheel."""

import ast
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hatch_docker.core.secrets import looks_secret
from hatch_docker.core.tables import table_at

MAX_SIZE = 1 << 20  # bytes; larger files are generated
MAX_FILES = 5000
# Directories without code of the application; directories whose name begins with a dot are skipped as well.
SKIPPED = frozenset({
    "__pycache__", "asv_bench", "bench", "benchmarks", "build", "dist", "doc", "docs", "env", "example", "examples",
    "htmlcov", "migrations", "node_modules", "notebooks", "scripts", "site", "site-packages", "test", "tests", "venv",
})  # fmt: skip
TOOLS = frozenset({"setup.py", "conftest.py", "noxfile.py", "fabfile.py", "dodo.py", "locustfile.py"})
# The directory of all packages, in setup.cfg and setup.py.
_PACKAGE_DIR = r"""(?m)(?:^\s*where\s*=|package_dir\s*=\s*(?:=|\{\s*["']{2}\s*:))\s*["']?([\w/-]+)"""
_INLINE = re.compile(r"(?m)^# /// script\r?\n((?:#(?: .*)?\r?\n)+?)# ///[ \t]*\r?$")
DATA = ("assets", "public", "static", "templates")  # directories with files that web applications read


def python_files(directory: Path) -> Iterator[Path]:
    """Yield the Python files of a project's application, as sorted relative paths; none of a virtual environment."""
    count = 0
    for place, directories, files in os.walk(directory):
        here = Path(place)
        directories[:] = sorted(
            name for name in directories
            if not (name.startswith(".") or name in SKIPPED or name.endswith(".egg-info"))
            and not ((here / name).is_symlink() or (here / name / "pyvenv.cfg").exists())
            and not (here / name / "pyproject.toml").exists()  # another project
        )
        for name in sorted(files):
            if name.endswith(".py") and name not in TOOLS and not name.startswith("test_"):
                path = here / name
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_SIZE:
                    if name == "tasks.py" and re.search(rb"(?m)^(import|from) invoke\b", path.read_bytes()):
                        continue  # tasks of the program invoke, not of Celery
                    yield path.relative_to(directory)
                    count += 1
        if count > MAX_FILES:
            return


def inline_metadata(path: Path) -> dict[str, Any]:
    """Return the inline script metadata of a file (PEP 723), {} if they are missing or invalid."""
    found = _INLINE.search(path.read_text("utf-8", errors="replace")) if path.suffix == ".py" else None
    try:
        table = tomllib.loads("".join(line[2:] or "\n" for line in found[1].splitlines(keepends=True)) if found else "")
    except tomllib.TOMLDecodeError:
        return {}
    lines = table.get("dependencies", [])
    return table if isinstance(lines, list) and all(isinstance(line, str) for line in lines) else {}


def module_name(path: str) -> str:
    """Return the dotted name of a module. `path`: its path relative to a directory of the import path."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level(root: Path, config: Mapping[str, Any]) -> list[str]:
    """Return the relative paths of a project's top-level packages and modules, in its source directory or its root."""
    for name in ("src", *_source_directories(root, config)):
        source = root / name
        if source.is_dir() and not (source / "__init__.py").exists():
            return list(dict.fromkeys(f"{name}/{path.parts[0]}" for path in python_files(source)))
    return list(dict.fromkeys(path.parts[0] for path in python_files(root)))


def _source_directories(root: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the source directories in the configuration of setuptools, Poetry or PDM."""
    setuptools = table_at(config, "tool", "setuptools")
    where = table_at(setuptools, "packages", "find").get("where")
    packages = table_at(config, "tool", "poetry").get("packages")
    found = [
        table_at(setuptools, "package-dir").get(""), table_at(config, "tool", "pdm", "build").get("package-dir"),
        *(where if isinstance(where, list) else []),
        *(package.get("from") for package in packages or () if isinstance(package, dict)),
    ]  # fmt: skip
    yield from (name.strip("/") for name in found if isinstance(name, str) and not name.startswith("."))
    for file in "setup.cfg", "setup.py":
        if (root / file).is_file():
            yield from re.findall(_PACKAGE_DIR, (root / file).read_text("utf-8", errors="replace"))


def find_modules(root: Path, places: list[str]) -> dict[str, Path]:
    """Return the paths of all modules in top-level packages and modules (`places`), by dotted name."""
    found: dict[str, Path] = {}
    for place in places:
        path, parent = root / place, place.rpartition("/")[0]
        files = [Path(place)] if path.is_file() else [Path(place) / file for file in python_files(path)]
        for file in files:
            found[module_name(str(file).removeprefix(f"{parent}/") if parent else str(file))] = file
    return {name: path for name, path in found.items() if all(part.isidentifier() for part in name.split("."))}


def data_names(root: Path, trees: Iterable[ast.Module], places: list[str]) -> list[str]:
    """Return the files and directories at a project's root that its modules may read.

    These are DATA, and paths that are a string in a module, such as `open("data/prices.csv")`. Code, hidden files and
    files that look like secrets are left out.
    """
    strings = {node.value for tree in trees for node in ast.walk(tree)
               if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
    named = {parts[0] for text in strings if _is_path(text) and (root / text).exists() and (parts := Path(text).parts)}
    excluded = {*SKIPPED, *(Path(place).parts[0] for place in places)}
    found = (name for name in {*DATA, *named} - excluded if (root / name).exists() and not (root / name).is_symlink())
    return sorted(name for name in found if not (name.startswith(".") or name.endswith(".py") or looks_secret(name)))


def _is_path(text: str) -> bool:
    short = text.isprintable() and 0 < len(text.encode()) < 200  # file systems limit the bytes of a name
    return short and not text.startswith("/") and ".." not in text.split("/")


def wheel_table(root: Path, name: str, places: list[str], data: list[str]) -> Mapping[str, list[str]]:
    """Return the [tool.hatch.build.targets.wheel] with which hatchling includes the code (`places`) and `data`.

    It is empty if the only package or module has the project's name: hatchling finds it without options.
    """
    if data:
        return {"only-include": [*places, *data]}
    own = name.replace("-", "_").replace(".", "_").lower()
    package = places in ([own], [f"src/{own}"]) and (root / places[0] / "__init__.py").is_file()
    if package or places == [f"{own}.py"]:
        return {}
    if all((root / place).is_dir() for place in places):
        return {"packages": places}
    if places and places[0].startswith("src/"):
        return {"only-include": places, "sources": ["src"]}
    return {"only-include": places}
