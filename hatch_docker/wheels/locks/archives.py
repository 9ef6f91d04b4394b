"""Direct references (PEP 508) that must be built: git repositories, and sdists at a URL or a path.

Their name, version and requirements are read from the files if they are static, otherwise a build supplies them.
"""

import tomllib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.core.http.client import fetch as download
from hatch_docker.core.http.urls import parse, redact_url
from hatch_docker.project.git_remote import resolve_commit
from hatch_docker.project.git_source import GitSource, parse_git
from hatch_docker.project.sources import Source
from hatch_docker.wheels.builder.sdist import sdist_documents
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.repository import repository_archive, static_identity
from hatch_docker.wheels.target import TREE_SUFFIX, Pin, Target, parse_marker, parse_requirement, sdist_name, version_of

SdistMetadata = Callable[[Pin, Path], bytes]
"""A function that builds the core metadata (METADATA) of an sdist in isolation: its pin, its file -> METADATA."""

Dependencies = tuple[tuple[str, ...], tuple[str, ...]]
"""Requires-Dist and Provides-Extra of core metadata."""

ARCHIVES = (".tar.gz", ".zip")


@dataclass(frozen=True, slots=True)
class DirectPackage:
    """A package at a direct reference: its pin, its requirements (PEP 508) and its extras."""

    pin: Pin
    requires: tuple[str, ...]
    extras: tuple[str, ...]


def is_archive(address: str) -> bool:
    """Return whether an address is a git repository or an sdist, which must be built."""
    path = address.partition("#")[0].partition("?")[0]
    return address.startswith("git+") or path.endswith(ARCHIVES)


@dataclass(slots=True)
class StubWheels:
    """Wheels in `directory` that contain only metadata, so that uv can resolve packages that must be built.

    `sources`: those of the project's requirements, and the direct references of the stub packages. `required`: names of
    the latter that are needed without an extra. `stubs`: address -> path of the wheel, and the package.
    """

    directory: Path
    root: Path
    indexes: Indexes
    ctx: Context
    metadata: SdistMetadata | None
    target: Target
    sources: list[Source] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    stubs: dict[str, tuple[str, DirectPackage]] = field(default_factory=dict)

    def path(self, source: Source) -> str:
        """Return the path of the stub wheel for a source that must be built."""
        if source.where not in self.stubs:
            package = direct_package(
                source.name, source.where, source.table, self.root, self.indexes, self.ctx, self.metadata
            )
            lines, more = split_references(package.requires, f"a requirement of {package.pin.title}")
            if local := [other for other in more if "file:" in other.where and "file:" not in source.where]:
                raise WheelError(f"{package.pin.title} requires {local[0].name} at a path of this machine: refused")
            self.sources += [replace(other, indirect=True) for other in more]
            self.required += [
                other.name for other in more
                if not other.marker or self.target.satisfies(parse_marker(other.marker, other.table))
            ]
            self.stubs[source.where] = _stub_wheel(self.directory / str(len(self.stubs)), package, lines), package
        return self.stubs[source.where][0]

    def with_own_pins(self, pins: Sequence[Pin]) -> tuple[Pin, ...]:
        """Return the pins; those of stub wheels are replaced by the pins of the packages."""
        own = {Path(path).as_uri(): package.pin for path, package in self.stubs.values()}
        return tuple(own.get(pin.url, pin) for pin in pins)

    def has(self, pin: Pin) -> bool:
        """Return whether a pin is that of a stub wheel's package."""
        return any(package.pin == pin for _, package in self.stubs.values())


def _stub_wheel(directory: Path, package: DirectPackage, lines: Sequence[str]) -> str:
    """Write a wheel that contains only a package's metadata, and return its path."""
    pin = package.pin
    stem = f"{pin.name.replace('-', '_')}-{pin.version}"
    fields = [("Metadata-Version", "2.1"), ("Name", pin.name), ("Version", pin.version)]
    fields += [("Provides-Extra", extra) for extra in package.extras] + [("Requires-Dist", line) for line in lines]
    directory.mkdir()
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "".join(f"{name}: {value}\n" for name, value in fields))
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return str(path.absolute())


def split_references(lines: Iterable[str], owner: str = "the dependency") -> tuple[list[str], list[Source]]:
    """Return the requirements without direct references that must be built, and these references as sources."""
    found, sources = [], []
    for line in lines:
        requirement = parse_requirement(line, owner)
        url = requirement.url or ""
        if url and is_archive(url):
            kind, name = "git" if url.startswith("git+") else "url", canonicalize_name(requirement.name)
            sources.append(Source(name, kind, url, f"{owner} {name}", str(requirement.marker or "")))
            requirement.url = None
            line = str(requirement)
        found.append(line)
    return found, sources


def direct_package(
    name: str, address: str, where: str, root: Path, indexes: Indexes, ctx: Context, metadata: SdistMetadata | None
) -> DirectPackage:
    """Return the package at an address: a git repository, or an sdist (a path is relative to `root`).

    `where`: the place of the reference, for messages. A branch or tag is resolved to its current commit, which is
    reported. Raise WheelError, RegistryError or TransientError.
    """
    if address.startswith("git+"):
        reference = parse_git(address, where)
        source = resolve_commit(reference, ctx)
        if not reference.is_pinned:
            ref = reference.ref or "the default branch"
            ctx.progress.info(f"{name}: {ref} of {reference.url} is commit {source.ref[:12]}")
        pin = repository_pin(name, "", source, ctx)
    else:
        pin = _sdist_pin(name, address, where, root, indexes, ctx)
    path = ctx.store.blob_path(f"sha256:{pin.sha256}")
    return _with_metadata(pin, path, metadata)


def repository_pin(name: str, version: str, source: GitSource, ctx: Context) -> Pin:
    """Return the pin of a commit; its version is "" if it is unknown before the build."""
    archive = repository_archive(source, ctx)
    filename = sdist_name(name, archive.version) if archive.version else f"{name}.{TREE_SUFFIX}"
    return Pin(name, archive.version or version, filename, str(source), archive.sha256, archive.size, None)


def _sdist_pin(name: str, address: str, where: str, root: Path, indexes: Indexes, ctx: Context) -> Pin:
    bare, _, fragment = address.partition("#")
    url = bare if "://" in bare else (root / bare).absolute().as_uri()
    local = Path(unquote(parse(url).path)) if url.startswith("file:") else None
    if local is not None and not local.is_file():
        raise WheelError(f"{where}: there is no file {redact_url(bare)[:200]}")
    if not url.startswith(("http:", "https:", "file:")):
        raise WheelError(f"{where}: {redact_url(url)[:200]} is not an http, https or file URL")
    digest = download(ctx.store, indexes.client(ctx), url, digest=None, headers=indexes.authorization(url))
    parts = parse(url)
    filename = unquote(parts.path.rpartition("/")[2])
    version = str(version_of(filename) or "") if canonicalize_name(filename).startswith(name) else ""
    if not version:  # such as a forge's archive of a tag
        filename = f"{name}.{'source.zip' if filename.endswith('.zip') else TREE_SUFFIX}"
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=fragment).geturl()
    size = ctx.store.blob_path(digest).stat().st_size
    return Pin(name, version, filename, url, digest.removeprefix("sha256:"), size, None)


def _with_metadata(pin: Pin, path: Path, metadata: SdistMetadata | None) -> DirectPackage:
    """Return a package with its version and requirements."""
    pyproject = _documents(path, pin.filename, pin.subdirectory).get("pyproject.toml", b"")
    name, version = static_identity(pyproject)
    _check_name(pin, name or pin.name)
    version = pin.version or version
    found = static_metadata(path, pin.filename, pin.subdirectory)
    if found is None or not version:
        found, version = built_metadata(pin, path, metadata)
    try:
        version = str(Version(version))
    except ValueError:  # InvalidVersion, or a number with 5000 digits
        raise WheelError(f"{pin.name} at {redact_url(pin.url)} has the version {version[:50]!r}: correct it") from None
    tree = pin.filename.startswith(f"{pin.name}.source.") and not pin.needs_git
    filename = sdist_name(pin.name, version, pin.filename) if tree else pin.filename
    return DirectPackage(replace(pin, version=version, filename=filename), *found)


def _check_name(pin: Pin, name: str) -> None:
    if canonicalize_name(name) != pin.name:
        raise WheelError(f"{pin.name} at {redact_url(pin.url)} is {name}: correct the dependency's name")


def built_metadata(pin: Pin, path: Path, metadata: SdistMetadata | None) -> tuple[Dependencies, str]:
    """Return the requirements and the version of a package from an isolated build of its metadata."""
    if metadata is None:
        raise WheelError(
            f"{pin.title.strip()} has no wheel, and only running its build tells what it needs; lock "
            "the project (pylock.toml or uv.lock), or require a version that has a wheel"
        )
    document = metadata(pin, path)
    raw, _unknown = parse_email(document)
    _check_name(pin, raw.get("name", ""))
    return _parse(document), raw.get("version", "")


def static_metadata(path: Path, filename: str, subdirectory: str = "") -> Dependencies | None:
    """Return the dependencies and extras of an sdist if they are static, without executing it; otherwise None.

    Metadata 2.2 or newer are static if `Dynamic` does not list the fields (PEP 643), a [project] table if `dynamic`
    does not list them (PEP 621).
    """
    documents = _documents(path, filename, subdirectory)
    if "PKG-INFO" in documents and (found := _static(documents["PKG-INFO"])):
        return found
    try:
        project = tomllib.loads(documents.get("pyproject.toml", b"").decode()).get("project")
    except (ValueError, RecursionError):
        return None
    if not isinstance(project, dict):
        return None
    dynamic, lines = project.get("dynamic", []), project.get("dependencies", [])
    optional = project.get("optional-dependencies", {})
    lists = [dynamic, lines, *(optional.values() if isinstance(optional, dict) else [None])]
    if not all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists):
        return None  # not valid; the backend will report the error
    if {"dependencies", "optional-dependencies"} & set(dynamic):
        return None
    for extra, extra_lines in sorted(optional.items()):
        for line in extra_lines:
            head, semicolon, marker = line.partition(";")
            lines.append(f"{head.strip()} ; extra == '{extra}'" + (f" and ({marker.strip()})" if semicolon else ""))
    return tuple(lines), tuple(sorted(optional))


def _documents(path: Path, filename: str, subdirectory: str) -> dict[str, bytes]:
    """Return PKG-INFO and pyproject.toml in the project's directory of an sdist."""
    if not filename.endswith((".tar.gz", ".tgz", ".zip")):
        return {}
    try:
        return sdist_documents(path, filename, ("PKG-INFO", "pyproject.toml"), subdirectory)
    except (OSError, ImageError) as error:
        raise WheelError(f"{filename} cannot be read as an sdist: {error}") from error


def _static(document: bytes) -> Dependencies | None:
    raw, _unknown = parse_email(document)
    dynamic = {field.lower() for field in raw.get("dynamic", [])}
    try:
        old = Version(raw.get("metadata_version", "1.0")) < Version("2.2")
    except ValueError:  # an invalid version, or a number with 5000 digits
        return None
    return None if old or dynamic & {"requires-dist", "provides-extra"} else _parse(document)


def _parse(document: bytes) -> Dependencies:
    raw, _unknown = parse_email(document)
    return tuple(raw.get("requires_dist", [])), tuple(raw.get("provides_extra", []))
