"""Workspaces: the dependencies of a project that are members of its workspace, or directories that it names.

Reads uv's tables ([tool.uv.workspace], [tool.uv.sources]), hatch's (`workspace` and `sources` of its environments, in
pyproject.toml or hatch.toml), `path` in Poetry's, and `name @ file://DIRECTORY` in requirements. A dependency is a
member by its name alone; a project of that name in a lock or an index is then not used.
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
    """Return the members that a project depends on, directly or through others, by their normalised names.

    `config` is the project's pyproject.toml, `read` reads another project. Raises ConfigError for tables that uv and
    hatch would not take.
    """
    lines = _lines(project, project.extras, project.groups)
    if not lines:
        return {}
    places = {**_references(project.root, lines), **member_places(project.root, config)}
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
        more = {**_references(member.root, lines), **_directories(member.root, table)}
        places |= {other: path for other, path in more.items() if other not in places}
    return found


def _lines(project: Metadata, *tables: Mapping[str, Sequence[str]]) -> list[str]:
    return [*project.dependencies, *(line for table in tables for lines in table.values() for line in lines)]


def _references(root: Path, lines: Iterable[str]) -> dict[str, Path]:
    """Return the requirements that are directories of projects by their addresses."""
    found = {}
    for line in lines:
        address = re.match(r"[^@;]*@\s*file:(?://)?([^\s;#?]+)", line)
        # PDM has a variable in it; hatchling's are replaced by now.
        path = unquote(address[1]).replace("${PROJECT_ROOT}", str(root.absolute())) if address else ""
        if path and "\0" not in path and _is_project(Path("/" + path.lstrip("/"))):
            found[_name(line)] = Path("/" + path.lstrip("/")).resolve()
    return found


def _name(line: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
    return canonicalize_name(match[1]) if match else ""


def member_places(root: Path, config: Config) -> dict[str, Path]:
    """Return the directories of the projects that the project at `root` takes by name, by their normalised names."""
    found: dict[str, Path] = {}
    above: Config = {}
    for place in (root, *root.parents):
        table = _config_of(place, root)
        if table and (members := workspace_members(place, table)) and (place == root or root.resolve() in members):
            found |= {name: path for path in sorted(members) if (name := _project_name(path))}
            above = table if place != root else {}
            found |= _directories(place, above)
            break
        if (place / ".git").exists():
            break
    found |= _directories(root, config)
    sources = [*_sources(above), *_sources(config)]
    elsewhere = {name for name, source in sources if {"git", "url", "index"} & set(source)}
    return {name: path for name, path in found.items() if name not in elsewhere and path != root.resolve()}


def workspace_lock(root: Path) -> str:
    """Return uv's lock of the workspace that a project is a member of, relative to the project, "" without one."""
    for place, _ in workspaces_of(root):
        if (place / "uv.lock").is_file():
            return os.path.relpath(place / "uv.lock", root)
    return ""


def is_member(root: Path) -> bool:
    """Return whether a project is a member of a workspace of a directory above."""
    return any(True for _ in workspaces_of(root))


def names_projects(root: Path, *, needs: bool) -> bool:
    """Return whether dependencies may be other projects here, now or once those exist; `needs` says if there are any.
    """
    for place in (root, *root.parents) if needs else ():
        config = _config_of(place, root)
        if _tables(config, "workspace") or any({"path", "workspace"} & set(source) for _, source in _sources(config)):
            return True
        if (place / ".git").exists():
            break
    return False


def workspaces_of(root: Path) -> Iterator[tuple[Path, Config]]:
    """Yield the directories above of which a project is a member, the nearest first, each with its pyproject.toml."""
    for place in root.parents:
        config = _config_of(place, root)
        if root.resolve() in workspace_members(place, config):
            yield place, config
        if (place / ".git").exists():
            break


def top_of(root: Path) -> Path:
    """Return the directory that is the user's project as a whole: the repository's or, without git, the workspace's."""
    return repository_of(root) or next((place for place, _ in workspaces_of(root)), root)


def check_own(path: Path, root: Path) -> None:
    """Raise ConfigError for a file that the files of a project name and that is not in its repository.

    It may be one of the user's, with secrets in lines that an error would show.
    """
    if "\0" in str(path) or not path.resolve().is_relative_to(top_of(root).resolve()):
        raise ConfigError(f"{path.name}: {path} is outside of the project; only requirements of the project are read")


def written_path(root: Path, name: str, option: str, variable: str, environ: Mapping[str, str] = _EMPTY) -> Path:
    """Return the path of what a build writes where an option of the project says, `name`, relative to it.

    Raise ConfigError where that is outside of the repository or in git's data, unless the user set the variable that
    stands for the option ("": none does): a stranger's project could replace files of the user, or add one that
    programs run.
    """
    top, path = top_of(root).resolve(), (root / name).resolve()
    inside = path.is_relative_to(top) and ".git" not in path.relative_to(top).parts
    if not inside and not environ.get(variable):
        way_out = f"set {variable}" if variable else "name that directory on the command line"
        raise ConfigError(f"{option}: {name} is outside of the project; a build writes only to the project; {way_out}")
    return root / name


def _config_of(place: Path, root: Path) -> Config:
    """Return the tables of a directory above the project at `root`, if its files name a workspace.

    Files of other users do not count: whoever may write to /tmp must not decide what is built below it.
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
    """Return the directories of a workspace's members, with its own if that is a project; raises ConfigError."""
    try:
        return _members(place, config)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"the workspace of {place} cannot be read: {error}; see its members and exclude") from error


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
    """Yield the projects that a pattern names, relative to a directory; it may climb out of it."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if any("**" in part and part != "**" for part in parts):  # Python 3.13 takes it for "*"
        raise ValueError(f"{pattern!r}: '**' can only be an entire part of a path")
    while parts and parts[0] == "..":
        place, parts = place.parent, parts[1:]
    for path in place.glob("/".join(parts)) if parts else [place]:
        if (path / "pyproject.toml").is_file():
            yield path.resolve()


def _tables(config: Config, name: str) -> list[Config]:
    """Return uv's table of a name, hatch's, and those of hatch's environments."""
    hatch = table_at(config, "tool", "hatch")
    places = [table_at(config, "tool", "uv"), hatch, *table_at(hatch, "envs").values()]
    return [table_at(place, name) for place in places if isinstance(table_at(place).get(name), Mapping)]


def _sources(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield each dependency by its name, with a table that tells uv, hatch or Poetry where to take it from."""
    poetry = table_at(config, "tool", "poetry")
    groups = [poetry, *table_at(poetry, "group").values()]
    named = [table_at(table, key) for table in groups for key in ("dependencies", "dev-dependencies")]
    for table in (*named, *_tables(config, "sources")):
        for name, given in table.items():
            for source in given if isinstance(given, list) else [given]:
                if isinstance(source, Mapping):
                    yield canonicalize_name(name), source


def _directories(place: Path, config: Config) -> dict[str, Path]:
    """Return the dependencies that are directories of projects."""
    found = {}
    for name, source in _sources(config):
        path = place / str(source["path"]) if "path" in source else None
        if path is not None and _is_project(path):
            found[name] = path.resolve()
    return found


def _is_project(path: Path) -> bool:
    try:
        return any((path / file).is_file() for file in ("pyproject.toml", "setup.py"))
    except OSError:  # no directory has a name that is so long
        return False


def _project_name(path: Path) -> str:
    name = table_at(read_tables(path / "pyproject.toml"), "project").get("name", "")
    return canonicalize_name(str(name))  # "": no project, or one whose own build reports the mistake
