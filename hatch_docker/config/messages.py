"""The error message for a wrong `[tool.hatch-docker]`: all problems, each with file, line, path and correction.

This module and tomlkit are imported only if there is a problem.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from hatch_docker.config import PREFIX, TABLE, Problem
from hatch_docker.config.suggest import unknown_option_message
from hatch_docker.core.errors import ConfigError

_MARKER = "hatch-docker-looks-for-this-line"
LONGEST_VALUE = 60  # characters of a wrong value in a message; longer values are not printed
SECRET_OPTIONS = frozenset(("env", "args", "cache", "secrets"))  # options whose values are never printed

# Messages by error type; the fields in braces come from Problem.context.
_SENTENCES = {
    "missing": "is missing",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
    "misplaced_option": "is not read here; move it to {table}",
    "misplaced_table": "is not read here; the table is {table}",
}


def explain(problems: Sequence[Problem], pyproject: Path | None) -> ConfigError:
    """Return a ConfigError with one line for each problem, in the order of the files' lines, then the variables."""
    found: list[tuple[int, int, str]] = []
    for problem in problems:
        file = problem.file or pyproject
        above = (problem.variable,) if problem.variable else () if problem.file else TABLE
        path = (*above, *problem.location)
        line = _line_of(file, path) if file and not problem.variable else 0
        where = f"{file.name}:{line}: " if file and line else ""
        order = 2 if problem.variable else int(file != pyproject)
        found.append((order, line, f"{where}{_dotted(path)}: {_sentence(problem)}"))
    lines = [text for *_, text in sorted(found, key=lambda item: item[:2])]
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _sentence(problem: Problem) -> str:
    if problem.kind == "extra_forbidden":
        # The variable of a list of tables, such as HATCH_DOCKER_FILES.
        above = (problem.variable.removeprefix(PREFIX).lower(),) if problem.variable else ()
        return unknown_option_message((*above, *problem.location))
    sentence = _SENTENCES[problem.kind].format(**problem.context)
    if problem.kind == "literal_error":
        sentence = sentence.replace("'", '"')
    is_secret = not SECRET_OPTIONS.isdisjoint((*problem.location, *problem.variable.lower().split("_")))
    if is_secret or not sentence.startswith("must be ") or not isinstance(problem.value, str | int | float):
        return sentence
    shown = json.dumps(problem.value, ensure_ascii=False)
    # Not printed: a value that may contain a login, a long value, and a value whose correction is in the message.
    login = re.search("@(?!sha256:)", shown)
    hidden = login or len(shown) > LONGEST_VALUE or re.search(r': (\[.*\]|".*")$', sentence)
    return sentence if hidden else f"{sentence}, not {shown}"


def _line_of(file: Path, path: Sequence[Any]) -> int:
    """Return the line number of the value at a path in a TOML file, else of the nearest table around it.

    Returns 0 if neither is found or the file is unreadable: the message then has no line number.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return 0
    while path:
        try:
            if line := _marked_line(text, path):
                return line
        except (KeyError, IndexError, TypeError, ValueError):  # tomlkit's exceptions are subclasses of these
            pass
        path = path[:-1]
    return 0


def _dotted(path: Sequence[Any]) -> str:
    """Return the dotted TOML name of a path, with the indexes of items: `tool.a."b c"[0].d`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _marked_line(text: str, path: Sequence[Any]) -> int:
    """Replace a value by a marker and return the line number of the marker, 0 if it is not found."""
    document = tomlkit.parse(text)
    container: Any = document
    for part in path[:-1]:
        container = container[part]
    value = container[path[-1]]
    if isinstance(value, Table):
        value.comment(_MARKER)
    else:
        container[path[-1]] = _MARKER
    before, marker, _ = tomlkit.dumps(document).partition(_MARKER)
    # A table without a header, made by dotted names: use the line of its first value.
    if isinstance(value, Table) and not before.rpartition("\n")[2].lstrip().startswith("["):
        return _marked_line(text, (*path, next(iter(value))))
    return before.count("\n") + 1 if marker else 0
