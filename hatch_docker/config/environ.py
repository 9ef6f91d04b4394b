"""HATCH_DOCKER_* variables that override `[tool.hatch-docker]`: HATCH_DOCKER_BUILD_PACKAGES is `build.packages`.

A variable replaces the whole value of its option; an empty one counts as unset. Lists are JSON or items separated by
commas (caches: one per line), commands JSON or words quoted as in a shell, tables JSON or `A=1,B=2`.
"""

import difflib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config import OTHER_VARIABLES, PREFIX
from hatch_docker.config.schema import all_options
from hatch_docker.config.types import LINES, WORDS

_ADDRESS = re.compile(r"\s*\[[0-9a-fA-F]*:[0-9a-fA-F:.]*\]")  # a registry such as [::1]:5000 is no JSON
_FLAGS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The table with the variables applied, the variable that set each option, and the problems of the variables."""

    table: Mapping[str, Any]
    variables: Mapping[tuple[str, ...], str]
    problems: tuple[str, ...]


def override(table: Mapping[str, Any], environ: Mapping[str, str]) -> Overrides:
    """Apply every HATCH_DOCKER_* variable to a copy of a table."""
    options = {option.variable: option for option in all_options() if not option.is_table}
    merged: dict[str, Any] = dict(table)
    variables: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or not environ[name].strip():
            continue
        if name not in options:
            close = difflib.get_close_matches(name, [*options, *OTHER_VARIABLES], 1, 0.8)
            problems.append(f"{name}: unknown variable" + (f"; did you mean {close[0]}?" if close else ""))
            continue
        option = options[name]
        try:
            value = _parse(option.schema, environ[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if _put(merged, option.path, value):
            variables[option.path] = name
    return Overrides(merged, variables, tuple(problems))


def _put(table: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    for name in path[:-1]:
        below = table.get(name, {})
        if not isinstance(below, Mapping):
            return False  # not a table: the check of the whole says so
        table[name] = below = dict(below)
        table = below
    table[path[-1]] = value
    return True


def _parse(schema: Mapping[str, Any], text: str) -> Any:
    """Return the value that a variable's text means for an option of this schema."""
    kind, flag = schema["type"], _FLAGS.get(text.strip().lower())
    if kind == "boolean" or ("boolean" in kind and flag is not None):
        if flag is None:
            raise ValueError("must be true or false")
        return flag
    if kind == "integer":
        return int(text) if text.strip().isdecimal() and len(text) < 10 else text
    if kind == "object":
        if text.lstrip().startswith("{"):
            return _json(text)
        pairs = [item.partition("=") for item in text.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("must be A=1,B=2, or a JSON object where a value holds a comma")
        return {name.strip(): value for name, _, value in pairs}
    return text if kind == "string" else _parse_list(schema, text)


def _parse_list(schema: Mapping[str, Any], text: str) -> Any:
    if text.lstrip().startswith("[") and not _ADDRESS.match(text):
        return _json(text)
    if schema["items"]["type"] == "object":
        raise ValueError("must be a JSON list of objects")
    if schema.get("$comment") == WORDS:
        try:
            return shlex.split(text)
        except ValueError as error:
            raise ValueError(f"is not quoted as in a shell: {error}") from error
    return [item.strip() for item in text.split("\n" if schema.get("$comment") == LINES else ",") if item.strip()]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error
