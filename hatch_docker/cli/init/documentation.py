"""Commands in a project's documentation. They show which program its users start."""

import re
from collections.abc import Iterator
from pathlib import Path

NEVER = 1 << 30
FILES = ("Procfile", "README.md", "README.rst", "README.txt", "README", "Dockerfile")
MAX_SIZE = 1 << 20  # bytes; larger files are not read
_START = r"(?:python[\d.]*(?:\s+-[a-zA-Z])*\s+|\s-A\s+|\s--app[ =]|\brun\s+|\bdev\s+)(?:\./)?"


def documented_commands(root: Path) -> str:
    """Return the commands in a project's README, Procfile and Dockerfile, one a line."""
    lines: list[str] = []
    for name in FILES:
        path = root / name
        if path.is_file() and path.stat().st_size <= MAX_SIZE:
            text = path.read_text("utf-8", errors="replace")
            lines += _commands(text) if name.startswith("README") else _words(text)
    return "\n".join(lines)


def _commands(text: str) -> Iterator[str]:
    """Yield the code in a README: in fenced blocks, indented, after a prompt, or between backticks."""
    fenced = False
    for line in text.splitlines():
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        elif fenced or re.match(r"    |\t|\s*[$>] ", line):
            yield re.sub(r"^\s*(?:[$>] )?", "", line)
        else:
            yield from re.findall(r"`([^`\n]+)`", line)


def _words(text: str) -> Iterator[str]:
    """Yield the commands of a Procfile, or of CMD and ENTRYPOINT in a Dockerfile, without quotes."""
    for line in text.splitlines():
        if match := re.match(r"(?:\w+:|CMD|ENTRYPOINT)\s+(.*)", line):
            yield " ".join(re.findall(r"[^\s\"',\[\]]+", match[1]))


def first_mention(commands: str, module: str, path: Path, target: str = "") -> int:
    """Return the position of the first command that runs a module, by its name, path or `target`, or NEVER."""
    names = "|".join(re.escape(name) for name in (path.as_posix(), f"{module}.py", module))
    pattern = rf"{_START}(?:{names})(?![\w/]|\.\w)"
    if ":" in target:
        pattern += rf"|(?<![\w.]){re.escape(target)}\b"
    match = re.search(pattern, commands)
    return match.start() if match else NEVER


def named_script(commands: str, scripts: list[str]) -> str:
    """Return the first of the project's scripts that a command starts, "" if none does."""
    for line in commands.splitlines():
        words = re.sub(r"^(?:(?:uv|poetry|pdm|hatch|pipenv) run |python[\d.]* -m )", "", line).split()
        if words and words[0] in scripts:
            return words[0]
    return ""
