"""Reader of uv.lock without uv: the packages that a project needs on a target, as the table of a pylock.toml."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import parse
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.project.git_source import git_address, parse_git
from hatch_docker.wheels.locks.pylock import LockFile, repository_table
from hatch_docker.wheels.target import Target, parse_marker

Table = Mapping[str, Any]

# Types of the fields of a lock that are read, for `validation.first_mismatch`.
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


def uv_table(
    lock: Table, file: LockFile, target: Target, extras: Collection[str], groups: Collection[str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the table of a pylock.toml with the project's dependencies, and the names of the direct dependencies.

    Raise WheelError for another version of the format, a project that is not in the lock, an unknown extra or group.
    """
    if lock.get("version") != 1:
        raise WheelError(f"{file.name} has version {lock.get('version')}, not 1; lock it with another uv")
    if (place := first_mismatch(_LOCK, lock)) is not None:
        raise WheelError(f"{file.name} is not a lock of uv's: {place} is not as uv writes it; run `uv lock`")
    packages: Sequence[Table] = lock.get("package", [])
    project_file = replace(file, members=())
    own = [
        package for package in packages
        if any(project_file.is_own(path) for kind, path in package.get("source", {}).items() if kind in _LOCAL)
    ]
    if not own:
        raise WheelError(f"{file.name} does not contain the project; run `uv lock`")
    project, name = own[0], own[0]["name"]
    _check_known(project, "optional-dependencies", extras, file)
    _check_known(project, "dev-dependencies", groups, file)
    active = {f"extra-{len(name)}-{name}-{extra}" for extra in extras}
    active |= {f"group-{len(name)}-{name}-{group}" for group in groups}
    walk = _Walk(packages, file, target, active)
    entries = [*_dependencies(project, extras)]
    for group in groups:
        entries += project.get("dev-dependencies", {}).get(group, [])
    direct = {entry["name"] for entry in entries if walk.applies(entry)} - {name}
    try:
        found = [_package(package, file) for package in walk.reach(entries) if package is not project]
    except ValueError as error:  # a malformed URL or time
        raise WheelError(f"{file.name} is not a lock of uv's: {error}; run `uv lock`") from error
    return {"lock-version": "1.0", "created-by": "uv", "packages": found}, frozenset(direct)


def _check_known(package: Table, kind: str, names: Collection[str], file: LockFile) -> None:
    metadata = package.get("metadata", {})
    known = {*package.get(kind, {}), *metadata.get("provides-extras", []), *metadata.get("requires-dev", {})}
    for name in names:
        if name not in known:
            what = "extra" if kind == "optional-dependencies" else "dependency group"
            raise WheelError(f"{file.name} does not contain the {what} {name!r}; run `uv lock`")


def _dependencies(package: Table, extras: Collection[str]) -> Iterator[Table]:
    yield from package.get("dependencies", [])
    for extra in sorted(extras):
        yield from package.get("optional-dependencies", {}).get(extra, [])


@dataclass(frozen=True, slots=True)
class _Walk:
    """A search for the packages that a project needs on a target.

    `active`: its selected extras and groups, by uv's names in markers of conflicts.
    """

    packages: Sequence[Table]
    file: LockFile
    target: Target
    active: set[str]

    def reach(self, entries: Sequence[Table]) -> list[Table]:
        """Return the packages that `entries` require, with their dependencies, in the order of the lock."""
        reached: dict[int, set[str]] = {}  # position of a package -> required extras
        waiting = list(entries)
        while waiting:
            entry = waiting.pop()
            if not self.applies(entry):
                continue
            position, extras = self.find(entry), set(entry.get("extra", ()))
            if position not in reached or not extras <= reached[position]:  # visit again for another extra
                extras |= reached.get(position, set())
                reached[position] = extras
                waiting += _dependencies(self.packages[position], extras)
        return [self.packages[position] for position in sorted(reached)]

    def applies(self, entry: Table) -> bool:
        """Return whether an entry's marker is true; uv's markers contain its own names for selected extras."""
        if not entry.get("marker"):
            return True

        def constant(found: re.Match[str]) -> str:
            return "os_name == 'posix'" if (found[2] in self.active) == (found[1] == "==") else "os_name != 'posix'"

        marker = re.sub(r"extra\s*(==|!=)\s*'([^']*)'", constant, entry["marker"])
        return self.target.satisfies(parse_marker(marker, f"{self.file.name}: {entry.get('name')}"))

    def find(self, entry: Table) -> int:
        """Return the position of the package that an entry requires. Raise WheelError unless there is exactly one."""
        found = [
            position for position, package in enumerate(self.packages)
            if package.get("name") == entry["name"]
            and entry.get("version", package.get("version")) == package.get("version")
            and entry.get("source", package.get("source")) == package.get("source")
        ]
        if len(found) > 1:
            markers = {position: self.packages[position].get("resolution-markers", [""]) for position in found}
            found = [at for at in found if any(self.applies({"marker": marker}) for marker in markers[at] or [""])]
        if len(found) != 1:
            raise WheelError(f"{self.file.name} names {entry['name']}, but has it {len(found)} times; run `uv lock`")
        return found[0]


def _package(package: Table, file: LockFile) -> dict[str, Any]:
    """Convert a package to the form of PEP 751."""
    source = package.get("source", {})
    value: dict[str, Any] = {"name": package["name"]}
    if "version" in package:
        value["version"] = package["version"]
    if "git" in source:
        address, _, commit = source["git"].partition("#")
        where = f"{file.name}: {package['name']}"
        source = parse_git(address, where)
        pinned = git_address(source.url, commit or source.ref, source.subdirectory)
        return repository_table(package["name"], package.get("version", ""), pinned, where, source.ref)
    for kind in _LOCAL:
        if kind in source:
            return {**value, "directory": {"path": source[kind]}}
    if "://" in source.get("registry", ""):
        value["index"] = source["registry"]
    directory = Path(source["registry"]) if "://" not in source.get("registry", "://") else Path()
    if "wheels" in package:
        value["wheels"] = [_file(entry, source, directory) for entry in package["wheels"]]
    if "sdist" in package:
        value["sdist"] = _file(package["sdist"], source, directory)
    if "wheels" not in value and "sdist" not in value:
        raise WheelError(f"{file.name}: {package['name']} has no files; run `uv lock`")
    return value


def _file(entry: Table, source: Table, directory: Path) -> dict[str, Any]:
    """Convert a file of a package; the address of a direct URL or path is in the package's source."""
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
