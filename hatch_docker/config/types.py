"""Checks of values in `[tool.hatch-docker]`, written as plain dictionaries, and the function that applies them.

Written here and not by a library because it runs in every build: importing a library for it takes a tenth of the time
of an unchanged build. `json` adds what the schema for editors cannot read from a check.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from hatch_docker.config import values

Check: TypeAlias = dict[str, Any]
Location: TypeAlias = tuple[str | int, ...]
WRONG = object()  # what the walk returns for a value that is not as it must be


class Problem(NamedTuple):
    """A wrong value: the kind of problem, its location below the table, the value, and what was expected."""

    kind: str
    location: Location
    value: Any
    expected: Any = None


def text(must: str, pattern: str) -> Check:
    """Return the check of a string that matches a pattern; `must` says in words what it must be."""
    return {"type": "str", "pattern": pattern, "must": must}


def checked(call: Callable[[Any], Any], inner: Check, **json: object) -> Check:
    """Return a check that calls a function of values.py, which checks or converts, after `inner` accepted the value."""
    return {"type": "after", "call": call, "inner": inner, "json": json}


def guarded(call: Callable[[Any], Any], inner: Check) -> Check:
    """Return a check that calls a function of values.py before `inner`, because it has the better message."""
    return {"type": "before", "call": call, "inner": inner}


def list_of(item: Check, at_least: int = 0) -> Check:
    """Return the check of a list, which becomes a tuple."""
    return {"type": "list", "item": item, "min_length": at_least}


def lines_of(item: Check) -> Check:
    """Return the check of a list of texts that may contain commas; a variable has one item per line."""
    return list_of(item) | {"lines": True}


def command_of(at_least: int = 0) -> Check:
    """Return the check of a list of arguments."""
    return guarded(values.arguments, list_of(STRING, at_least)) | {"words": True}


def strings(must: str, pattern: str) -> Check:
    """Return the check of a table of strings, whose names match a pattern; `must` says it in words."""
    return {"type": "dict", "name": text(must, pattern), "value": guarded(values.string, STRING)}


def one_of(*words: str) -> Check:
    """Return the check of a string that is one of `words`."""
    return {"type": "word", "words": words}


def table_check(cls: type) -> Check:
    """Return the check of a table with the fields of a class and no others."""
    return {"type": "table", "cls": cls}


def toml_name(name: str) -> str:
    """Return the TOML name of a field: kebab-case, without the underscore that makes `from_` a Python name."""
    return name.rstrip("_").replace("_", "-")


def walk(check: Check, value: Any, problems: list[Problem], location: Location = ()) -> Any:
    """Return the value as Config holds it; if it is wrong, add to `problems` and return WRONG."""
    return _WALKS[check["type"]](check, value, problems, location)


def _wrong(problems: list[Problem], kind: str, location: Location, value: Any, expected: Any = None) -> Any:
    problems.append(Problem(kind, location, value, expected))
    return WRONG


def _after(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    found = walk(check["inner"], value, problems, location)
    return found if found is WRONG else _plain(check, found, problems, location)


def _before(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    found = _plain(check, value, problems, location)
    return found if found is WRONG else walk(check["inner"], found, problems, location)


def _plain(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    try:
        return check["call"](value)
    except ValueError as error:
        return _wrong(problems, "said", location, value, str(error))


def _bool(_check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    return value if isinstance(value, bool) else _wrong(problems, "bool", location, value)


def _int(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return _wrong(problems, "int", location, value)
    if value < check["least"]:
        return _wrong(problems, "least", location, value, check["least"])
    return value if value <= check["most"] else _wrong(problems, "most", location, value, check["most"])


def _str(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    good = isinstance(value, str) and (value.isascii() or not re.search("[\ud800-\udfff]", value))
    if "pattern" in check:
        good = good and re.fullmatch(check["pattern"], value) is not None
        return value if good else _wrong(problems, "must", location, value, check["must"])
    if not isinstance(value, str):
        return _wrong(problems, "str", location, value)
    if not good:
        return _wrong(problems, "unicode", location, value)
    return value if len(value) >= check.get("min_length", 0) else _wrong(problems, "empty", location, value)


def _word(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    known = isinstance(value, str) and value in check["words"]
    return value if known else _wrong(problems, "word", location, value, check["words"])


def _list(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    if not isinstance(value, list | tuple):
        return _wrong(problems, "list", location, value)
    found = tuple(walk(check["item"], item, problems, (*location, number)) for number, item in enumerate(value))
    if WRONG in found:
        return WRONG
    return found if len(found) >= check["min_length"] else _wrong(problems, "empty", location, value)


def _dict(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    if not isinstance(value, dict):
        return _wrong(problems, "dict", location, value)
    found = {}
    for name, item in value.items():
        key = walk(check["name"], name, problems, (*location, name))
        found[key] = walk(check["value"], item, problems, (*location, name))
    return WRONG if WRONG in found or WRONG in found.values() else found


def _table(check: Check, value: Any, problems: list[Problem], location: Location) -> Any:
    if not isinstance(value, Mapping):
        return _wrong(problems, "dict", location, value)
    known = {toml_name(field.name): field for field in dataclasses.fields(check["cls"])}
    given: dict[str, Any] = {}
    for name, field in known.items():
        if name in value:
            given[field.name] = walk(field.metadata["schema"], value[name], problems, (*location, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            given[field.name] = _wrong(problems, "missing", (*location, name), None)
    unknown = [_wrong(problems, "unknown", (*location, name), value[name]) for name in value if name not in known]
    return WRONG if unknown or WRONG in given.values() else check["cls"](**given)


_WALKS: Mapping[str, Callable[[Check, Any, list[Problem], Location], Any]] = {
    "after": _after, "before": _before, "plain": _plain, "bool": _bool, "int": _int, "str": _str, "word": _word,
    "list": _list, "dict": _dict, "table": _table,
}

FILLED: Check = {"type": "str", "min_length": 1}
STRING = checked(values.no_nul, {"type": "str"})
FLAG: Check = {"type": "bool"}
COUNT: Check = {"type": "int", "least": 0, "most": 1000}
DURATION = checked(values.duration, FILLED, pattern="^([0-9]+(h|ms|m|s))+$")
PORT: Check = {"type": "plain", "call": values.port, "json": values.PORT_SCHEMA}
