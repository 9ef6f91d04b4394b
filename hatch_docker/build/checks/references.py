"""Modules, attributes and files of Python that a command names: `python -m`, servers of applications, Celery, Flask."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.plan.debug import OPTIONS_WITH_VALUE

_PYTHON = re.compile(r"python3?(\.\d+)?")
_TARGET = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
SERVERS = frozenset({"daphne", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"})
# Options of servers that take a class, those that change where modules are searched, and files that may do so.
_CLASSES = frozenset({"-k", "--worker-class", "--logger-class", "--log-config", "--loop", "--http", "--ws"})
_PATHS = frozenset({"--app-dir", "--chdir", "--pythonpath", "--workdir", "--working-dir"})
_FILES = frozenset({"--config", "-c"})


@dataclass(frozen=True, slots=True)
class Reference:
    """A module, with `attribute` one of its names, or with `runs` one that `python -m` runs; or a `file`.

    `text` is how the command has it.
    """

    text: str
    module: str = ""
    attribute: str = ""
    runs: bool = False
    file: str = ""


def references_of(words: Sequence[str], env: Mapping[str, str]) -> list[Reference]:
    """Return what a command names, as far as it is known how its program reads its words."""
    if not words:
        return []
    program, rest = words[0].rpartition("/")[2], list(words[1:])
    if _PYTHON.fullmatch(program):
        return _of_python(rest, env)
    if any(word.partition("=")[0] in _PATHS for word in rest):
        return []  # modules may be searched elsewhere
    if program in SERVERS:
        return [] if _FILES.intersection(rest) else _of_server(rest)
    if program == "celery":
        return _of_option(rest, ("-A", "--app"), "")
    if program == "flask":
        return _of_option(rest, ("-A", "--app"), env.get("FLASK_APP", ""))
    if program in ("streamlit", "fastapi") and rest[:1] in (["run"], ["dev"]) and rest[1:2]:
        return [] if rest[1].startswith("-") or "://" in rest[1] else [Reference(rest[1], file=rest[1])]
    return []


def _of_python(words: list[str], env: Mapping[str, str]) -> list[Reference]:
    while words and words[0].startswith("-") and words[0] not in ("-m", "-c", "-"):
        words = words[2 if words[0] in OPTIONS_WITH_VALUE else 1 :]
    if words[:1] == ["-m"] and words[1:]:
        module = Reference(words[1], words[1], runs=True)
        return [module, *references_of(words[1:], env)] if _MODULE.fullmatch(words[1]) else []
    return [Reference(words[0], file=words[0])] if words and words[0].endswith(".py") else []


def _of_server(words: Sequence[str]) -> list[Reference]:
    for before, word in zip(["", *words], words, strict=False):
        match = _TARGET.fullmatch(word)
        if match and before not in _CLASSES:
            return [Reference(word, match["module"], match["name"].partition(".")[0])]
    return []


def _of_option(words: Sequence[str], options: Sequence[str], default: str) -> list[Reference]:
    """Return what the option of an application names: a module, module:name, module:name(...), or a file."""
    given = default
    for before, word in zip(["", *words], words, strict=False):
        name, _, value = word.partition("=")
        given = word if before in options else value if name in options and value else given
    path, _, name = given.partition(":")
    if not given or "/" in path or path.endswith(".py"):
        return [Reference(given, file=path)] if path.endswith(".py") else []
    if not _MODULE.fullmatch(path):
        return []
    attribute = re.match(r"\w*", name)
    return [Reference(given, path, attribute[0] if attribute else "")]
