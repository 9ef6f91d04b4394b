"""Resolution without a lock: uv picks the files for a target, wheels first, sdists by their metadata alone.

uv is asked for wheels only. If it names a package without one, that package is allowed as an sdist, with metadata that
we read from the sdist itself (static, PEP 643) or that the caller gets by an isolated build. No code of a package runs
on this machine.
"""

import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.project.sources import Source
from hatch_docker.wheels.builder.sdist import sdist_members
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.locks.pylock import LockFile, pins_of
from hatch_docker.wheels.locks.sources import bind, to_bind
from hatch_docker.wheels.locks.uv import MissingWheelError, NotFoundError, compile_lock
from hatch_docker.wheels.target import Pin, Target

SdistMetadata = Callable[[Pin, Path], bytes]
"""Builds the core metadata (METADATA) of an sdist in isolation: its pin, its file -> the document's bytes."""

Dependencies = tuple[tuple[str, ...], tuple[str, ...]]
"""Requires-Dist and Provides-Extra of core metadata."""

ROUNDS = 20                               # each allows at least one package as an sdist; more never end
LARGEST_DOCUMENT = 1 << 20                # bytes of its PKG-INFO and its pyproject.toml


def resolve(
    lines: Sequence[str], target: Target, root: Path, indexes: Indexes, ctx: Context,
    metadata: SdistMetadata | None, sources: Sequence[Source] = (), pinned: Sequence[str] = (),
) -> tuple[Pin, ...]:
    """Return the newest files that satisfy some requirements (PEP 508) on a target, by name.

    `sources` are the places that some of them are taken from, `pinned` the versions of some packages, whoever requires
    them. Raise WheelError if there is no solution, or if only a package's own code knows its dependencies and
    `metadata`, which would run it in isolation, is not given.
    """
    # A wheel at an address may name others, which uv would build if nothing else prevents it (uv.py).
    bound, lines = bind(lines, sources, indexes, root, target), [*lines]
    unsafe = indexes.keyring and (bound.has_addresses or any(Requirement(line).url for line in lines))
    sdists: dict[str, tuple[str, Dependencies]] = {}  # versions whose dependencies are known
    missing: MissingWheelError | None = None
    for _round in range(ROUNDS):
        try:
            allowed = {
                name: {"requires-dist": requires, "provides-extra": extras}
                for name, (_version, (requires, extras)) in sdists.items()
            }
            table = compile_lock(lines, target, root, indexes, ctx, metadata=allowed, bound=bound, pinned=pinned)
        except WheelError as error:
            names = error.names if isinstance(error, NotFoundError) else ()
            if more := to_bind(names, bound, sources, indexes, target):
                lines += more
                bound = bind(lines, sources, indexes, root, target)
                continue
            lacking = set(error.names) - set(sdists) if isinstance(error, MissingWheelError) else set()
            if isinstance(error, MissingWheelError) and lacking and target.builds_here and not unsafe:
                sdists |= dict.fromkeys(lacking, ("", ((), ())))
                missing = error
                continue
            if missing or isinstance(error, MissingWheelError):
                # Without the sdist there is no solution either: uv's message about wheels is the reason.
                raise WheelError(f"{missing or error}; {target.alternatives}") from error
            raise
        missing = None
        pins = pins_of(table, LockFile("uv's resolution", root, root), target)
        _check_local(pins, lines, sources, indexes)
        if unexpected := [pin for pin in pins if not pin.is_wheel and pin.name not in sdists]:
            name = unexpected[0].name
            raise WheelError(f"{name} is an sdist at an address that another package requires: lock the project")
        unread = [pin for pin in pins if not pin.is_wheel and sdists[pin.name][0] != pin.version]
        if more := to_bind((pin.name for pin in pins), bound, sources, indexes, target):
            # uv binds only names that it is asked for, and other packages may require these.
            lines += more
            bound = bind(lines, sources, indexes, root, target)
            continue
        if not unread:
            return pins
        for pin in unread:
            sdists[pin.name] = (pin.version, _dependencies_of(pin, root, ctx, metadata))
    raise WheelError(f"uv finds no stable answer with the sdists of {', '.join(sorted(sdists))}; lock the project")


def _check_local(pins: Sequence[Pin], lines: Sequence[str], sources: Sequence[Source], indexes: Indexes) -> None:
    """Raise WheelError for a file of this machine that only the page of an index elsewhere names.

    uv does not say which index has a file: it must be in a directory of files of the user's, or beside an index here.
    """
    named = {source.name for source in sources if source.kind in ("url", "path")} | {
        canonicalize_name(requirement.name) for requirement in map(Requirement, lines) if requirement.url
    }
    links, pages = ([_local_path(index.url) for index in found] for found in (indexes.find_links, indexes.indexes))
    if any(path and not Path(path).is_absolute() for path in (*links, *pages)):
        return  # uv knows where a relative path starts
    places = [path if Path(path).is_dir() else os.path.split(path)[0] for path in links]
    places += [os.path.split(path)[0] for path in pages]
    own = [Path(form(place)) for place in places if place for form in (os.path.normpath, os.path.realpath)]
    for pin in pins:
        path = _local_path(pin.url)
        found = [Path(os.path.normpath(path)), Path(os.path.realpath(path))]
        if path and pin.name not in named and not any(file.is_relative_to(place) for file in found for place in own):
            raise WheelError(f"the package index has {pin.filename} at {pin.url[:200]}, on this machine: refused")


def _local_path(url: str) -> str:
    """Return the path of a file or directory on this machine, without a slash at its end, "" for an address elsewhere.
    """
    path = unquote(urlsplit(url).path) if url.startswith("file:") else "" if "://" in url else url
    return path.rstrip("/")


def _dependencies_of(pin: Pin, root: Path, ctx: Context, metadata: SdistMetadata | None) -> Dependencies:
    path, = fetch([pin], ctx, root=root)
    ctx.progress.detail(f"{pin.title} has no wheel: reading what its sdist needs")
    if (found := static_metadata(path, pin.filename)) is not None:
        return found
    if metadata is None:
        raise WheelError(
            f"{pin.title} has no wheel, and only running its build tells what it needs; lock "
            "the project (pylock.toml or uv.lock), or require a version that has a wheel"
        )
    return _parse(metadata(pin, path))


def static_metadata(path: Path, filename: str) -> Dependencies | None:
    """Read the dependencies and extras of an sdist without running it; return None if they are not static.

    Static are those of metadata 2.2 or newer whose `Dynamic` does not name them (PEP 643), and of a [project] table
    whose `dynamic` does not (PEP 621).
    """
    documents = _documents(path, filename)
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
        return None  # not valid; its backend will say so
    if {"dependencies", "optional-dependencies"} & set(dynamic):
        return None
    for extra, extra_lines in sorted(optional.items()):
        for line in extra_lines:
            head, semicolon, marker = line.partition(";")
            lines.append(f"{head.strip()} ; extra == '{extra}'" + (f" and ({marker.strip()})" if semicolon else ""))
    return tuple(lines), tuple(sorted(optional))


def _documents(path: Path, filename: str) -> dict[str, bytes]:
    """Return PKG-INFO and pyproject.toml of the top directory of an sdist."""
    found: dict[str, bytes] = {}
    if not filename.endswith((".tar.gz", ".tgz", ".zip")):
        return found
    try:
        for entry, content in sdist_members(path, filename):
            name = entry.path.partition("/")[2]
            if name in ("PKG-INFO", "pyproject.toml") and content is not None and entry.size < LARGEST_DOCUMENT:
                found[name] = content.read(LARGEST_DOCUMENT)
            if len(found) == 2:
                break
    except (OSError, ImageError) as error:
        raise WheelError(f"{filename} cannot be read as an sdist: {error}") from error
    return found


def _static(document: bytes) -> Dependencies | None:
    raw, _unknown = parse_email(document)
    dynamic = {field.lower() for field in raw.get("dynamic", [])}
    try:
        old = Version(raw.get("metadata_version", "1.0")) < Version("2.2")
    except ValueError:  # an invalid version, or a number of 5000 digits
        return None
    return None if old or dynamic & {"requires-dist", "provides-extra"} else _parse(document)


def _parse(document: bytes) -> Dependencies:
    raw, _unknown = parse_email(document)
    return tuple(raw.get("requires_dist", [])), tuple(raw.get("provides_extra", []))
