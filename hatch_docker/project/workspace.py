"""Workspaces: the dependencies of a project that are workspace members or local directories.

They are set by uv's tables ([tool.uv.workspace], [tool.uv.sources]), hatch's tables (`workspace` and `sources` of
environments, in pyproject.toml or hatch.toml), `path` in Poetry's tables, and `name @ file://DIRECTORY` in
requirements. A member is identified by its name; a project with this name in a lock or an index is not used.
"""

import contextlib
import fnmatch
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.tables import read_tables, table_at
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.repository import repository_of

Config = Mapping[str, Any]
_EMPTY: Mapping[str, str] = {}


def read_members(project: Metadata, config: Config, read: Callable[[Path], Metadata]) -> dict[str, Metadata]:
    """Return the members that a project depends on, directly or indirectly: normalised name to metadata.

    `config`: the project's pyproject.toml. `read`: returns the metadata of the project in a directory. Raises
    ConfigError for invalid workspace tables, and for a directory with a project of another name.
    """
    lines = _lines(project, project.extras, project.groups)
    if not lines:
        return {}
    places = {**_file_references(project.root, lines), **member_directories(project.root, config)}
    found: dict[str, Metadata] = {}
    waiting = [_name(line) for line in lines] if places else []
    while waiting:
        name = waiting.pop()
        if name in found or name not in places or name == canonicalize_name(project.name):
            continue
        member = found[name] = read(places[name])
        if canonicalize_name(member.name) != name:
            raise ConfigError(f"{places[name]} is {member.name}, but {project.name} depends on it as {name}")
        lines = _lines(member, member.extras)
        waiting += map(_name, lines)
        table = read_tables(member.root / "pyproject.toml")
        more = {**_file_references(member.root, lines), **_source_directories(member.root, table)}
        places |= {other: path for other, path in more.items() if other not in places}
    return found


def _lines(project: Metadata, *tables: Mapping[str, Sequence[str]]) -> list[str]:
    return [*project.dependencies, *(line for table in tables for lines in table.values() for line in lines)]


def _file_references(root: Path, lines: Iterable[str]) -> dict[str, Path]:
    """Return the requirements with a `file:` URL of a project's directory: normalised name to directory."""
    found = {}
    for line in lines:
        address = re.match(r"[^@;]*@\s*file:(?://)?([^\s;#?]+)", line)
        # PDM's variable; hatchling has replaced its own already.
        path = unquote(address[1]).replace("${PROJECT_ROOT}", str(root.absolute())) if address else ""
        if path and "\0" not in path and _is_project(Path("/" + path.lstrip("/"))):
            found[_name(line)] = Path("/" + path.lstrip("/")).resolve()
    return found


def _name(line: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
    return canonicalize_name(match[1]) if match else ""


def member_directories(root: Path, config: Config) -> dict[str, Path]:
    """Return the projects that requirements of the project at `root` may name: normalised name to directory."""
    found: dict[str, Path] = {}
    above: Config = {}
    for place in (root, *root.parents):
        table = _config_of(place, root)
        if table and (members := workspace_members(place, table)) and (place == root or root.resolve() in members):
            found |= {name: path for path in sorted(members) if (name := _project_name(path))}
            above = table if place != root else {}
            found |= _source_directories(place, above)
            break
        if (place / ".git").exists():
            break
    found |= _source_directories(root, config)
    sources = [*_sources(above), *_sources(config)]
    elsewhere = {name for name, source in sources if {"git", "url", "index"} & set(source)}
    return {name: path for name, path in found.items() if name not in elsewhere and path != root.resolve()}


def workspace_lock(root: Path) -> str:
    """Return the path of the uv.lock of a member's workspace, relative to the member; "" if there is none."""
    for place, _ in workspaces_of(root):
        if (place / "uv.lock").is_file():
            return os.path.relpath(place / "uv.lock", root)
    return ""


def is_member(root: Path) -> bool:
    """Return whether a project is a member of a workspace in a directory above."""
    return any(True for _ in workspaces_of(root))


def may_use_members(root: Path, has_dependencies: bool) -> bool:
    """Return whether dependencies may be local projects, present or added later; False without dependencies."""
    for place in (root, *root.parents) if has_dependencies else ():
        config = _config_of(place, root)
        if _tables(config, "workspace") or any({"path", "workspace"} & set(source) for _, source in _sources(config)):
            return True
        if (place / ".git").exists():
            break
    return False


def workspaces_of(root: Path) -> Iterator[tuple[Path, Config]]:
    """Yield the workspaces above that a project is a member of, the nearest first: directory and parsed tables."""
    for place in root.parents:
        config = _config_of(place, root)
        if root.resolve() in workspace_members(place, config):
            yield place, config
        if (place / ".git").exists():
            break


def top_directory(root: Path) -> Path:
    """Return the directory of the repository that contains the project, else of its workspace, else `root`."""
    return repository_of(root) or next((place for place, _ in workspaces_of(root)), root)


def check_inside(path: Path, root: Path) -> None:
    """Raise ConfigError for a file outside of the project's `top_directory`.

    Such a file may be private, and an error message would show a line of it.
    """
    if "\0" in str(path) or not path.resolve().is_relative_to(top_directory(root).resolve()):
        raise ConfigError(f"{path.name}: {path} is outside of the project; only requirements of the project are read")


def writable_path(root: Path, name: str, option: str, variable: str, environ: Mapping[str, str] = _EMPTY) -> Path:
    """Return the path of an output that an option of the project sets. `name`: its path relative to the project.

    Raises ConfigError if it is outside of the `top_directory` or in `.git`, because an untrusted project could replace
    the user's files or add a file that programs execute. `variable`: the environment variable of the option, "" for
    none; if the user has set it, every path is allowed.
    """
    top, path = top_directory(root).resolve(), (root / name).resolve()
    inside = path.is_relative_to(top) and ".git" not in path.relative_to(top).parts
    if not inside and not environ.get(variable):
        advice = f"set {variable}" if variable else "give that directory on the command line"
        raise ConfigError(f"{option}: {name} is outside of the project; a build writes only to the project; {advice}")
    return root / name


def _config_of(place: Path, root: Path) -> Config:
    """Return the tables in pyproject.toml and hatch.toml of a directory `place`, {} if neither mentions a workspace.

    Files of users other than root, the current user and the owner of the project at `root` are ignored: a user who may
    write to /tmp must not influence builds below /tmp. Raises ConfigError.
    """
    tables: list[dict[str, Any]] = []
    owners = {0, os.getuid(), root.stat().st_uid}
    texts = {place / name: b"" for name in ("pyproject.toml", "hatch.toml")}
    for path in texts:
        with contextlib.suppress(OSError):
            texts[path] = path.read_bytes() if path.stat().st_uid in owners else b""
    for path, text in texts.items() if any(b"workspace" in text for text in texts.values()) else ():
        try:
            tables.append(tomllib.loads(text.decode()))
        except ValueError as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
    if not tables:
        return {}
    own, hatch = tables
    tool = table_at(own, "tool")
    return {**own, "tool": {**tool, "hatch": {**table_at(tool, "hatch"), **hatch}}}


def workspace_members(place: Path, config: Config) -> set[Path]:
    """Return the directories of a workspace's members, `place` included if it is a project; raises ConfigError."""
    try:
        return _members(place, config)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"the workspace of {place} cannot be read: {error}; check its members and exclude") from error


def _members(place: Path, config: Config) -> set[Path]:
    tables = [table for table in _tables(config, "workspace") if table.get("members")]
    if not tables:
        return set()
    found = {place.resolve()} if "project" in config else set()
    for table in tables:
        excluded = [str(pattern) for pattern in table.get("exclude", [])]
        for member in table["members"]:
            pattern = str(member["path"] if isinstance(member, Mapping) else member).replace("{root}", ".")
            for path in _matching(place, pattern):
                relative = os.path.relpath(path, place)
                if not any(fnmatch.fnmatch(relative, glob.rstrip("/")) for glob in excluded):
                    found.add(path)
    return found


def _matching(place: Path, pattern: str) -> Iterator[Path]:
    """Yield the projects that match a pattern relative to a directory; the pattern may start with `..`."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if any("**" in part and part != "**" for part in parts):  # Python 3.13 treats a** as a*
        raise ValueError(f"{pattern!r}: '**' can only be an entire part of a path")
    while parts and parts[0] == "..":
        place, parts = place.parent, parts[1:]
    for path in place.glob("/".join(parts)) if parts else [place]:
        if (path / "pyproject.toml").is_file():
            yield path.resolve()


def _tables(config: Config, name: str) -> list[Config]:
    """Return the tables with a name in [tool.uv], in [tool.hatch] and in each environment of hatch."""
    hatch = table_at(config, "tool", "hatch")
    places = [table_at(config, "tool", "uv"), hatch, *table_at(hatch, "envs").values()]
    return [table_at(place, name) for place in places if isinstance(table_at(place).get(name), Mapping)]


def _sources(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield the normalised name and the table of each dependency's source in the tables of uv, hatch and Poetry."""
    poetry = table_at(config, "tool", "poetry")
    groups = [poetry, *table_at(poetry, "group").values()]
    named = [table_at(table, key) for table in groups for key in ("dependencies", "dev-dependencies")]
    for table in (*named, *_tables(config, "sources")):
        for name, value in table.items():
            for source in value if isinstance(value, list) else [value]:
                if isinstance(source, Mapping):
                    yield canonicalize_name(name), source


def _source_directories(place: Path, config: Config) -> dict[str, Path]:
    """Return the dependencies whose source is a project's directory: normalised name to directory."""
    found = {}
    for name, source in _sources(config):
        path = place / str(source["path"]) if "path" in source else None
        if path is not None and _is_project(path):
            found[name] = path.resolve()
    return found


def _is_project(path: Path) -> bool:
    try:
        return any((path / file).is_file() for file in ("pyproject.toml", "setup.py"))
    except OSError:  # for instance, the name is too long
        return False


def _project_name(path: Path) -> str:
    name = table_at(read_tables(path / "pyproject.toml"), "project").get("name", "")
    return canonicalize_name(str(name))  # "": there is no project, or its own build reports the missing name
