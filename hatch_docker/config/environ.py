"""HATCH_DOCKER_* variables that override `[tool.hatch-docker]`: HATCH_DOCKER_BUILD_PACKAGES is `build.packages`.

A variable replaces the whole value of its option; an empty one counts as unset. Lists are JSON or items separated by
commas (caches: one per line), commands JSON or words quoted as in a shell, tables JSON or `A=1,B=2`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config.fields import Option, all_options, bare
from hatch_docker.config.options import PREFIX

IMAGES_VARIABLE = "HATCH_DOCKER_IMAGES"
# Variables that are no options: they are about this machine or this run, and change no image.
OTHER_VARIABLES: Mapping[str, str] = {
    IMAGES_VARIABLE: "The images to make, by their names between commas, `default` for that of the table itself.",
    "HATCH_DOCKER_CACHE_DIR": "The directory of the cache, instead of the user's cache directory.",
    "HATCH_DOCKER_REFRESH": "`1` asks index, mirror and registry again instead of remembering their answers for a day.",
    "HATCH_DOCKER_OFFLINE": "`1` uses the cache alone and fails where it does not suffice.",
    "HATCH_DOCKER_CA_BUNDLE": "A file of certificates to trust instead of the system's.",
    "HATCH_DOCKER_INSECURE_REGISTRIES": "Registries to speak plain HTTP to, `host:port`, between commas.",
    "HATCH_DOCKER_BUILDER_STAGE": "Set in the builder stage, where no image is made again.",
}

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
    options = {option.variable: option for option in all_options() if option.table is None}
    merged: dict[str, Any] = dict(table) if isinstance(table, Mapping) else {}
    variables: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or not environ[name].strip():
            continue
        if name not in options:
            import difflib

            close = difflib.get_close_matches(name, [*options, *OTHER_VARIABLES], 1, 0.8)
            problems.append(f"{name}: unknown variable" + (f"; did you mean {close[0]}?" if close else ""))
            continue
        option = options[name]
        try:
            value = _parse(option, environ[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        if _put(merged, option.path, value):
            variables[option.path] = name
    return Overrides(merged if isinstance(table, Mapping) else table, variables, tuple(problems))


def _put(table: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    for name in path[:-1]:
        below = table.get(name, {})
        if not isinstance(below, Mapping):
            return False  # not a table: the check of the whole says so
        table[name] = below = dict(below)
        table = below
    table[path[-1]] = value
    return True


def _parse(option: Option, text: str) -> Any:
    check = bare(option.check)
    kind = check["type"]
    if kind == "bool":
        if text.strip().lower() not in _FLAGS:
            raise ValueError("must be true or false")
        return _FLAGS[text.strip().lower()]
    if kind == "int":
        return int(text) if text.strip().isdecimal() and len(text) < 10 else text
    if kind == "dict":
        if text.lstrip().startswith("{"):
            return _json(text)
        pairs = [item.partition("=") for item in text.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("must be A=1,B=2, or a JSON object where a value holds a comma")
        return {name.strip(): value for name, _, value in pairs}
    if kind != "list":
        return text
    if text.lstrip().startswith("[") and not _ADDRESS.match(text):
        return _json(text)
    if bare(check["item"])["type"] == "table":
        raise ValueError("must be a JSON list of objects")
    if option.check.get("words"):
        try:
            return shlex.split(text)
        except ValueError as error:
            raise ValueError(f"is not quoted as in a shell: {error}") from error
    return [item.strip() for item in text.split("\n" if option.check.get("lines") else ",") if item.strip()]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from error
