"""From a uv.lock to the table of a pylock.toml, without uv: the packages that the project reaches for one target."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import parse
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.wheels.locks.pylock import Source
from hatch_docker.wheels.target import Target

Table = Mapping[str, Any]

# What is read of a lock, as `validation.first_mismatch` reads it.
_PLACE = {"*": str}
_ENTRY = {"name": str, "version?": str, "source?": _PLACE, "marker?": str, "extra?": [str], "*": ANY}
_FILE = {
    "url?": str, "path?": str, "filename?": str, "hash?": str, "size?": int,
    "upload-time?": r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "*": ANY,
}
_PACKAGE = {
    "name": str, "version?": str, "source?": _PLACE, "dependencies?": [_ENTRY],
    "optional-dependencies?": {"*": [_ENTRY]}, "dev-dependencies?": {"*": [_ENTRY]}, "resolution-markers?": [str],
    "wheels?": [_FILE], "sdist?": _FILE,
    "metadata?": {"provides-extras?": [str], "requires-dev?": {"*": ANY}, "*": ANY}, "*": ANY,
}
_LOCK = {
    "version": int, "package?": [_PACKAGE], "manifest?": {"overrides?": [{"name?": str, "*": ANY}], "*": ANY}, "*": ANY,
}


@dataclass(slots=True)
class _Walk:
    """The packages reached so far, by position in the lock, with their extras; and what is active."""

    packages: Sequence[Table]
    source: Source
    target: Target
    active: set[str]                      # uv's names of the chosen extras and groups, for its conflict markers
    reached: dict[int, set[str]] = field(default_factory=dict)
    direct: set[str] = field(default_factory=set)


def uv_table(
    lock: Table, source: Source, target: Target, extras: Collection[str], groups: Collection[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """A pylock.toml's table of what the project needs, and the names that it asks for itself.

    Raises WheelError for a lock of another version, a project that is not in it, an unknown extra or group.
    """
    if lock.get("version") != 1:
        raise WheelError(f"{source.name} has version {lock.get('version')}, not 1; lock it with another uv")
    if (place := first_mismatch(_LOCK, lock)) is not None:
        raise WheelError(f"{source.name} is not a lock of uv's: {place} is not as uv writes it; run `uv lock`")
    packages: Sequence[Table] = lock.get("package", [])
    root = _root(packages, source)
    name = packages[root]["name"]
    walk = _Walk(packages, source, target, set())
    walk.active |= {f"extra-{len(name)}-{name}-{extra}" for extra in extras}
    walk.active |= {f"group-{len(name)}-{name}-{group}" for group in groups}
    for kind, chosen in (("optional-dependencies", extras), ("dev-dependencies", groups)):
        for one in chosen:
            _known(packages[root], kind, one, source)
    entries = [*_dependencies(packages[root], extras)]
    for group in groups:
        entries += packages[root].get("dev-dependencies", {}).get(group, [])
    walk.reached[root] = set(extras)
    walk.direct |= {entry["name"] for entry in entries if _applies(entry, walk)} - {name}
    _follow(entries, walk)
    del walk.reached[root]
    try:
        found = [_package(packages[position], source) for position in sorted(walk.reached)]
    except ValueError as error:  # a URL or a time that is none
        raise WheelError(f"{source.name} is not a lock of uv's: {error}; run `uv lock`") from error
    return {"lock-version": "1.0", "created-by": "uv", "packages": found}, frozenset(walk.direct)


def _root(packages: Sequence[Table], source: Source) -> int:
    for position, package in enumerate(packages):
        place = package.get("source", {})
        for kind in ("virtual", "editable", "directory"):
            if kind in place and replace(source, members=()).is_own(place[kind]):
                return position
    raise WheelError(f"{source.name} does not know the project; run `uv lock`")


def _known(package: Table, kind: str, name: str, source: Source) -> None:
    metadata = package.get("metadata", {})
    known = {*package.get(kind, {}), *metadata.get("provides-extras", []), *metadata.get("requires-dev", {})}
    if name not in known:
        what = "extra" if kind == "optional-dependencies" else "dependency group"
        raise WheelError(f"{source.name} does not know the {what} {name!r}; run `uv lock`")


def _dependencies(package: Table, extras: Collection[str]) -> Iterator[Table]:
    yield from package.get("dependencies", [])
    for extra in sorted(extras):
        yield from package.get("optional-dependencies", {}).get(extra, [])


def _follow(entries: Sequence[Table], walk: _Walk) -> None:
    """Reach what the entries ask for, and what that asks for; an extra asked for later is visited then."""
    waiting = list(entries)
    while waiting:
        entry = waiting.pop()
        if not _applies(entry, walk):
            continue
        position = _find(entry, walk)
        extras = set(entry.get("extra", ()))
        seen = walk.reached.get(position)
        if seen is None or not extras <= seen:
            walk.reached[position] = extras | (seen or set())
            waiting += _dependencies(walk.packages[position], walk.reached[position])


def _applies(entry: Table, walk: _Walk) -> bool:
    """Whether an entry's marker holds for the target. uv writes chosen extras into markers under its own names."""
    from packaging.markers import InvalidMarker, Marker

    text = entry.get("marker")
    if not text:
        return True

    def answer(found: re.Match[str]) -> str:
        return "os_name == 'posix'" if (found[2] in walk.active) == (found[1] == "==") else "os_name != 'posix'"

    plain = re.sub(r"extra\s*(==|!=)\s*'([^']*)'", answer, text)
    try:
        return walk.target.holds(Marker(plain))
    except InvalidMarker as error:
        raise WheelError(f"{walk.source.name}: the marker {text!r} of {entry.get('name')} is not valid") from error


def _find(entry: Table, walk: _Walk) -> int:
    found = [
        position for position, package in enumerate(walk.packages)
        if package.get("name") == entry["name"]
        and entry.get("version", package.get("version")) == package.get("version")
        and entry.get("source", package.get("source")) == package.get("source")
    ]
    if len(found) > 1:
        found = [position for position in found if _for_target(walk.packages[position], walk)]
    if len(found) != 1:
        raise WheelError(f"{walk.source.name} names {entry['name']}, but has it {len(found)} times; run `uv lock`")
    return found[0]


def _for_target(package: Table, walk: _Walk) -> bool:
    markers = package.get("resolution-markers", [])
    return not markers or any(_applies({"marker": marker}, walk) for marker in markers)


def _package(package: Table, source: Source) -> dict[str, Any]:
    """One package as PEP 751 writes it."""
    place = package.get("source", {})
    value: dict[str, Any] = {"name": package["name"]}
    if "version" in package:
        value["version"] = package["version"]
    if "git" in place:
        url, _, commit = place["git"].partition("#")
        return {**value, "vcs": {"type": "git", "url": url, "commit-id": commit or "HEAD"}}
    for kind in ("virtual", "editable", "directory"):
        if kind in place:
            return {**value, "directory": {"path": place[kind]}}
    base = Path(place["registry"]) if "://" not in place.get("registry", "://") else Path()
    if "wheels" in package:
        value["wheels"] = [_file(entry, place, base) for entry in package["wheels"]]
    if "sdist" in package:
        value["sdist"] = _file(package["sdist"], place, base)
    if "wheels" not in value and "sdist" not in value:
        raise WheelError(f"{source.name}: {package['name']} has no files; run `uv lock`")
    return value


def _file(entry: Table, place: Table, base: Path) -> dict[str, Any]:
    """A file of a package; of a direct URL or path, the address is the package's."""
    value: dict[str, Any] = {}
    url = entry.get("url") or (None if "path" in entry else place.get("url"))
    path = entry.get("path") or place.get("path")
    if url:
        value |= {"url": url, "name": entry.get("filename") or unquote(parse(url).path.rpartition("/")[2])}
    elif path:
        value |= {"path": str(base / path), "name": Path(path).name}
    if "size" in entry:
        value["size"] = entry["size"]
    if "upload-time" in entry:
        value["upload-time"] = datetime.fromisoformat(entry["upload-time"])
    algorithm, _, digest = entry.get("hash", "none:").partition(":")
    return {**value, "hashes": {algorithm: digest}}
