"""The error message for a wrong `[tool.hatch-docker]`: every problem at once, with file, line, path and correction.

Imported only when something is wrong, and so is tomlkit.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from hatch_docker.config import PREFIX, TABLE, Problem
from hatch_docker.config.suggest import unknown_option
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.toml_lines import dotted, line_of

SHOWN = 60  # characters of a wrong value in a message
SECRET = frozenset(("env", "args", "cache", "secrets"))  # options whose values may be secrets, and are not shown

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
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
    "misplaced_option": "is not read here; move it to {table}",
    "misplaced_table": "is not read here; the table is {table}",
}


def explain(problems: Sequence[Problem], pyproject: Path | None) -> ConfigError:
    """Return the ConfigError for the problems that were found: one line each, in the order of the files."""
    found: list[tuple[int, int, str]] = []
    for problem in problems:
        file = problem.file or pyproject
        above = (problem.variable,) if problem.variable else () if problem.file else TABLE
        path = (*above, *problem.location)
        line = line_of(file, path) if file and not problem.variable else 0
        where = f"{file.name}:{line}: " if file and line else ""
        order = 2 if problem.variable else int(file != pyproject)
        found.append((order, line, f"{where}{dotted(path)}: {_sentence(problem)}"))
    lines = [text for *_, text in sorted(found, key=lambda item: item[:2])]
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _sentence(problem: Problem) -> str:
    if problem.kind == "extra_forbidden":
        above = (problem.variable.removeprefix(PREFIX).lower(),) if problem.variable else ()  # of the lists of tables
        return unknown_option((*above, *problem.location))
    sentence = _SENTENCES[problem.kind].format(**problem.context)
    if problem.kind == "literal_error":
        sentence = sentence.replace("'", '"')
    is_secret = not SECRET.isdisjoint((*problem.location, *problem.variable.lower().split("_")))
    if is_secret or not sentence.startswith("must be ") or not isinstance(problem.value, str | int | float):
        return sentence
    shown = json.dumps(problem.value, ensure_ascii=False)
    # A value that may hold a login, is long, or is corrected by the sentence is not shown.
    login = re.search("@(?!sha256:)", shown)
    hidden = login or len(shown) > SHOWN or re.search(r': (\[.*\]|".*")$', sentence)
    return sentence if hidden else f"{sentence}, not {shown}"
