"""Sources: the indexes and addresses that tables of uv and Poetry bind the requirements of a project to by name."""

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
    """A place that a requirement is taken from, where its marker holds, for a chosen extra or group of the project.

    `kind` is "index" (`where` is its name), "url", "path" (relative to the project's root), "git" (`where` is an
    address as pip has it) or "workspace". `table` names the table that says so, for messages. A marker that cannot be
    told is "?". Only an `indirect` one is also for a dependency of another project.
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
    def is_uvs(self) -> bool:
        """True if it is from uv's table."""
        return self.table.startswith("[tool.uv")

    def __str__(self) -> str:
        condition = f"; {self.marker}" if self.marker else ""
        return f"{self.name} from {self.kind} {redact_url(self.where)}{condition}"


def read_sources(root: Path, config: Config, above: Iterable[tuple[Path, Config]]) -> tuple[Source, ...]:
    """Return the sources of the project at `root`, whose pyproject.toml is `config`, and of the workspace around it.

    `above` are the workspaces that it is in, the nearest first (`workspace.workspaces_of`). A name in the project's own
    table is not looked up in the workspace's. Raises ConfigError for a table that uv or
    Poetry would not take.
    """
    above = list(above)[:1]
    listed = _listed(above[0][1] if above else config)
    found: dict[str, list[Source]] = {}
    around = [_uv(root, place, table) for place, table in above]
    for sources in (_poetry(config), *around, _uv(root, root, config)):
        by_name: dict[str, list[Source]] = {}
        for source in sources:
            by_name.setdefault(source.name, []).append(source)
        found |= by_name
    sources = (source for name in sorted(found) for source in found[name])
    return tuple(replace(source, indirect=source.name in listed and source.is_uvs) for source in sources)


def _listed(config: Config) -> set[str]:
    """Return the names in uv's constraints and overrides: their sources hold whoever requires them."""
    uv = table_at(config, "tool", "uv")
    keys = ("constraint-dependencies", "override-dependencies")
    return {name for key in keys for name in names_of(uv.get(key, ()))}


def names_of(lines: Any) -> set[str]:
    """Return the normalised names of a list of requirements; what is not a list of lines has none."""
    texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list | tuple) else []
    found = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in texts)
    return {canonicalize_name(match[1]) for match in found if match}


def _uv(root: Path, place: Path, config: Config) -> Iterator[Source]:
    """Yield the sources of [tool.uv.sources] in the pyproject.toml at `place`."""
    for name, given in table_at(config, "tool", "uv", "sources").items():
        for entry in given if isinstance(given, list) else [given]:
            where = f"[tool.uv.sources] {name}"
            kind, value = _place(entry, where, entry)
            if kind == "workspace" and (not value or (root / "PKG-INFO").is_file()):
                continue  # a published sdist is no longer in the workspace, and its metadata name a release
            conditions = [entry.get(key, "") for key in ("marker", "extra", "group")]
            if not all(isinstance(condition, str) for condition in conditions):
                raise ConfigError(f"pyproject.toml: {where}: marker, extra and group must be strings")
            marker, extra, group = conditions
            at = _relative(root, place, kind, value)
            yield Source(canonicalize_name(name), kind, at, where, marker, normalized(extra), normalized(group))


def _poetry(config: Config) -> Iterator[Source]:
    """Yield the sources of Poetry's dependencies, in all of its groups."""
    names = ("dependencies", "dev-dependencies")
    tables = [(f"[tool.poetry.{name}]", table_at(config, "tool", "poetry", name)) for name in names]
    for name, group in table_at(config, "tool", "poetry", "group").items():
        tables.append((f"[tool.poetry.group.{name}.dependencies]", table_at(group, "dependencies")))
    for title, table in tables:
        for name, given in table.items():
            entries = given if isinstance(given, list) else [given]
            places = {_poetry_place(entry, f"{title} {name}") for entry in entries}
            # Which of several places it is depends on the versions of Python: Poetry's own lock tells.
            marker = "?" if len(places) > 1 else ""
            for kind, value in sorted(place for place in places if place is not None):
                yield Source(canonicalize_name(name), kind, value, f"{title} {name}", marker)


def _poetry_place(entry: Any, where: str) -> tuple[str, str] | None:
    """Return kind and value of the place of a dependency of Poetry's; None for any index."""
    if not isinstance(entry, Mapping):
        return None
    kinds = {"source": "index", "git": "git", "url": "url", "path": "path", "file": "path"}
    found = {kind: entry[key] for key, kind in kinds.items() if key in entry}
    return _place(found, where, entry) if found else None


def _place(entry: Any, where: str, options: Any) -> tuple[str, str]:
    """Return kind and value of a source's table; raise ConfigError unless it names one place.

    `options` say which commit and which directory of it.
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
    """Return the normalised name of an extra or a group, "" for none."""
    return canonicalize_name(name) if name else ""


def _relative(root: Path, place: Path, kind: str, value: str) -> str:
    if kind != "path":
        return value
    return os.path.relpath(place / value.removeprefix("file://"), root).replace(os.sep, "/")
