"""Options of `[tool.hatch-docker]` that stand in another table, where nothing would read them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config import TABLE, Problem

# hatchling's own keys of a target: those of its BuilderConfig.
TARGET_KEYS = frozenset((
    "artifacts", "dependencies", "dev-mode-dirs", "dev-mode-exact", "directory", "exclude", "force-include", "hooks",
    "ignore-vcs", "include", "only-include", "only-packages", "packages", "reproducible",
    "require-runtime-dependencies", "require-runtime-features", "skip-excluded-dirs", "sources", "versions",
))  # fmt: skip


def find_misplaced(pyproject: Path | None) -> list[Problem]:
    """Return the options in the wrong tables of pyproject.toml and of hatch.toml beside it, if they can be read."""
    if pyproject is None:
        return []
    found: list[Problem] = []
    for file, hatch in ((pyproject, ("tool", "hatch")), (pyproject.with_name("hatch.toml"), ())):
        try:
            tables = tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        context = {"table": "[tool.hatch-docker]" + ("" if hatch else " of pyproject.toml")}
        target = (*hatch, "build", "targets", "docker")
        misplaced = sorted(_at(tables, target).keys() - TARGET_KEYS)
        found += [Problem("misplaced_option", (*target, name), None, context, "", file) for name in misplaced]
        for path in sorted({(), ("tool",), hatch}):
            for name, value in _at(tables, path).items():
                where = (*path, name)
                ours = name.lower().replace("-", "").replace("_", "") == "hatchdocker" and (where != TABLE or not hatch)
                if ours or (where in (("tool", "docker"), (*hatch, "docker")) and _has_options(value)):
                    found.append(Problem("misplaced_table", where, None, context, "", file))
    return found


def _at(tables: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    for name in path:
        tables = tables.get(name) if isinstance(tables, Mapping) else None
    return tables if isinstance(tables, Mapping) else {}


def _has_options(table: Any) -> bool:
    """Return whether a table that may be another program's holds options of ours."""
    from hatch_docker.config.suggest import is_option

    return isinstance(table, Mapping) and any(map(is_option, table))
