"""The error message for a wrong `[tool.hatch-docker]`: every problem at once, with file, line, path and correction.

Imported only when something is wrong, and so is tomlkit.
"""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatch_docker.config.environ import Overrides
from hatch_docker.config.fields import all_options, options_of
from hatch_docker.config.options import TABLE, FileConfig
from hatch_docker.config.types import Problem
from hatch_docker.core.errors import ConfigError

SHOWN = 60  # characters of a wrong value in a message
LAST = 1 << 30  # the line of what is in no file

_SENTENCES = {
    "missing": "is missing",
    "empty": "must not be empty",
    "unicode": "must be valid Unicode",
    "dict": "must be a table",
    "list": "must be a list",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "str": "must be a string",
    "least": "must be at least {}",
    "most": "must be at most {}",
    "must": "{}",
}
_WITHOUT_VALUE = frozenset(("missing", "empty", "unicode"))


def explain(problems: Sequence[Problem], overrides: Overrides | None, pyproject: Path | None) -> ConfigError:
    """Return the ConfigError for the problems that the checks found: one line each, in the order of the file."""
    variables = overrides.variables if overrides else {}
    file = _Lines(pyproject)
    found: list[tuple[int, str]] = []
    for problem in problems:
        location = problem.location
        sentence = _sentence(problem)
        set_by = next((path for path in variables if location[: len(path)] == path), None)
        if set_by is not None:
            found.append((LAST, f"{_dotted((variables[set_by], *location[len(set_by) :]))}: {sentence}"))
            continue
        line = file.find((*TABLE, *location))
        where = f"{pyproject.name}:{line}: " if pyproject and line else ""
        found.append((line or 0, f"{where}{_dotted((*TABLE, *location))}: {sentence}"))
    lines = [text for _, text in sorted(found, key=lambda item: item[0])]
    return ConfigError("\n".join(dict.fromkeys([*lines, *(overrides.problems if overrides else ())])))


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
    if problem.kind == "unknown":
        return _unknown(problem.location)
    if problem.kind == "said":
        return str(problem.expected)
    if problem.kind == "word":
        *words, last = (json.dumps(word) for word in problem.expected)
        sentence = f"must be {', '.join(words)} or {last}"
    else:
        sentence = _SENTENCES[problem.kind].format(problem.expected)
    if problem.kind in _WITHOUT_VALUE or "env" in problem.location or not isinstance(problem.value, str | int | float):
        return sentence
    shown = json.dumps(problem.value, ensure_ascii=False)
    # A value that may be a secret, or is long, is not shown.
    return sentence if "@" in shown or len(shown) > SHOWN else f"{sentence}, not {shown}"


def _unknown(location: tuple[Any, ...]) -> str:
    name = str(location[-1])
    location = location[2:] if location[0] == "images" else location
    options = list(options_of(FileConfig, ("files",))) if location[0] == "files" else list(all_options())
    above = tuple(part for part in location[:-1] if isinstance(part, str))
    beside = [option.path[-1] for option in options if option.path[:-1] == above]
    elsewhere = [option.name for option in all_options() if option.path[-1] == name]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), beside, 1) or elsewhere
    if not close:
        return "unknown option"
    return "unknown option; did you mean " + " or ".join(f'"{option}"' for option in close) + "?"


class _Lines:
    """Line numbers of values in a TOML file: a value is replaced by a marker, whose line is then looked up."""

    _MARK = "hatch-docker-looks-for-this-line"

    def __init__(self, path: Path | None) -> None:
        try:
            self._text = path.read_text("utf-8") if path else ""
        except (OSError, UnicodeDecodeError):
            self._text = ""

    def find(self, path: Sequence[Any]) -> int | None:
        """Return the line of the value at a path, else of the nearest table around it, else None."""
        while path and self._text:
            try:
                number = self._mark(path)
            except (KeyError, IndexError, TypeError, ValueError):  # tomlkit's errors are among these
                number = None
            if number is not None:
                return number
            path = path[:-1]
        return None

    def _mark(self, path: Sequence[Any]) -> int | None:
        import tomlkit
        from tomlkit.items import AbstractTable

        document = tomlkit.parse(self._text)
        container: Any = document
        for part in path[:-1]:
            container = container[part]
        value = container[path[-1]]
        if isinstance(value, AbstractTable):
            value.comment(self._MARK)
        else:
            container[path[-1]] = self._MARK
        before, mark, _ = tomlkit.dumps(document).partition(self._MARK)
        has_header = before.rpartition("\n")[2].lstrip().startswith("[")
        if isinstance(value, AbstractTable) and not has_header:  # inline, or made by dotted names
            return self._mark((*path, next(iter(value))))
        return before.count("\n") + 1 if mark else None
