"""Sources of a resolution: the index or address of each requirement, for uv and compared with locks.

uv reads sources only from a pyproject.toml, so requirements with a source are written to a temporary pyproject.toml.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import redact_url
from hatch_docker.project.git_source import parse_git
from hatch_docker.project.sources import Source, names_of
from hatch_docker.wheels.index import Indexes, SimpleIndex
from hatch_docker.wheels.locks.archives import is_archive
from hatch_docker.wheels.locks.requirements_txt import LockedPackage
from hatch_docker.wheels.target import Target, parse_marker, parse_requirement

Table = Mapping[str, Any]
REQUIREMENTS = "hatch-docker-requirements"  # name of the temporary project, in uv's messages


@dataclass(frozen=True, slots=True)
class Bindings:
    """Indexes or addresses of requirements by normalised name; the address of a wheel is a URL or an absolute path."""

    places: Mapping[str, SimpleIndex | str] = field(default_factory=dict)

    def has(self, line: str) -> bool:
        """Return whether a requirement has an index or address here."""
        requirement = parse_requirement(line, "the dependency")
        return not requirement.url and canonicalize_name(requirement.name) in self.places

    def project(self, lines: Iterable[str], root: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a pyproject.toml for those of `lines` that have a binding, and variables with the indexes' logins.

        Relative paths of indexes start at `root`.
        """
        names: dict[str, str] = {}  # names of the indexes in the file, by URL
        variables: dict[str, str] = {}
        indexes, sources = [], {}
        for name, place in sorted(self.places.items()):
            if isinstance(place, str):
                sources[name] = {"url" if "://" in place else "path": place}
                continue
            if place.url not in names:
                names[place.url] = f"source-{len(names)}"
                url = place.url if "://" in place.url else str((root / place.url).absolute())
                indexes.append({"name": names[place.url], "url": url, "explicit": True, **place.options})
                if place.login:
                    prefix = f"UV_INDEX_SOURCE_{len(names) - 1}"
                    variables |= {f"{prefix}_USERNAME": place.login[0], f"{prefix}_PASSWORD": place.login[1]}
            sources[name] = {"index": names[place.url]}
        project = {"name": REQUIREMENTS, "version": "0", "dependencies": list(lines)}
        return {"project": project, "tool": {"uv": {"index": indexes, "sources": sources}}}, variables


NO_BINDINGS = Bindings()


def bind(
    lines: Iterable[str], sources: Sequence[Source], indexes: Indexes, root: Path, target: Target,
    stub_of: Callable[[Source], str],
) -> Bindings:
    """Return the indexes or addresses of requirements that have a source or match a pattern of an index.

    `stub_of` returns the path of a stub wheel for a source that must be built. Raise WheelError for an index that is
    not declared, and for an address without a wheel.
    """
    places: dict[str, SimpleIndex | str] = {}
    for line in lines:
        requirement = parse_requirement(line, "the dependency")
        name = canonicalize_name(requirement.name)
        if requirement.url or not target.satisfies(requirement.marker):
            continue
        chosen = [_place(source, indexes, root, stub_of) for source in matching_sources(sources, name, target)]
        place = chosen[0] if chosen else index_by_pattern(name, indexes)
        if any(other != place for other in chosen):
            found = " and ".join(str(source) for source in matching_sources(sources, name, target))
            raise WheelError(f"the project takes {found}: give them markers, so that only one of them applies")
        if place is not None:
            places[name] = place
    overridden = names_of(indexes.settings.get("override-dependencies", ()))
    if lost := sorted(places.keys() & overridden):
        raise WheelError(f"override-dependencies has {lost[0]}, which replaces its source: run `uv lock`")
    if places and "UV_OVERRIDE" in indexes.version_variables:
        raise WheelError(f"UV_OVERRIDE is set, and the source of {min(places)} may be replaced: run `uv lock`")
    return Bindings(places)


def bind_locked(
    kind: str, packages: Mapping[str, LockedPackage], lines: Iterable[str], indexes: Indexes, root: Path, target: Target
) -> Bindings:
    """Return the indexes of the packages of a lock: the locked ones for Poetry, those of PDM's patterns otherwise."""
    if kind != "poetry":
        return bind(lines, (), indexes, root, target, lambda source: source.where)
    known = {index.url.rstrip("/"): index for index in indexes.indexes}
    return Bindings({
        name: known.get(package.index.rstrip("/"), SimpleIndex(package.index))
        for name, package in packages.items() if package.index
    })


def matching_sources(sources: Iterable[Source], name: str, target: Target) -> Iterator[Source]:
    """Yield the sources of a name whose markers are true on a target. Raise WheelError if a marker is unknown."""
    for source in sources:
        if source.name != name:
            continue
        if source.marker == "?":
            raise WheelError(f"pyproject.toml: {source.table} has several places: lock with `poetry lock`")
        if not source.marker or target.satisfies(parse_marker(source.marker, f"pyproject.toml: {source.table}")):
            yield source


def _place(source: Source, indexes: Indexes, root: Path, stub_of: Callable[[Source], str]) -> SimpleIndex | str | None:
    """Return the index or address of a source; None for any index."""
    where = f"pyproject.toml: {source.table}"
    if source.kind == "index":
        return index_of(source, indexes)
    if source.kind == "workspace":
        raise WheelError(f"{where} names the workspace, which does not have that project; correct one of them")
    path = source.where.partition("#")[0].partition("?")[0]
    if is_archive(source.where):
        return stub_of(source)
    if not path.endswith(".whl"):
        raise WheelError(
            f"{where} is at {redact_url(source.where)[:200]}, which is no wheel, no sdist and no project: "
            "correct the path or url"
        )
    if source.kind == "url":
        return source.where
    if not (root / path).is_file():
        raise WheelError(f"{where}: there is no file {path}")
    return str((root / path).absolute())


def index_of(source: Source, indexes: Indexes) -> SimpleIndex | None:
    """Return the index that a source names; None for the default index. Raise WheelError if it is not declared."""
    found = indexes.find(source.where)
    public = source.where.lower() == "pypi" and source.table.startswith("[tool.poetry")
    if found is None and public:  # "pypi" is the default index of Poetry
        found = next((index for index in indexes.indexes if index.default), None)
        if found is not None or all(index.explicit for index in indexes.indexes):
            return found
    if found is None:
        tool = "poetry.source" if source.table.startswith("[tool.poetry") else "uv.index"
        raise WheelError(
            f"pyproject.toml: {source.table} names the index {source.where!r}, which no [[tool.{tool}]] declares"
        )
    return found


def index_by_pattern(name: str, indexes: Indexes) -> SimpleIndex | None:
    """Return the only index where PDM searches for a name by its `include_packages`; None for any index.

    Raise WheelError if PDM would search in neither one nor all of the indexes.
    """
    def matching(patterns: Sequence[str]) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    searched = [index for index in indexes.indexes if not index.explicit]
    including = [index for index in indexes.indexes if matching(index.include)]
    allowed = including or [index for index in searched if not matching(index.exclude)]
    if not including and len(allowed) == len(searched):
        return None
    if len(allowed) != 1 or (not including and indexes.uses_uv_default):
        names = ", ".join(index.name for index in indexes.indexes if matching((*index.include, *index.exclude)))
        raise WheelError(
            f"pyproject.toml: [[tool.pdm.source]] {names}: uv cannot look for {name} in some of the indexes: name it "
            "in include_packages of one source, or lock with `pdm lock`"
        )
    return allowed[0]


def names_to_bind(
    names: Iterable[str], bindings: Bindings, sources: Sequence[Source], indexes: Indexes, target: Target
) -> list[str]:
    """Return those of `names` that other packages require and that have a source or a pattern of an index."""
    return [
        name for name in sorted({*names} - {*bindings.places})
        if index_by_pattern(name, indexes) or any(source.indirect for source in matching_sources(sources, name, target))
    ]


def stale_source(sources: Sequence[Source], packages: Iterable[Table], indexes: Indexes | None, target: Target) -> str:
    """Return a message about a source that a lock's packages (PEP 751) do not follow; "" if they follow all.

    A package without `index`, and an index without a URL, are not compared.
    """
    locked: dict[str, list[str]] = {}     # indexes by package; "elsewhere" for a directory, repository or archive
    commits: dict[str, Table] = {}
    for package in packages:
        if "vcs" in package:
            commits[canonicalize_name(package["name"])] = package["vcs"]
        other = "elsewhere" if {"vcs", "directory", "archive"} & package.keys() else ""
        locked.setdefault(canonicalize_name(package["name"]), []).append(package.get("index", other).rstrip("/"))
    for name, places in locked.items():
        for source in matching_sources(sources, name, target):
            if source.kind == "git" and name in commits:
                if has := _other_commit(source, commits[name]):
                    return f"the project takes {source}, it has {name} from {has}"
                continue
            index = index_of(source, indexes) if source.kind == "index" and indexes else None
            expected = index.url.rstrip("/") if index else ("" if source.kind == "index" else "elsewhere")
            known = [place for place in places if "://" in place or place == "elsewhere"]
            if known and expected not in known and ("://" in expected or expected == "elsewhere"):
                return f"the project takes {source}, it has {name} from {redact_url(known[0])}"
    return ""


def _other_commit(source: Source, vcs: Table) -> str:
    """Return the address of a locked commit (`vcs` of PEP 751) if a git source names another one, otherwise ""."""
    expected_source = parse_git(source.where, f"pyproject.toml: {source.table}")
    url, commit, requested = (str(vcs.get(key, "")) for key in ("url", "commit-id", "requested-revision"))
    ref = re.sub(r"^refs/(heads|tags)/", "", expected_source.ref)
    follows = not ref or ref in (commit, requested) or (not requested and not expected_source.is_pinned)
    same = url.rstrip("/").removesuffix(".git") == expected_source.url.rstrip("/").removesuffix(".git")
    return "" if follows and same else f"{redact_url(url)} at {requested or commit}"
