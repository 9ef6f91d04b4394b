"""uv.lock to the table of a pylock.toml, without uv: the packages that the project reaches for one target."""

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
from hatch_docker.wheels.locks.pylock import LockFile
from hatch_docker.wheels.target import Target, parse_marker

Table = Mapping[str, Any]

# The fields of a lock that are read, as `validation.first_mismatch` checks them.
_SOURCE = {"*": str}
_DEPENDENCY = {"name": str, "version?": str, "source?": _SOURCE, "marker?": str, "extra?": [str], "*": ANY}
_FILE = {
    "url?": str, "path?": str, "filename?": str, "hash?": str, "size?": int,
    "upload-time?": r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "*": ANY,
}
_PACKAGE = {
    "name": str, "version?": str, "source?": _SOURCE, "dependencies?": [_DEPENDENCY],
    "optional-dependencies?": {"*": [_DEPENDENCY]}, "dev-dependencies?": {"*": [_DEPENDENCY]},
    "resolution-markers?": [str], "wheels?": [_FILE], "sdist?": _FILE,
    "metadata?": {"provides-extras?": [str], "requires-dev?": {"*": ANY}, "*": ANY}, "*": ANY,
}
_LOCK = {
    "version": int, "package?": [_PACKAGE], "manifest?": {"overrides?": [{"name?": str, "*": ANY}], "*": ANY}, "*": ANY,
}
_LOCAL = ("virtual", "editable", "directory")  # kinds of sources that are directories


@dataclass(slots=True)
class _Walk:
    """The packages reached so far, by position in the lock, with their extras."""

    packages: Sequence[Table]
    file: LockFile
    target: Target
    active: set[str]                      # chosen extras and groups, as uv names them in markers of conflicts
    reached: dict[int, set[str]] = field(default_factory=dict)


def uv_table(
    lock: Table, file: LockFile, target: Target, extras: Collection[str], groups: Collection[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the table of a pylock.toml with what the project needs, and the names of its direct dependencies.

    Raise WheelError for a lock of another version, a project that is not in it, an unknown extra or group.
    """
    if lock.get("version") != 1:
        raise WheelError(f"{file.name} has version {lock.get('version')}, not 1; lock it with another uv")
    if (place := first_mismatch(_LOCK, lock)) is not None:
        raise WheelError(f"{file.name} is not a lock of uv's: {place} is not as uv writes it; run `uv lock`")
    packages: Sequence[Table] = lock.get("package", [])
    root = _position_of_project(packages, file)
    project, name = packages[root], packages[root]["name"]
    active = {f"extra-{len(name)}-{name}-{extra}" for extra in extras}
    active |= {f"group-{len(name)}-{name}-{group}" for group in groups}
    walk = _Walk(packages, file, target, active)
    _check_known(project, "optional-dependencies", extras, file)
    _check_known(project, "dev-dependencies", groups, file)
    entries = [*_dependencies(project, extras)]
    for group in groups:
        entries += project.get("dev-dependencies", {}).get(group, [])
    walk.reached[root] = set(extras)
    direct = {entry["name"] for entry in entries if _applies(entry, walk)} - {name}
    _follow(entries, walk)
    del walk.reached[root]
    try:
        found = [_package(packages[position], file) for position in sorted(walk.reached)]
    except ValueError as error:  # a malformed URL or time
        raise WheelError(f"{file.name} is not a lock of uv's: {error}; run `uv lock`") from error
    return {"lock-version": "1.0", "created-by": "uv", "packages": found}, frozenset(direct)


def _position_of_project(packages: Sequence[Table], file: LockFile) -> int:
    alone = replace(file, members=())
    for position, package in enumerate(packages):
        source = package.get("source", {})
        if any(kind in source and alone.is_own(source[kind]) for kind in _LOCAL):
            return position
    raise WheelError(f"{file.name} does not know the project; run `uv lock`")


def _check_known(package: Table, kind: str, names: Collection[str], file: LockFile) -> None:
    metadata = package.get("metadata", {})
    known = {*package.get(kind, {}), *metadata.get("provides-extras", []), *metadata.get("requires-dev", {})}
    for name in names:
        if name not in known:
            what = "extra" if kind == "optional-dependencies" else "dependency group"
            raise WheelError(f"{file.name} does not know the {what} {name!r}; run `uv lock`")


def _dependencies(package: Table, extras: Collection[str]) -> Iterator[Table]:
    yield from package.get("dependencies", [])
    for extra in sorted(extras):
        yield from package.get("optional-dependencies", {}).get(extra, [])


def _follow(entries: Sequence[Table], walk: _Walk) -> None:
    """Reach what the entries require, and so on; a package is visited again for an extra that is required later."""
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
    """Return whether an entry's marker holds for the target; uv has its own names in markers for chosen extras."""
    text = entry.get("marker")
    if not text:
        return True

    def truth(found: re.Match[str]) -> str:
        return "os_name == 'posix'" if (found[2] in walk.active) == (found[1] == "==") else "os_name != 'posix'"

    marker = re.sub(r"extra\s*(==|!=)\s*'([^']*)'", truth, text)
    return walk.target.holds(parse_marker(marker, f"{walk.file.name}: {entry.get('name')}"))


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
        raise WheelError(f"{walk.file.name} names {entry['name']}, but has it {len(found)} times; run `uv lock`")
    return found[0]


def _for_target(package: Table, walk: _Walk) -> bool:
    markers = package.get("resolution-markers", [])
    return not markers or any(_applies({"marker": marker}, walk) for marker in markers)


def _package(package: Table, file: LockFile) -> dict[str, Any]:
    """Return a package as PEP 751 writes it."""
    source = package.get("source", {})
    value: dict[str, Any] = {"name": package["name"]}
    if "version" in package:
        value["version"] = package["version"]
    if "git" in source:
        url, _, commit = source["git"].partition("#")
        return {**value, "vcs": {"type": "git", "url": url, "commit-id": commit or "HEAD"}}
    for kind in _LOCAL:
        if kind in source:
            return {**value, "directory": {"path": source[kind]}}
    directory = Path(source["registry"]) if "://" not in source.get("registry", "://") else Path()
    if "wheels" in package:
        value["wheels"] = [_file(entry, source, directory) for entry in package["wheels"]]
    if "sdist" in package:
        value["sdist"] = _file(package["sdist"], source, directory)
    if "wheels" not in value and "sdist" not in value:
        raise WheelError(f"{file.name}: {package['name']} has no files; run `uv lock`")
    return value


def _file(entry: Table, source: Table, directory: Path) -> dict[str, Any]:
    """Return a file of a package; the address of a direct URL or path stands in the package's source."""
    value: dict[str, Any] = {}
    url = entry.get("url") or (None if "path" in entry else source.get("url"))
    path = entry.get("path") or source.get("path")
    if url:
        value |= {"url": url, "name": entry.get("filename") or unquote(parse(url).path.rpartition("/")[2])}
    elif path:
        value |= {"path": str(directory / path), "name": Path(path).name}
    if "size" in entry:
        value["size"] = entry["size"]
    if "upload-time" in entry:
        value["upload-time"] = datetime.fromisoformat(entry["upload-time"])
    algorithm, _, digest = entry.get("hash", "none:").partition(":")
    return {**value, "hashes": {algorithm: digest}}
