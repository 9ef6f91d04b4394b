"""TOML text: values as a person writes them, and additions to a file that keep its comments and order."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import Item, Table

LONG = 100  # characters of a list, from which each item has its own line


def toml_value(value: Any) -> Item:
    """Return a value whose text is that of `as_string`: tables are inline, long lists have a line for each item."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update({key: toml_value(item) for key, item in value.items()})
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(map(toml_value, value))
        array.multiline(sum(len(str(item)) + 4 for item in value) > LONG)
        return array
    item: Item = tomlkit.item(value)
    return item


def toml_lines(values: Mapping[str, Any]) -> list[str]:
    """Return a line for each key of a table: `key = value`."""
    return [f"{key} = {toml_value(value).as_string()}" for key, value in values.items()]


def add_table(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a file with one more table, inside an inline table that it has; `path` has the names of the tables."""
    document, place = _open(text, path[:-1], create=True)
    place[path[-1]] = dict(values)
    return tomlkit.dumps(document)


def add_keys(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str | None:
    """Return a file with more keys in a table; None if the table has no header line that they could follow."""
    document, place = _open(text, path)
    if not isinstance(place, Table) or place.is_super_table():
        return None
    for key, value in values.items():
        place[key] = toml_value(value)
    return tomlkit.dumps(document)


def append_item(text: str, path: Sequence[str], item: str) -> str:
    """Return a file with an item at the end of a list, which is created if its table has none."""
    document, place = _open(text, path[:-1])
    if path[-1] in place:
        place[path[-1]].append(item)
    else:
        place[path[-1]] = [item]
    return tomlkit.dumps(document)


def _open(text: str, path: Sequence[str], *, create: bool = False) -> tuple[TOMLDocument, Any]:
    """Parse a file and return it with one of its tables, which `create` makes if it is missing."""
    document = tomlkit.parse(text)
    place: Any = document
    for key in path:
        if create and key not in place:
            place[key] = {}
        place = place[key]
    return document, place
