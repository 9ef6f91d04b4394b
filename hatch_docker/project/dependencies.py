"""Requirements of a project: its dependencies, extras and groups, and those of the workspace members it depends on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.sources import Source, normalized

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True, slots=True)
class Requirements:
    """Requirements (PEP 508) to install from an index, and the workspace members to build.

    `members`: normalised name to markers; the member is installed if one of the markers holds ("" always holds).
    `sources`: the sources of `requirements`.
    """

    requirements: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]]
    sources: tuple[Source, ...] = ()


def collect_requirements(project: Metadata, extras: Sequence[str], groups: Sequence[str]) -> Requirements:
    """Return the requirements of a project with the extras and groups that are installed.

    A requirement on the project itself (`app[extra]`) is replaced by the requirements of these extras, a requirement on
    a workspace member by the member's requirements. Raises ConfigError for an invalid requirement, and for a member
    whose version does not fit the requirement.
    """
    # Tuples: the requirement, the marker that it inherits, its project, its extra and its group ("" for none).
    waiting = [(line, "", project, "", "") for line in project.dependencies]
    waiting += [(line, "", project, extra, "") for extra in extras for line in project.extras[extra]]
    waiting += [(line, "", project, "", group) for group in groups for line in project.groups[group]]
    if not waiting:
        return Requirements((), {})
    found: dict[str, None] = {}
    sources: set[Source] = set()
    members: dict[str, dict[str, None]] = {}
    seen: set[tuple[str, tuple[str, ...], str]] = set()
    known = {**project.members, canonicalize_name(project.name): project}
    while waiting:
        line, condition, owner, extra, group = waiting.pop()
        requirement = _parsed(line)
        name = canonicalize_name(requirement.name)
        markers = [text for text in (condition, str(requirement.marker or "")) if text]
        marker = " and ".join(f"({text})" for text in markers) if len(markers) > 1 else "".join(markers)
        if name not in known:
            bare = str(requirement).partition(";")[0].strip()
            found[f"{bare}{' ' if requirement.url else ''}; {marker}" if condition else line] = None
            if not requirement.url:
                sources.update(_sources_of(name, owner, extra, group, project.root))
            continue
        key = (name, tuple(sorted(map(canonicalize_name, requirement.extras))), marker)
        if key in seen:
            continue
        seen.add(key)
        other = known[name]
        below: list[tuple[str, str]] = []
        if other is not project:
            _check_version(requirement, other, project)
            members.setdefault(name, {})[marker] = None
            below += [(line, "") for line in other.dependencies]
        chosen = {canonicalize_name(extra): lines for extra, lines in other.extras.items()}
        below += [(line, extra) for extra in key[1] for line in chosen.get(extra, ())]
        # The requirements of a member or an extra inherit the marker of the requirement that names it.
        waiting += [(line, marker, other, extra, "") for line, extra in below]
    sources.update(source for source in project.sources if source.indirect and not source.extra + source.group)
    return Requirements(
        tuple(sorted(found)), {name: tuple(sorted(markers)) for name, markers in sorted(members.items())},
        tuple(sorted(sources, key=astuple)),
    )


def _sources_of(name: str, owner: Metadata, extra: str, group: str, root: Path) -> Iterator[Source]:
    """Yield the sources that `owner` sets for a requirement in an extra or group, with paths relative to `root`."""
    for source in owner.sources:
        wanted = source.extra in ("", normalized(extra)) and source.group in ("", normalized(group))
        if source.name == name and wanted:
            path = os.path.relpath(owner.root / source.where, root) if source.kind == "path" else source.where
            yield replace(source, where=path, extra="", group="")


def _parsed(line: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"pyproject.toml: the dependency {redact_requirement(line)!r} is not valid: {why}") from None


def _check_version(requirement: Requirement, member: Metadata, project: Metadata) -> None:
    if not requirement.specifier.contains(member.version, prereleases=True):
        raise ConfigError(
            f"{project.name} requires {requirement}, but {member.name} of its workspace is {member.version}: "
            "widen the requirement or raise the version"
        )
