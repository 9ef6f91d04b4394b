"""Packages of an image with their files and dependencies; owners and permissions of files.

RECORD (PEP 376) and databases of dpkg and apk list the files; METADATA and these databases have the dependencies.
"""

import contextlib
import csv
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.model import Dependency, OwnedFiles, Permissions
from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import Readable
from hatch_docker.oci.filesystem import LayerMember
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.paths import PATH_LIMIT
from hatch_docker.release.sbom.inventory import LIMIT, RELEASES, reader
from hatch_docker.release.sbom.requirements import Requirements, spread_extras
from hatch_docker.wheels.target import MACHINES, Target

READ_LIMIT = 192 << 20  # bytes of all lists and databases of an image
USERS = "etc/passwd"
SET_ID, STICKY = 0o6000, 0o1000  # bits of a mode: set-user-ID and set-group-ID; sticky bit of a directory
DIRECT = ".dist-info/direct_url.json"
_LIST = re.compile(r"var/lib/dpkg/(?:info/(?P<name>[^/:]+)(?::[^/]+)?\.list|status\.d/(?P<distroless>[^/]+)\.md5sums)")
_APK = re.compile(r"(?:usr/)?lib/apk/db/installed")
_BYTECODE = re.compile(r"(?P<directory>.*/)?__pycache__/(?P<name>[^/]+?)\.[^/.]+(?:\.opt-\d)?\.pyc")


class PackageFiles:
    """The files of an image that describe its packages, by path. Files of later layers replace earlier ones."""

    def __init__(self) -> None:
        self.metadata: dict[str, dict[str, Any]] = {}  # parsed by release.sbom.inventory
        self.lists: dict[str, list[str]] = {}          # lists of a package's files, such as RECORD: the listed paths
        self.texts: dict[str, str] = {}
        self._room = READ_LIMIT

    def read(self, path: str, stream: Readable) -> None:
        """Read a file of a layer if it describes packages."""
        name = path.rpartition("/")[2]
        if name == "RECORD" and path.endswith(".dist-info/RECORD"):
            self.lists[path] = list(_record_paths(path, self._text(path, stream)))
        elif path.startswith("var/lib/dpkg/") and _LIST.fullmatch(path):
            # A line of dpkg's .list files is a path; in md5sums files, a hash precedes the path.
            lines = filter(None, self._text(path, stream).splitlines())
            paths = (line if line.startswith("/") else line.partition("  ")[2] or line for line in lines)
            self.lists[path] = [name.lstrip("/") for name in paths]
        elif path == USERS or path.endswith(DIRECT):
            self.texts[path] = self._text(path, stream)
        elif name not in ("copyright", "") and "/sboms/" not in path and (parse := reader(path)):
            text = self._text(path, stream)
            self.metadata[path] = parse(path, text.encode(errors="surrogateescape"))
            if _APK.fullmatch(path):
                self.lists |= {f"{path}#{package}": paths for package, paths in _apk_paths(text)}

    def _text(self, path: str, stream: Readable) -> str:
        data = stream.read(LIMIT)
        self._room -= len(data)
        if self._room < 0:
            raise ImageError(f"the lists of the image's files have more than {READ_LIMIT >> 20} MB; the last is {path}")
        return data.decode(errors="surrogateescape")

    @property
    def direct(self) -> frozenset[str]:
        """The .dist-info directories of packages that were installed from a directory (PEP 610)."""
        return frozenset(
            path.rpartition("/")[0] for path, text in self.texts.items()
            if path.endswith(DIRECT) and re.search(r'"url":\s*"file:', text)
        )  # fmt: skip

    @property
    def system(self) -> str:
        """The name of the distribution, "" without os-release."""
        release = next((self.metadata[path] for path in RELEASES if path in self.metadata), {})
        return release.get("PRETTY_NAME") or f"{release.get('NAME', '')} {release.get('VERSION_ID', '')}".strip()

    def owned(self, present: Mapping[str, object]) -> Iterator[tuple[str, str, list[str]]]:
        """Yield type, package and paths of each list whose metadata is `present` in the image's file system.

        The package is the path of METADATA for Python packages, otherwise the name.
        """
        for path, paths in self.lists.items():
            if path.endswith("/RECORD"):
                metadata = path.removesuffix("RECORD") + "METADATA"
                if metadata in present:
                    yield "python", metadata, paths
            elif "#" in path:
                database, _, name = path.partition("#")
                if database in present:
                    yield "apk", name, paths
            elif match := _LIST.fullmatch(path):
                yield "deb", match["name"] or match["distroless"], [*paths, path, path.removesuffix(".md5sums")]


def _record_paths(path: str, text: str) -> Iterator[str]:
    """Yield the paths of a RECORD relative to the root; in the file they are relative to site-packages."""
    site = path.rpartition("/")[0].rpartition("/")[0]
    with contextlib.suppress(csv.Error):  # use the rows before an invalid row
        for row in csv.reader(text.splitlines()) if '"' in text else (line.split(",", 1) for line in text.splitlines()):
            if row and 0 < len(row[0]) <= PATH_LIMIT:
                name = row[0] if row[0].startswith("/") else f"{site}/{row[0]}"
                dots = "." in name.split("/") or ".." in name.split("/")
                yield (posixpath.normpath(name) if dots else name).lstrip("/")


def _apk_paths(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each package in apk's database with its files: "F:" is a directory, "R:" a file in it."""
    for paragraph in re.split(r"\n\s*\n", text):
        package, directory, paths = "", "", []
        for line in paragraph.splitlines():
            if line.startswith("P:"):
                package = line[2:]
            elif line.startswith("F:"):
                directory = line[2:].strip("/")
            elif line.startswith("R:"):
                paths.append(f"{directory}/{line[2:]}".lstrip("/"))
        if package:
            yield package, paths


def source_of(path: str) -> str:
    """Return the source file of a cached .pyc (PEP 3147), "" for other files."""
    if not path.endswith(".pyc"):
        return ""
    match = _BYTECODE.fullmatch(path)
    return f"{match['directory'] or ''}{match['name']}.py" if match else ""


def permissions_of(image: Image, members: Sequence[LayerMember], package_files: PackageFiles) -> Permissions:
    """Return owners and permissions in the image's file system; paths are sorted."""
    user, group = _user(image, package_files.texts.get(USERS, ""))
    owners: dict[str, tuple[int, int]] = {}
    setuid, writable, everybody = [], [], []
    for member in sorted((member for member in members if member.visible), key=lambda item: item.entry.path.split("/")):
        entry = member.entry
        if entry.kind == "symlink":
            continue
        name = f"{entry.uid}:{entry.gid}"
        files, size = owners.get(name, (0, 0))
        owners[name] = (files + (entry.kind == "file"), size + entry.size)
        path = f"/{entry.path}"
        if entry.mode & SET_ID and entry.kind in ("file", "hardlink"):
            setuid.append(path)
        if entry.mode & 0o002:
            everybody.append(path + ("" if entry.kind != "directory" or entry.mode & STICKY else " (not sticky)"))
        elif user and ((entry.uid == user and entry.mode & 0o200) or (entry.gid == group and entry.mode & 0o020)):
            writable.append(path)
    owned = {name: OwnedFiles(*counts) for name, counts in sorted(owners.items())}
    return Permissions(user, owned, tuple(setuid), tuple(writable), tuple(everybody))


def _user(image: Image, passwd: str) -> tuple[int | None, int | None]:
    """Return UID and GID of the image's user: 0 if the image sets none, None for an unknown name."""
    name, _, group = str(image.settings.get("User") or "0").partition(":")
    rows = [line.split(":") for line in passwd.splitlines()]
    known = next((row for row in rows if len(row) > 3 and name in (row[0], row[2])), None)
    numbers = [known[2], known[3]] if known else [name, "0"]
    if group:
        numbers[1] = group
    user, main = (int(word) if word.isascii() and word.isdigit() and len(word) < 11 else None for word in numbers)
    return user, main


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an installed package. `path`: its METADATA file or database. `own`: it is the project itself."""

    type: str
    name: str
    version: str
    path: str
    requires: tuple[Any, ...]  # in the format of release.sbom.inventory
    provides: tuple[str, ...] = ()
    own: bool = False


def dependencies_of(packages: Sequence[Metadata], python: str, platform: Platform) -> list[tuple[Dependency, ...]]:
    """Return the dependencies of each package, with markers evaluated for the image's Python and platform."""
    names = _names(packages)
    found: list[dict[tuple[int, str], Dependency]] = [{} for _ in packages]
    for number, package in enumerate(packages):
        if package.type not in ("python", "interpreter"):
            for group in package.requires:
                target = next((names[package.type, name] for name in group if (package.type, name) in names), number)
                if target != number:
                    found[number].setdefault((target, ""), Dependency(target, ""))
    if python and platform.architecture in MACHINES:
        environment = {**Target(python, platform, ("glibc", "2.0")).marker_environment()}
        for number, dependency in _python_dependencies(packages, names, environment):
            found[number].setdefault((dependency.package, dependency.line), dependency)
    return [tuple(dependencies.values()) for dependencies in found]


def _names(packages: Sequence[Metadata]) -> dict[tuple[str, str], int]:
    """Return the index of each package by type and name (the first of several); names precede those in Provides."""
    names: dict[tuple[str, str], int] = {}
    for number, package in enumerate(packages):
        name = canonicalize_name(package.name) if package.type == "python" else package.name
        names.setdefault((package.type, name), number)
    for number, package in enumerate(packages):
        for name in package.provides:
            names.setdefault((package.type, name), number)
    return names


def _python_dependencies(
    packages: Sequence[Metadata], names: Mapping[tuple[str, str], int], environment: Mapping[str, Any]
) -> Iterator[tuple[int, Dependency]]:
    """Yield the dependencies of Python packages, with the extras that other packages require.

    The extras of the project itself are not recorded in the image. Assume that an extra is used if one of its
    requirements is installed and no other package requires it.
    """
    lines = {
        number: Requirements(packages[number].requires, environment)
        for (kind, _), number in names.items() if kind == "python"
    }  # fmt: skip
    extras: dict[int, set[str]] = {number: set() for number in lines}

    def find(name: str) -> int | None:
        return names.get(("python", name))

    spread_extras(lines, extras, find)
    reached: set[int | None] = {None, *(dependency.package for _, dependency in _edges(lines, extras, find))}
    for number, own_lines in lines.items():
        if number in reached or not packages[number].own:
            continue
        for extra in own_lines.by_extra:
            if {find(requirement.name) for requirement in own_lines.applying_for(extra)} - reached:
                extras[number].add(extra)
    spread_extras(lines, extras, find)
    yield from _edges(lines, extras, find)


def _edges(
    lines: Mapping[int, Requirements], extras: Mapping[int, set[str]], find: Callable[[str], int | None]
) -> Iterator[tuple[int, Dependency]]:
    for number, own_lines in lines.items():
        for requirement in own_lines.applying(extras[number]):
            target = find(requirement.name)
            if target is not None and target != number:
                yield number, Dependency(target, " ".join(requirement.line.split()), requirement.extra)
