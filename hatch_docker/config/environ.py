"""HATCH_DOCKER_* variables that override `[tool.hatch-docker]`: HATCH_DOCKER_BUILD_PACKAGES is `build.packages`.

A variable replaces the whole value of its option; an empty variable counts as unset. A list is JSON or items separated
by commas (caches: by line breaks), a command is JSON or words quoted as in a shell, a table is JSON or `A=1,B=2`. A
table that starts with `+` is added to the option's value.
"""

import copy
import difflib
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from hatch_docker.config import Location, Problem
from hatch_docker.config.schema import Option, shipped_options
from hatch_docker.config.types import LINES, WORDS
from hatch_docker.core.context import VARIABLES

ADD = "+"
_ADDRESS = re.compile(r"\[[0-9a-fA-F]*:[0-9a-fA-F:.]*\]")  # a registry such as [::1]:5000, which is not JSON
_FLAGS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def override(
    table: Mapping[str, Any], variables: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Location, str], list[Problem]]:
    """Return a copy of the table with the variables applied, the variable of each overridden option, and problems."""
    options = {option.variable: option for option in shipped_options() if not option.is_table}
    merged: dict[str, Any] = copy.deepcopy(dict(table))
    set_by: dict[Location, str] = {}
    problems: list[Problem] = []
    for name in sorted(variables):
        try:
            option, value = _parse(name, variables[name], options)
        except ValueError as error:
            problems.append(Problem("value_error", (), None, {"error": error}, name))
            continue
        *above, last = option.path
        place = merged.setdefault(above[0], {}) if above else merged
        if isinstance(place, dict):  # otherwise the validation of the result reports that it must be a table
            before = place.get(last)
            adds = variables[name].lstrip().startswith(ADD) and isinstance(value, dict)
            place[last] = {**before, **value} if adds and isinstance(before, dict) else value
            set_by[option.path] = name
    return merged, set_by, problems


def _parse(name: str, text: str, options: Mapping[str, Option]) -> tuple[Option, Any]:
    """Return the option of a variable and the value for its text; raises ValueError."""
    if name not in options:
        close = difflib.get_close_matches(name, [*options, *VARIABLES], 1, 0.8)
        raise ValueError(f"unknown variable; did you mean {close[0]}?" if close else "unknown variable")
    schema = options[name].schema
    return options[name], text if schema["type"] == "string" else _value(schema, text.strip())


def _value(schema: Mapping[str, Any], text: str) -> Any:
    kind = schema["type"]
    if "boolean" in kind and text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    if kind == "boolean":
        raise ValueError("must be true or false")
    if kind == "integer":
        return int(text) if text.isdecimal() and len(text) < 10 else text
    text = text.removeprefix(ADD) if kind == "object" else text
    if text.startswith("{" if kind == "object" else "[") and not _ADDRESS.match(text):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is not JSON: {error}") from error
    if kind == "object":
        pairs = [item.partition("=") for item in text.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("must be A=1,B=2, or a JSON object if a value contains a comma")
        return {name.strip(): value for name, _, value in pairs}
    if schema["items"]["type"] == "object":
        raise ValueError("must be a JSON list of objects")
    if schema.get("$comment") == WORDS:
        try:
            return shlex.split(text)
        except ValueError as error:
            raise ValueError(f"is not quoted as in a shell: {error}") from error
    return [item.strip() for item in text.split("\n" if schema.get("$comment") == LINES else ",") if item.strip()]
