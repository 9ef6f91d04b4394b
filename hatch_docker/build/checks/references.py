"""References of a command to Python modules, attributes and files: `python -m`, web servers, Celery, Flask."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.plan.debug import OPTIONS_WITH_VALUE

_PYTHON = re.compile(r"python3?(\.\d+)?")
_TARGET = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
SERVERS = frozenset({"daphne", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"})
# Options of servers: with a class as value; those that change the module search path; configuration files.
_CLASSES = frozenset({"-k", "--worker-class", "--logger-class", "--log-config", "--loop", "--http", "--ws"})
_PATHS = frozenset({"--app-dir", "--chdir", "--pythonpath", "--workdir", "--working-dir"})
_FILES = frozenset({"--config", "-c"})


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a Python `module` or `file`. `text`: the word of the command.

    `attribute`: a name that the module must define. `runs`: `python -m` executes the module.
    """

    text: str
    module: str = ""
    attribute: str = ""
    runs: bool = False
    file: str = ""


def references_of(words: Sequence[str], env: Mapping[str, str]) -> list[Reference]:
    """Return the references in a command, [] if this module does not know the program's syntax."""
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
    """Return the reference in the last value of one of `options`, or in `default`: module, module:name, or file."""
    target = default
    for before, word in zip(["", *words], words, strict=False):
        name, _, value = word.partition("=")
        target = word if before in options else value if name in options and value else target
    path, _, name = target.partition(":")
    if not target or "/" in path or path.endswith(".py"):
        return [Reference(target, file=path)] if path.endswith(".py") else []
    if not _MODULE.fullmatch(path):
        return []
    attribute = re.match(r"\w*", name)
    return [Reference(target, path, attribute[0] if attribute else "")]
