"""pyproject.toml: reading, checks, and its [build-system] table (PEP 518)."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.text import abbreviate
from hatch_docker.project.workspace import workspace_members

HATCHLING = "hatchling.build"
LEGACY_FILES = ("setup.py", "setup.cfg")
LEGACY = (("setuptools",), "setuptools.build_meta:__legacy__", ())  # without [build-system] (PEP 517)
BuildSystem = tuple[tuple[str, ...], str, tuple[str, ...]]
"""requires, build-backend and backend-path of [build-system]."""
OURS = "hatch-docker"  # the name of our table below [tool]
_HEADER = re.compile(r"\s*(\[[^][]*\]|\[\[[^][]*\]\])\s*(#.*\s*)?")
_OUR_HEADER = re.compile(rf"""\s*\[\[?\s*["']?tool["']?\s*\.\s*["']?{OURS}["']?\s*[].]""")


def read_pyproject(root: Path) -> dict[str, Any]:
    """Return the pyproject.toml of a directory, empty if it has only a setup.py; raises ConfigError without either."""
    path = root / "pyproject.toml"
    if not path.is_file():
        if (root / "setup.py").is_file():
            return {}
        raise ConfigError(
            f"there is no pyproject.toml and no setup.py in {root}: go to the project's directory"
            f"{above(root) or below(root)}, or have `hatch-docker init` write one"
        )
    config = read_toml(path)
    check_tables(config)
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises ConfigError if it is unreadable or not TOML."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_toml(path, text)


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Return the tables of a TOML file's text; raises ConfigError if it is not TOML. `path`: for the message."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        bom = "it begins with a byte order mark, which TOML does not allow; save it without one"
        why = bom if text[:1] == "\ufeff" else error
        raise ConfigError(f"cannot read {path}: {why}") from error


def check_tables(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if build-system, project or tool of pyproject.toml is not a table."""
    for name in ("build-system", "project", "tool"):
        if not isinstance(config.get(name, {}), dict):
            raise ConfigError(f"pyproject.toml: {name} must be a table")


def below(root: Path) -> str:
    """Return a hint such as " (a, b and 7 more)": projects up to two levels below a directory, "" if there are none."""
    files = (path for pattern in ("*/", "*/*/") for path in root.glob(f"{pattern}pyproject.toml"))
    names = sorted(str(path.parent.relative_to(root)) for path in files)
    return f" ({abbreviate(names, 2)})" if names else ""


def above(root: Path) -> str:
    """Return the end of a sentence that names the project above a directory, "" if there is none."""
    found = next((place for place in root.resolve().parents if (place / "pyproject.toml").is_file()), None)
    return f", which may be {found}" if found else ""


def project_of_wheel(wheel: Path) -> Path:
    """Return the nearest directory above a wheel that has a pyproject.toml, else the wheel's directory."""
    return next((place for place in wheel.parents if (place / "pyproject.toml").is_file()), wheel.parent)


def check_project(root: Path, config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a pyproject.toml without a project: setuptools would build a wheel without a name."""
    if config.keys() & {"project", "build-system"} or any((root / name).is_file() for name in LEGACY_FILES):
        return
    if members := [os.path.relpath(path, root) for path in sorted(workspace_members(root, config))]:
        raise ConfigError(
            f"{root} is a workspace and not a project: go to one of its members ({', '.join(members[:5])})"
        )
    raise ConfigError(
        f"{root / 'pyproject.toml'} has neither [project] nor [build-system]: have `hatch-docker init` write them"
    )


def build_system(config: Mapping[str, Any]) -> BuildSystem:
    """Return requires, build-backend and backend-path of a pyproject.toml (PEP 518); raises ConfigError."""
    table = config.get("build-system")
    if table is None:
        return LEGACY
    requires, backend = table.get("requires"), table.get("build-backend", LEGACY[1])
    paths = table.get("backend-path", [])
    wrong = "" if isinstance(backend, str) else "build-backend must be a string"
    for name, value in (("requires", requires), ("backend-path", paths)):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            wrong = f"{name} must be a list of strings"
    if wrong:
        raise ConfigError(f"pyproject.toml: [build-system] is not valid (PEP 518): {wrong}")
    return tuple(requires), backend, tuple(paths)


def static_table(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table [project] (PEP 621) without `dynamic`."""
    table = tables.get("project")
    return {name: value for name, value in table.items() if name != "dynamic"} if isinstance(table, dict) else {}


def dynamic_fields(tables: Mapping[str, Any]) -> list[str] | None:
    """Return the fields in project.dynamic; None without [project], because then the backend sets all fields."""
    table = tables.get("project")
    if not isinstance(table, dict):
        return None
    fields = table.get("dynamic", [])
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        raise ConfigError(f"pyproject.toml: project.dynamic must be an array of strings, not {fields!r}")
    return fields


def with_isolated_build(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables with `build.isolated = "always"` in [tool.hatch-docker], unless they already set it."""
    tool = tables.get("tool", {})
    table = tool.get("hatch-docker", {})
    build = table.get("build", {}) if isinstance(table, dict) else {}
    if not isinstance(build, dict):
        return dict(tables)
    return {**tables, "tool": {**tool, "hatch-docker": {**table, "build": {"isolated": "always", **build}}}}


def without_our_table(text: str) -> str:
    """Return a pyproject.toml's text without [tool.hatch-docker]; the whole text if that would change other tables."""
    kept: list[str] = []
    comments: list[str] = []  # kept if the next table's header follows: they may describe that table
    ours = False
    for line in re.split(r"(?<=\n)", text):
        if _HEADER.fullmatch(line):
            ours = bool(_OUR_HEADER.match(line))
            kept += comments
            comments = []
        if not ours:
            kept.append(line)
        elif line.lstrip().startswith("#"):
            comments.append(line)
        elif line.strip():
            comments = []
    rest = "".join(kept)
    try:
        tables, left = tomllib.loads(text), tomllib.loads(rest)
        del tables["tool"][OURS]
        left.setdefault("tool", {})
    except (ValueError, KeyError, TypeError, RecursionError):
        return text  # there is no such table, or the lines found were not all of it
    return rest if left == tables else text
