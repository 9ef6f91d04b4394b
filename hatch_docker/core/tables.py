"""Lenient access to tables of TOML files: missing and invalid values count as {}; callers report errors."""

import contextlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def table_at(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the table at a path of keys inside a value, {} if it does not exist."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file, {} if it is missing or not valid."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return tomllib.loads(path.read_text("utf-8"))
    return {}
