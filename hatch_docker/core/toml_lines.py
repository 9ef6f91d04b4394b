"""Names and line numbers of values in TOML files. Imported only where a mistake is told, for it imports tomlkit."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

_MARK = "hatch-docker-looks-for-this-line"


def line_of(file: Path, path: Sequence[Any]) -> int:
    """Return the line of the value at a path in a TOML file, else of the nearest table around it, else 0.

    It is 0 too where the file cannot be read: a line number is only a service.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return 0
    while path:
        try:
            if line := _marked_line(text, path):
                return line
        except (KeyError, IndexError, TypeError, ValueError):  # tomlkit's errors are among these
            pass
        path = path[:-1]
    return 0


def dotted(path: Sequence[Any]) -> str:
    """Return the dotted name of a value, as TOML writes it, with the numbers of items: `tool.a."b c"[0].d`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _marked_line(text: str, path: Sequence[Any]) -> int:
    """Put a marker in the place of a value, and return the line where it is, 0 if it is nowhere."""
    document = tomlkit.parse(text)
    container: Any = document
    for part in path[:-1]:
        container = container[part]
    value = container[path[-1]]
    if isinstance(value, Table):
        value.comment(_MARK)
    else:
        container[path[-1]] = _MARK
    before, mark, _ = tomlkit.dumps(document).partition(_MARK)
    if isinstance(value, Table) and not before.rpartition("\n")[2].lstrip().startswith("["):  # made by dotted names
        return _marked_line(text, (*path, next(iter(value))))
    return before.count("\n") + 1 if mark else 0
