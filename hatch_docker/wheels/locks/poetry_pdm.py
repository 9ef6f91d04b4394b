"""Reader of poetry.lock and pdm.lock: names, versions and hashes of the packages that a project needs on a target."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.core.errors import WheelError
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.project.git_source import git_address
from hatch_docker.wheels.locks.archives import ARCHIVES
from hatch_docker.wheels.locks.requirements_txt import LockedPackage, sha256_of
from hatch_docker.wheels.target import Target, parse_marker, parse_requirement

# Types of the fields of a package that are read, for `validation.first_mismatch`.
_FILES = [{"hash": str, "*": ANY}]
_DEPENDENCY = (str, {"extras?": [str], "markers?": str, "*": ANY})
_FIELDS: Mapping[str, Any] = {
    "poetry": {
        "name": str, "version": str, "markers?": (str, {"*": str}), "source?": {"*": str}, "files?": _FILES,
        "dependencies?": {"*": (*_DEPENDENCY, [_DEPENDENCY])}, "*": ANY,
    },
    "pdm": {
        "name": str, "version": str, "marker?": str, "extras?": [str], "dependencies?": [str], "url?": str,
        "path?": str, "git?": str, "revision?": str, "subdirectory?": str, "files?": _FILES, "*": ANY,
    },
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a lock: the package, its marker and extras, and its requirements (PEP 508)."""

    package: LockedPackage
    marker: str                           # of the project, if the lock has several versions; "" is always true
    extras: frozenset[str]                # pdm writes a separate entry for a package with extras
    requires: tuple[str, ...]


def locked_packages(
    kind: str, table: Mapping[str, Any], place: str, requirements: Sequence[str], extras: Sequence[str], target: Target
) -> tuple[LockedPackage, ...]:
    """Return the packages of a "poetry" or "pdm" lock that the requirements need, with dependencies, by name.

    `extras`: the project's. Requirements that are not in the lock are skipped; the caller must check them. Raise
    WheelError, which names the lock (`place`), for an invalid lock, a package without hash or that is not a file, and
    several versions for the target.
    """
    if (wrong := first_mismatch({"package": [_FIELDS[kind]], "*": ANY}, table)) is not None:
        raise WheelError(f"{place} is not a lock of {kind}: {wrong} is not as it writes it; run `{kind} lock`")
    entries = [_entry(kind, entry) for entry in table["package"]]
    reached: dict[str, set[str]] = {}     # names, and the extras that are required
    packages: dict[str, LockedPackage] = {}
    waiting = [parse_requirement(line, f"{place}:") for line in requirements]
    direct = {canonicalize_name(requirement.name) for requirement in waiting}
    while waiting:
        current = waiting.pop()
        name = canonicalize_name(current.name)
        if not target.satisfies(current.marker) or (name in reached and current.extras <= reached[name]):
            continue
        reached.setdefault(name, set()).update(current.extras)
        found = [entry for entry in entries if entry.package.name == name and entry.extras <= reached[name]]
        chosen = _choose(found, current, extras, target, place)
        if not chosen and name not in direct:
            raise WheelError(f"{place} names {name}, which it does not have for {target}; run `{kind} lock`")
        packages.update((name, entry.package) for entry in chosen if not entry.extras)
        for requirement in (parse_requirement(line, f"{place}:") for entry in chosen for line in entry.requires):
            if target.satisfies(requirement.marker, sorted(reached[name])):
                requirement.marker = None
                waiting.append(requirement)
    for package in packages.values():
        if not package.sha256 and not package.git and not package.url.endswith((".whl", *ARCHIVES)):
            raise WheelError(
                f"{place}: {package.name} {package.version} is not a file with a sha256 hash; publish it to an index, "
                "or name its directory in the project"
            )
    # A package with a URL is identified by it, not by the version.
    return tuple(replace(package, version="") if package.url else package for _, package in sorted(packages.items()))


def _choose(
    entries: Sequence[_Entry], requirement: Requirement, extras: Sequence[str], target: Target, place: str
) -> list[_Entry]:
    """Return the entries, of those with the same name, whose version applies to the target."""
    where = f"{place}: {requirement.name}"
    applying = [
        entry for entry in entries if not entry.marker or target.satisfies(parse_marker(entry.marker, where), extras)
    ]
    chosen = [entry for entry in applying if _allows(requirement, entry.package.version)] or applying
    versions = sorted({entry.package.version for entry in chosen})
    if len(versions) > 1:
        raise WheelError(
            f"{place} has {requirement.name} {', '.join(versions)}, and does not say which is for {target}; "
            "lock it again"
        )
    return chosen


def _allows(requirement: Requirement, version: str) -> bool:
    with contextlib.suppress(ValueError):  # a number of 5000 digits
        return requirement.specifier.contains(version, prereleases=True)
    return False


def _entry(kind: str, table: Mapping[str, Any]) -> _Entry:
    """Convert an entry of a lock; a package that is not a file has no hashes."""
    source = table.get("source", {})
    name, version, git = canonicalize_name(table["name"]), table["version"], ""
    if kind == "pdm":
        url = table.get("url", "") or table.get("path", "")
        if "git" in table:
            git = git_address(*(table.get(key, "") for key in ("git", "revision", "subdirectory")))
        marker, requires = table.get("marker", ""), table.get("dependencies", ())
    else:
        url = source.get("url", "") if source.get("type") in ("url", "file") else ""
        if source.get("type") == "git":
            git = git_address(*(source.get(key, "") for key in ("url", "resolved_reference", "subdirectory")))
        marker, requires = table.get("markers", ""), _poetry_requires(table)
        if isinstance(marker, Mapping):  # by group
            marker = " or ".join(f"({condition})" for condition in marker.values())
    hashes = [file["hash"] for file in table.get("files", ())]
    index = source.get("url", "") if source.get("type") == "legacy" else ""
    package = LockedPackage(name, version, url, sha256_of(hashes), index, git)
    return _Entry(package, marker, frozenset(table.get("extras", ()) if kind == "pdm" else ()), tuple(requires))


def _poetry_requires(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield Poetry's dependencies as requirements without versions: the lock contains the versions."""
    for name, dependency in table.get("dependencies", {}).items():
        for alternative in dependency if isinstance(dependency, list) else [dependency]:
            options = alternative if isinstance(alternative, Mapping) else {}
            extras = f"[{','.join(options['extras'])}]" if options.get("extras") else ""
            yield f"{name}{extras}" + (f" ; {options['markers']}" if options.get("markers") else "")
