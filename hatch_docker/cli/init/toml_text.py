"""How values and tables are written in TOML that a person reads and goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def inserted(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str:
    """A file with a table within an inline table that it has; `path` is the names of the tables, outermost first."""
    import tomlkit

    document = tomlkit.parse(text)
    place: Any = document
    for key in path[:-1]:
        if key not in place:
            place[key] = {}
        place = place[key]
    place[path[-1]] = dict(values)
    return tomlkit.dumps(document)


def shown(value: Any) -> str:
    """A value as one writes it: a long list has a line for each item, a table is inline."""
    import tomlkit

    if isinstance(value, list) and sum(len(str(item)) + 4 for item in value) > 100:
        return "[\n" + "".join(f"    {shown(item)},\n" for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {shown(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(tomlkit.item(value).as_string())
