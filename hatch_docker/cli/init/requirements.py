"""Requirements and console scripts of a project: [project], Poetry's table, setup.cfg, setup.py, requirements.txt."""

import configparser
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

FILES = ("requirements.txt", "requirements.in")
# Extras that bring a server along.
SERVER_EXTRAS = {("fastapi", "standard"): "uvicorn", ("fastapi", "all"): "uvicorn", ("litestar", "standard"): "uvicorn"}


@dataclass(frozen=True, slots=True)
class RequirementsFile:
    """Requirements of a requirements file; `left_out` are its lines that [project] has no place for."""

    path: str
    lines: tuple[str, ...]
    left_out: tuple[str, ...]


def read_requirements_file(root: Path) -> RequirementsFile | None:
    """Read the requirements file at the root of a project, and the files that it includes; None if there is none."""
    name = next((name for name in FILES if (root / name).is_file()), None)
    if name is None:
        return None
    lines: dict[str, None] = {}
    left_out: list[str] = []
    for line in _logical_lines(root / name, ()):
        if _parse(line):
            lines[line] = None
        else:
            left_out.append(line)
    return RequirementsFile(name, tuple(lines), tuple(left_out))


def _logical_lines(path: Path, parents: tuple[Path, ...]) -> Iterator[str]:
    """Return the lines of a file and of those that it includes, without comments and hashes."""
    if path in parents or not path.is_file():
        return
    text = path.read_text("utf-8-sig", errors="replace").replace("\\\n", " ")
    for raw in text.splitlines():
        line = re.sub(r"\s--hash[=\s]\S+", "", re.sub(r"(^|\s)#.*", "", raw)).strip()
        if included := re.fullmatch(r"(?:-r|--requirement)[=\s]*(\S.*)", line):
            yield from _logical_lines((path.parent / included[1]).resolve(), (*parents, path))
        elif line:
            yield line


def _parse(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def required_names(root: Path, config: Mapping[str, Any]) -> set[str]:
    """Return the normalised names of what a project requires, as far as they can be read without running code."""
    names: set[str] = set()
    for requirement in filter(None, map(_parse, _requirement_lines(root, config))):
        name = canonicalize_name(requirement.name)
        names.add(name)
        names |= {SERVER_EXTRAS[name, extra] for extra in requirement.extras if (name, extra) in SERVER_EXTRAS}
    return names


def _requirement_lines(root: Path, config: Mapping[str, Any]) -> Iterator[str]:
    dependencies = _table(config, "project").get("dependencies")
    yield from (line for line in dependencies if isinstance(line, str)) if isinstance(dependencies, list) else ()
    for name, value in _table(config, "tool", "poetry", "dependencies").items():
        extras = value.get("extras", []) if isinstance(value, dict) else []
        yield f"{name}[{','.join(map(str, extras))}]"
    yield from _setup_cfg(root).get("install_requires", "").splitlines()
    if listed := read_requirements_file(root):
        yield from listed.lines
    if (root / "setup.py").is_file():
        # Every string of the program that looks like a requirement: a name too many does no harm.
        text = (root / "setup.py").read_text("utf-8", errors="replace")
        yield from re.findall(r"""["']([A-Za-z][\w.\-]*(?:\[[\w,\- ]*\])?)[^"'\n]*["']""", text)


def has_script(root: Path, config: Mapping[str, Any], name: str) -> bool | None:
    """Return whether a project has a console script that the image runs by default; None if only its backend knows."""
    scripts: set[str] = set(_table(config, "project").get("scripts", {}))
    scripts |= set(_table(config, "tool", "poetry", "scripts")) | set(_table(config, "tool", "flit", "scripts"))
    if scripts:
        return len(scripts) == 1 or name in {*map(canonicalize_name, scripts)}
    if "scripts" in _table(config, "project").get("dynamic", []) or "project" not in config:
        for file in ("setup.py", "setup.cfg"):
            if (root / file).is_file() and "console_scripts" in (root / file).read_text("utf-8", errors="replace"):
                return None
    return False


def _setup_cfg(root: Path) -> Mapping[str, str]:
    """Return the [options] of setup.cfg."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string((root / "setup.cfg").read_text("utf-8"))
        return dict(parser.items("options"))
    except (OSError, ValueError, configparser.Error):
        return {}


def _table(config: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value: Any = config
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
