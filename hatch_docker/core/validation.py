"""Structural validation of parsed TOML and JSON, and conversion of JSON to dataclasses.

`read_record` validates a JSON value by the type annotations of a dataclass. `dataclasses.asdict` is the opposite
conversion; tuples and frozensets are lists in JSON.
"""

import functools
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
ANY = object
"""Any value; for a field that is not used."""
Line = Annotated[str, r"[^\x00-\x1f\x7f]*"]
"""Text on one line without control characters: it is safe to print and to write into a CI output file."""
FileName = Annotated[str, r"[^\x00-\x1f\x7f/]*"]
"""The name of a file in a known directory."""


def first_mismatch(expected: Any, value: Any, place: str = "") -> str | None:
    """Return the path of the first value that does not match, such as `packages[3].name`; None if all match.

    `expected` is a type (`int`: 0 or more), a regular expression for a whole text, a predicate, a list with one item
    (for each item of a list), a tuple of alternatives, or a table by key. In a table "name?" is an optional key, and
    "*" is for all other keys; without "*" other keys do not match.
    """
    if isinstance(expected, type):
        good = expected is ANY or (type(value) is expected and (not isinstance(value, int) or value >= 0))
    elif isinstance(expected, str):
        good = isinstance(value, str) and re.fullmatch(expected, value) is not None
    elif isinstance(expected, tuple):
        good = any(first_mismatch(option, value, place) is None for option in expected)
    elif isinstance(expected, Mapping):
        return _mismatch_in_table(expected, value, place)
    elif isinstance(expected, list):
        if not isinstance(value, list):
            return place
        found = (first_mismatch(expected[0], item, f"{place}[{number}]") for number, item in enumerate(value))
        return next((mismatch for mismatch in found if mismatch is not None), None)
    else:
        good = expected(value)
    return None if good else place


def _mismatch_in_table(expected: Mapping[str, Any], value: Any, place: str) -> str | None:
    if not isinstance(value, dict):
        return place
    known = {name.rstrip("?"): inner for name, inner in expected.items()}
    missing = [name for name in expected if name != "*" and not name.endswith("?") and name not in value]
    for name in [*missing[:1], *value]:
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        below = f"{place}.{shown}" if place else shown
        if name not in value or (name not in known and "*" not in expected):
            return below
        if (found := first_mismatch(known.get(name, expected.get("*")), value[name], below)) is not None:
            return found
    return None


def read_record(kind: type[Record], value: object) -> Record:
    """Convert a parsed JSON value (an object with the fields, or a list of them in order) to a dataclass.

    Types of fields: dataclasses, `str`, `int` (0 or more), `float`, `bool`, `object`, None, and unions, tuples,
    frozensets and mappings of these; `Annotated[str, PATTERN]` must match completely. Raises ValueError for a value of
    another type, an unknown field, and a missing field without a default.
    """
    record: Record = _reader(cast("Any", kind))(value)
    return record


@functools.cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return the function that converts a JSON value to a type, or raises ValueError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _dataclass_reader(cast("type", hint))
    if origin is Annotated:
        return functools.partial(_checked, hint.__metadata__[0])
    if origin in (Union, types.UnionType):
        return functools.partial(_read_union, [_reader(kind) for kind in arguments])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return functools.partial(_read_pair, [_reader(kind) for kind in arguments])
    if origin in (tuple, frozenset):
        return functools.partial(_read_items, origin, arguments[0], _reader(arguments[0]))
    if origin is Mapping:
        inner = _reader(arguments[1])
        return lambda value: {name: inner(item) for name, item in _checked(dict, value).items()}
    return functools.partial(_checked, (int, float) if hint is float else hint)


def _checked(expected: Any, value: Any) -> Any:
    if first_mismatch(expected, value) is not None:
        raise ValueError(f"not as expected: {value!r:.60}")
    return value


def _read_union(readers: list[Callable[[Any], Any]], value: Any) -> Any:
    for reader in readers[:-1]:
        try:
            return reader(value)
        except ValueError:
            continue
    return readers[-1](value)


def _read_items(make: Callable[..., Any], kind: Any, reader: Callable[[Any], Any], value: Any) -> Any:
    """Convert the items of a list, or of a tuple that was never written as JSON."""
    items = _checked((list, tuple), value)
    if kind is str and set(map(type, items)) <= {str}:  # a shortcut: most data of an unchanged build
        return make(items)
    return make(map(reader, items))


def _read_pair(readers: list[Callable[[Any], Any]], value: Any) -> Any:
    if len(_checked((list, tuple), value)) != len(readers):
        raise ValueError(f"not {len(readers)} values: {value!r:.60}")
    return tuple(reader(item) for reader, item in zip(readers, value, strict=True))


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}

    def read(value: Any) -> Any:
        row = dict(zip(readers, value, strict=False)) if isinstance(value, list) else _checked(dict, value)
        if not required <= row.keys() <= readers.keys() or len(row) < len(value):
            raise ValueError(f"not the fields of {kind.__name__}: {', '.join(row):.200}")
        return kind(**{name: readers[name](item) for name, item in row.items()})

    return read
