"""What a project needs, wherever it says so: [project], Poetry's table, setup.cfg, requirements.txt."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

FILES = ("requirements.txt", "requirements.in")
# What brings another package along that matters to us.
BRINGS = {("fastapi", "standard"): "uvicorn", ("fastapi", "all"): "uvicorn", ("litestar", "standard"): "uvicorn"}


@dataclass(frozen=True, slots=True)
class Listed:
    """What a requirements file asks for. `left_out` are its lines that [project] has no place for."""

    path: str
    lines: tuple[str, ...]
    left_out: tuple[str, ...]


def read_listed(root: Path) -> Listed | None:
    """The requirements file at the root of a project, with those that it includes; None where there is none."""
    name = next((name for name in FILES if (root / name).is_file()), None)
    if name is None:
        return None
    lines: list[str] = []
    left_out: list[str] = []
    for line in _logical_lines(root / name, ()):
        found = _requirement(line)
        (lines if found else left_out).append(found or line)
    return Listed(name, tuple(dict.fromkeys(lines)), tuple(left_out))


def _logical_lines(path: Path, above: tuple[Path, ...]) -> Iterator[str]:
    """The lines of a file without comments and hashes, and those of the files that it includes, once each."""
    if path in above or not path.is_file():
        return
    text = path.read_text("utf-8-sig", errors="replace").replace("\\\n", " ")
    for raw in text.splitlines():
        line = re.sub(r"\s--hash[=\s]\S+", "", re.sub(r"(^|\s)#.*", "", raw)).strip()
        if included := re.fullmatch(r"(?:-r|--requirement)[=\s]*(\S.*)", line):
            yield from _logical_lines((path.parent / included[1]).resolve(), (*above, path))
        elif line:
            yield line


def _requirement(line: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(line)
    except InvalidRequirement:
        return ""
    return line


def needed(root: Path, config: Mapping[str, Any]) -> set[str]:
    """The normalised names of what a project needs, as far as it can be read without running anything."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    names: set[str] = set()
    for line in _lines(root, config):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        names.add(name)
        names |= {BRINGS[name, extra] for extra in requirement.extras if (name, extra) in BRINGS}
    return names


def _lines(root: Path, config: Mapping[str, Any]) -> Iterator[str]:
    yield from _strings(_table(config, "project").get("dependencies"))
    for name, value in _table(config, "tool", "poetry", "dependencies").items():
        extras = value.get("extras", []) if isinstance(value, dict) else []
        yield f"{name}[{','.join(map(str, extras))}]"
    yield from _setup_cfg(root).get("install_requires", "").splitlines()
    if listed := read_listed(root):
        yield from listed.lines
    if (root / "setup.py").is_file():
        # A list of requirements in a program: each of its strings may be one, and a name too many does no harm.
        text = (root / "setup.py").read_text("utf-8", errors="replace")
        yield from re.findall(r"""["']([A-Za-z][\w.\-]*(?:\[[\w,\- ]*\])?)[^"'\n]*["']""", text)


def has_script(root: Path, config: Mapping[str, Any], name: str) -> bool | None:
    """Whether a project has a console script that will be taken for its program; None where only its backend knows."""
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


def _strings(value: Any) -> Iterable[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
