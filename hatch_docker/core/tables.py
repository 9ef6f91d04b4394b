"""Tables of parsed TOML files that anybody may have written, without errors: who needs one says what is wrong."""

import contextlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def table_at(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the table at a path of names below a value, {} where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file, {} for one that is not there or cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return tomllib.loads(path.read_text("utf-8"))
    return {}
