"""poetry.lock and pdm.lock, which have names, versions and hashes: what a project reaches in one for a target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.wheels.locks.requirements_txt import HashedLine
from hatch_docker.wheels.target import Target

if TYPE_CHECKING:
    from packaging.requirements import Requirement


# What is read of a lock's packages, as `validation.first_mismatch` reads it.
_FILES = [{"hash": str, "*": ANY}]
_WANTED = (str, {"extras?": [str], "markers?": str, "*": ANY})
_SHAPES: Mapping[str, Any] = {
    "poetry": {
        "name": str, "version": str, "markers?": (str, {"*": str}), "source?": {"*": str}, "files?": _FILES,
        "dependencies?": {"*": (*_WANTED, [_WANTED])}, "*": ANY,
    },
    "pdm": {
        "name": str, "version": str, "marker?": str, "extras?": [str], "dependencies?": [str], "url?": str,
        "files?": _FILES, "*": ANY,
    },
}


@dataclass(frozen=True, slots=True)
class _Package:
    """One entry of a lock: when it holds, and what it asks for in its turn (PEP 508)."""

    name: str
    version: str
    marker: str                           # of the project, where the lock has several versions; "" for always
    extras: frozenset[str]                # pdm's entry of these extras, beside that of the package itself
    requires: tuple[str, ...]
    url: str
    sha256: frozenset[str]


def named_lines(
    kind: str, table: Mapping[str, Any], place: str, requirements: Sequence[str], extras: Sequence[str], target: Target
) -> tuple[HashedLine, ...]:
    """What some requirements reach in a lock of `kind` "poetry" or "pdm", by name; `extras` are the project's.

    Raises WheelError for a lock of another form, for a package without a hash or that is no file, and where the lock
    leaves open which of several versions holds. A requirement that is not in it is left out: whoever asks compares.
    """
    if (wrong := first_mismatch({"package": [_SHAPES[kind]], "*": ANY}, table)) is not None:
        raise WheelError(f"{place} is not a lock of {kind}: {wrong} is not as it writes it; run `{kind} lock`")
    read = {"poetry": _poetry, "pdm": _pdm}[kind]
    packages = [read(one) for one in table["package"]]
    found: dict[str, set[str]] = {}
    lines: dict[str, HashedLine] = {}
    waiting = [_required(line, place) for line in requirements]
    direct = {canonicalize_name(one.name) for one in waiting}
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        known = name in found
        if not _holds(asked.marker, (), target) or (known and asked.extras <= found[name]):
            continue
        found.setdefault(name, set()).update(asked.extras)
        entries = [one for one in packages if one.name == name and one.extras <= found[name]]
        chosen = _choose(entries, asked, extras, target, place)
        if not chosen and name not in direct:
            raise WheelError(f"{place} names {name}, which it does not have for {target}; run `{kind} lock`")
        for one in chosen:
            if not one.extras:
                lines[name] = _line(one, place)
            waiting += _below(one, sorted(found[name]), target, place)
    return tuple(lines[name] for name in sorted(lines))


def _choose(
    entries: Sequence[_Package], asked: Requirement, extras: Sequence[str], target: Target, place: str
) -> list[_Package]:
    """Of entries with one name, those of the version that holds on the target."""
    from packaging.markers import InvalidMarker, Marker

    try:
        holding = [one for one in entries if not one.marker or _holds(Marker(one.marker), extras, target)]
    except InvalidMarker as error:
        raise WheelError(f"{place}: {asked.name} has a marker that is not valid: {error}") from error
    fitting = [one for one in holding if _admits(asked, one.version)]
    chosen = fitting or holding
    if len({one.version for one in chosen}) > 1:
        versions = ", ".join(sorted({one.version for one in chosen}))
        raise WheelError(f"{place} has {asked.name} {versions}, and does not say which is for {target}; lock it again")
    return chosen


def _admits(asked: Requirement, version: str) -> bool:
    with contextlib.suppress(ValueError):  # of numbers with 5000 digits
        return asked.specifier.contains(version, prereleases=True)
    return False


def _holds(marker: Any, extras: Sequence[str], target: Target) -> bool:
    if marker is None:
        return True
    environment = target.marker_environment()
    return any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))


def _below(package: _Package, extras: Sequence[str], target: Target, place: str) -> Iterator[Requirement]:
    """What a package with some extras asks for on a target."""
    for line in package.requires:
        required = _required(line, place)
        if _holds(required.marker, extras, target):
            required.marker = None
            yield required


def _required(line: str, place: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        raise WheelError(f"{place}: {redact_requirement(line)!r} is not a valid requirement: {why}") from None


def _line(package: _Package, place: str) -> HashedLine:
    if not package.sha256:
        raise WheelError(f"{place}: {package.name} {package.version} is no file with a sha256; publish it to an index")
    return HashedLine(package.name, "" if package.url else package.version, package.url, package.sha256)


def _hashes(entry: Mapping[str, Any]) -> frozenset[str]:
    hashes = (one["hash"] for one in entry.get("files", ()))
    return frozenset(text.removeprefix("sha256:").lower() for text in hashes if text.startswith("sha256:"))


def _poetry(entry: Mapping[str, Any]) -> _Package:
    source = entry.get("source", {})
    local = source.get("type") in ("git", "directory", "file")
    marker = entry.get("markers", "")
    if isinstance(marker, Mapping):  # by group
        marker = " or ".join(f"({one})" for one in marker.values())
    return _Package(
        canonicalize_name(entry["name"]), entry["version"], marker, frozenset(), tuple(_poetry_requires(entry)),
        source.get("url", "") if source.get("type") == "url" else "", frozenset() if local else _hashes(entry),
    )


def _poetry_requires(entry: Mapping[str, Any]) -> Iterator[str]:
    """Poetry's own way to write requirements; versions are left to the lock, which has decided."""
    for name, wanted in entry.get("dependencies", {}).items():
        for one in wanted if isinstance(wanted, list) else [wanted]:
            said = one if isinstance(one, Mapping) else {}
            extras = f"[{','.join(said['extras'])}]" if said.get("extras") else ""
            yield f"{name}{extras}" + (f" ; {said['markers']}" if said.get("markers") else "")


def _pdm(entry: Mapping[str, Any]) -> _Package:
    local = "git" in entry or "path" in entry
    return _Package(
        canonicalize_name(entry["name"]), entry["version"], entry.get("marker", ""), frozenset(entry.get("extras", ())),
        tuple(entry.get("dependencies", ())), entry.get("url", ""), frozenset() if local else _hashes(entry),
    )
