"""Dataclasses read from JSON. The types of the fields say what a value must look like, so nothing else declares it.

`to_json` of a dataclass is `dataclasses.asdict`; tuples and sets become lists in JSON, and come back as what they were.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from hatch_docker.core.validation import first_mismatch

Record = TypeVar("Record")
Line = Annotated[str, r"[^\x00-\x1f\x7f]*"]
"""Text on one line, without control characters: it may be shown, and handed to a pipeline line by line."""
FileName = Annotated[str, r"[^\x00-\x1f\x7f/]*"]
"""The name of a file in a known directory."""


def read_record(kind: type[Record], value: object) -> Record:
    """Return the dataclass that a parsed JSON value describes: an object with its fields, or a list of them in order.

    Fields may be dataclasses, `str`, `int` (0 and more), `float`, `bool`, `object`, None, unions, tuples, frozensets
    and mappings of such; `Annotated[str, PATTERN]` is text that matches in full. Raises ValueError where a value is of
    another type, or a field is unknown, or one without a default is missing.
    """
    record: Record = _reader(cast("Any", kind))(value)
    return record


@functools.cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return the function that turns a JSON value into a value of a type, or raises ValueError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _dataclass_reader(cast("type", hint))
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return _pair_reader(arguments)
    if origin in (tuple, frozenset):
        item = _reader(arguments[0])
        return lambda value: origin(map(item, _items(value)))
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        inner = _reader(arguments[1])
        return lambda value: {name: inner(item) for name, item in _checked({"*": object}, value).items()}
    if origin is Annotated:
        hint = hint.__metadata__[0]
    elif hint is float:
        hint = (int, float)
    elif hint is types.NoneType:
        hint = _is_none
    return functools.partial(_checked, hint)


def _checked(expected: Any, value: Any) -> Any:
    if first_mismatch(expected, value) is not None:
        raise ValueError(f"not as expected: {value!r:.60}")
    return value


def _items(value: Any) -> Any:
    """Return the items of a list, or of the tuple that a list is before it is written."""
    return value if isinstance(value, tuple) else _checked([object], value)


def _is_none(value: object) -> bool:
    return value is None


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}

    def read(value: Any) -> Any:
        row = dict(zip(readers, value, strict=False)) if isinstance(value, list) else _checked({"*": object}, value)
        if not required <= set(row) <= set(readers) or len(row) < len(value):
            raise ValueError(f"not the fields of {kind.__name__}: {', '.join(row):.200}")
        return kind(**{name: readers[name](item) for name, item in row.items()})

    return read


def _union_reader(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        for reader in readers[:-1]:
            try:
                return reader(value)
            except ValueError:
                continue
        return readers[-1](value)

    return read


def _pair_reader(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if len(_items(value)) != len(readers):
            raise ValueError(f"not {len(readers)} values: {value!r:.60}")
        return tuple(reader(item) for reader, item in zip(readers, value, strict=True))

    return read
