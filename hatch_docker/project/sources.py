"""Sources: the index or address that tables of uv and Poetry set for a requirement, by its name."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.tables import table_at
from hatch_docker.project.git_source import git_address

Config = Mapping[str, Any]
_PLACES = ("index", "git", "url", "path", "workspace")


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the requirement `name`, if `marker` is true and the extra or group ("" for any) is installed.

    `kind`: "index" (`where` is the index's name), "url", "path" (relative to the project's root), "git" (`where` is an
    address in pip's form) or "workspace". `table`: the TOML table that sets it, for messages. `marker`: "?" if it is
    not known. `indirect`: the source also applies to dependencies of other projects.
    """

    name: str
    kind: str
    where: str
    table: str
    marker: str = ""
    extra: str = ""
    group: str = ""
    indirect: bool = False

    @property
    def is_from_uv(self) -> bool:
        """True if a table of uv sets it."""
        return self.table.startswith("[tool.uv")

    def __str__(self) -> str:
        condition = f"; {self.marker}" if self.marker else ""
        return f"{self.name} from {self.kind} {redact_url(self.where)}{condition}"


def read_sources(root: Path, config: Config, above: Iterable[tuple[Path, Config]]) -> tuple[Source, ...]:
    """Return the sources of the project at `root` and of the workspace that contains it.

    `config`: the project's pyproject.toml. `above`: the workspaces around it, the nearest first
    (`workspace.workspaces_of`). For a name in the project's own table, the workspace's table is ignored. Raises
    ConfigError for a table that uv or Poetry would reject.
    """
    above = list(above)[:1]
    constrained = _constrained_names(above[0][1] if above else config)
    found: dict[str, list[Source]] = {}
    around = [_uv(root, place, table) for place, table in above]
    for sources in (_poetry(config), *around, _uv(root, root, config)):
        by_name: dict[str, list[Source]] = {}
        for source in sources:
            by_name.setdefault(source.name, []).append(source)
        found |= by_name
    sources = (source for name in sorted(found) for source in found[name])
    return tuple(replace(source, indirect=source.name in constrained and source.is_from_uv) for source in sources)


def _constrained_names(config: Config) -> set[str]:
    """Return the names in uv's constraints and overrides: their sources also apply to indirect dependencies."""
    uv = table_at(config, "tool", "uv")
    keys = ("constraint-dependencies", "override-dependencies")
    return {name for key in keys for name in names_of(uv.get(key, ()))}


def names_of(lines: Any) -> set[str]:
    """Return the normalised names of a list of requirements; a value that is not a list of strings has no names."""
    texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list | tuple) else []
    found = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in texts)
    return {canonicalize_name(match[1]) for match in found if match}


def _uv(root: Path, place: Path, config: Config) -> Iterator[Source]:
    """Yield the sources of [tool.uv.sources] in the pyproject.toml at `place`."""
    for name, value in table_at(config, "tool", "uv", "sources").items():
        for entry in value if isinstance(value, list) else [value]:
            where = f"[tool.uv.sources] {name}"
            kind, target = _place(entry, where, entry)
            if kind == "workspace" and (not target or (root / "PKG-INFO").is_file()):
                continue  # an unpacked sdist is outside of the workspace: the dependency comes from the index
            conditions = [entry.get(key, "") for key in ("marker", "extra", "group")]
            if not all(isinstance(condition, str) for condition in conditions):
                raise ConfigError(f"pyproject.toml: {where}: marker, extra and group must be strings")
            marker, extra, group = conditions
            path = _relative(root, place, kind, target)
            yield Source(canonicalize_name(name), kind, path, where, marker, normalized(extra), normalized(group))


def _poetry(config: Config) -> Iterator[Source]:
    """Yield the sources of Poetry's dependencies, in all of its groups."""
    names = ("dependencies", "dev-dependencies")
    tables = [(f"[tool.poetry.{name}]", table_at(config, "tool", "poetry", name)) for name in names]
    for name, group in table_at(config, "tool", "poetry", "group").items():
        tables.append((f"[tool.poetry.group.{name}.dependencies]", table_at(group, "dependencies")))
    for title, table in tables:
        for name, value in table.items():
            entries = value if isinstance(value, list) else [value]
            places = {_poetry_place(entry, f"{title} {name}") for entry in entries}
            # With several places, the Python version decides which one applies; poetry.lock contains the result.
            marker = "?" if len(places) > 1 else ""
            for kind, target in sorted(place for place in places if place is not None):
                yield Source(canonicalize_name(name), kind, target, f"{title} {name}", marker)


def _poetry_place(entry: Any, where: str) -> tuple[str, str] | None:
    """Return the kind and target of a Poetry dependency's source; None if it comes from any index."""
    if not isinstance(entry, Mapping):
        return None
    kinds = {"source": "index", "git": "git", "url": "url", "path": "path", "file": "path"}
    found = {kind: entry[key] for key, kind in kinds.items() if key in entry}
    return _place(found, where, entry) if found else None


def _place(entry: Any, where: str, options: Any) -> tuple[str, str]:
    """Return the kind and target of a source's table; raises ConfigError unless exactly one kind is set.

    `options`: the table with rev, tag, branch and subdirectory.
    """
    kinds = [kind for kind in _PLACES if isinstance(entry, Mapping) and kind in entry]
    if len(kinds) != 1 or not isinstance(entry[kinds[0]], bool if kinds[0] == "workspace" else str):
        raise ConfigError(f"pyproject.toml: {where} must name one of {', '.join(_PLACES)}")
    kind, value = kinds[0], str(entry[kinds[0]] or "")
    below = str(options.get("subdirectory") or "")
    if kind == "git":
        names = {"rev": "", "tag": "refs/tags/", "branch": "refs/heads/"}
        ref = next((f"{start}{options[name]}" for name, start in names.items() if options.get(name)), "")
        return kind, git_address(value, ref, below)
    return kind, f"{value}#subdirectory={below}" if below and kind in ("url", "path") else value


def normalized(name: str) -> str:
    """Return the normalised name of an extra or a group; "" stays ""."""
    return canonicalize_name(name) if name else ""


def _relative(root: Path, place: Path, kind: str, value: str) -> str:
    if kind != "path":
        return value
    return os.path.relpath(place / value.removeprefix("file://"), root).replace(os.sep, "/")
