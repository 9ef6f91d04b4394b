"""The error message for a wrong `[tool.hatch-docker]`: every problem at once, with file, line, path and correction.

Imported only when something is wrong, and so is tomlkit.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatch_docker.config.environ import Overrides
from hatch_docker.config.problem import Problem
from hatch_docker.config.suggest import unknown_option
from hatch_docker.core.errors import ConfigError

SHOWN = 60  # characters of a wrong value in a message
_MARK = "hatch-docker-looks-for-this-line"
SECRET = frozenset(("env", "args", "cache"))  # options whose values may be secrets, and are not shown

# Sentences by pydantic's types of errors; what is in braces is of the error.
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
    "literal_error": "{words}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
    "misplaced_option": "is not read here; move it to {table}",
    "misplaced_table": "is not read here; the table is {table}",
}


def explain(problems: Sequence[Problem], overrides: Overrides | None, pyproject: Path | None) -> ConfigError:
    """Return the ConfigError for the problems that were found: one line each, in the order of the file."""
    variables = overrides.variables if overrides else {}
    last = list(overrides.problems) if overrides else []
    texts: dict[Path | None, str] = {}
    found: list[tuple[bool, int, str]] = []
    for problem in problems:
        path, sentence, file = problem.location, _sentence(problem), problem.file or pyproject
        set_by = next((option for option in variables if path[2 : len(option) + 2] == option), None)
        if set_by is not None:
            last.append(f"{_dotted((variables[set_by], *path[len(set_by) + 2 :]))}: {sentence}")
            continue
        if file not in texts:
            texts[file] = _read(file)
        line = _line(texts[file], path)
        where = f"{file.name}:{line}: " if file and line else ""
        found.append((file != pyproject, line, f"{where}{_dotted(path)}: {sentence}"))
    lines = [text for *_, text in sorted(found, key=lambda item: item[:2])]
    return ConfigError("\n".join(dict.fromkeys([*lines, *last])))


def _read(file: Path | None) -> str:
    try:
        return file.read_text("utf-8") if file else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _dotted(path: Sequence[Any]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _sentence(problem: Problem) -> str:
    if problem.kind == "extra_forbidden":
        return unknown_option(problem.location[2:])
    words = _words(problem.context.get("expected", ""))
    sentence = _SENTENCES[problem.kind].format(**problem.context, words=words)
    is_secret = not SECRET.isdisjoint(problem.location)
    if is_secret or not sentence.startswith("must be ") or not isinstance(problem.value, str | int | float):
        return sentence
    shown = json.dumps(problem.value, ensure_ascii=False)
    # A value that may hold a login, is long, or is corrected by the sentence is not shown.
    login = re.search("@(?!sha256:)", shown)
    hidden = login or len(shown) > SHOWN or re.search(r': (\[.*\]|".*")$', sentence)
    return sentence if hidden else f"{sentence}, not {shown}"


def _words(expected: str) -> str:
    """Return the sentence about the words that pydantic expected: `'a', 'b' or 'c'`."""
    *words, last = re.findall("'(.*?)'", expected) or [""]
    first = '", "'.join(words)
    return f'must be "{first}" or "{last}"'


def _line(text: str, path: Sequence[Any]) -> int:
    """Return the line of the value at a path in a TOML file, else of the nearest table around it, else 0."""
    while path and text:
        try:
            if line := _marked_line(text, path):
                return line
        except (KeyError, IndexError, TypeError, ValueError):  # tomlkit's errors are among these
            pass
        path = path[:-1]
    return 0


def _marked_line(text: str, path: Sequence[Any]) -> int:
    """Put a marker in the place of a value, and return the line where it is, 0 if it is nowhere."""
    import tomlkit
    from tomlkit.items import Table

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
