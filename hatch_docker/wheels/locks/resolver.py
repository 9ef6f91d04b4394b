"""Dependencies without a lock: asked of uv for the target, wheels first, sdists by their metadata alone.

uv is asked with wheels only. Where it names a package that has none, that package is allowed as an sdist, with
metadata that we read from the sdist itself (static, PEP 643) or get from whoever may run its build in isolation.
No code of a package runs on this machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.locks.pylock import Source, builds_here, pins_of, ways_out
from hatch_docker.wheels.locks.uv import MissingWheelError, compile_lock
from hatch_docker.wheels.target import Pin, Target

SdistMetadata = Callable[[Pin, Path], bytes]
"""Builds the core metadata (METADATA) of an sdist in isolation: its pin, its file -> the document's bytes."""

ROUNDS = 20                               # a resolution that needs more allows a package per round, and is stuck
LARGEST = 2 << 30                         # bytes that an sdist may unpack to


@dataclass(frozen=True, slots=True)
class _Needs:
    """What one version of an sdist requires, as uv's `dependency-metadata` says it."""

    version: str = ""
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    @property
    def table(self) -> dict[str, list[str]]:
        return {"requires-dist": list(self.requires), "provides-extra": list(self.extras)}


def resolve(
    lines: Sequence[str], target: Target, root: Path, indexes: Indexes, ctx: Context,
    metadata: SdistMetadata | None,
) -> tuple[Pin, ...]:
    """The newest files that satisfy some requirements (PEP 508) on a target, by name.

    Raises WheelError where there is no solution, or where only running a package's code would tell what it
    needs and `metadata` is not given.
    """
    from packaging.requirements import Requirement

    # A wheel at an address may name others, whose builds uv would run where nothing else keeps it from that (uv.py).
    unsafe = indexes.keyring and any(Requirement(line).url for line in lines)
    needs: dict[str, _Needs] = {}
    missing: MissingWheelError | None = None
    for _round in range(ROUNDS):
        try:
            table = compile_lock(
                lines, target, root, indexes, ctx, metadata={name: one.table for name, one in needs.items()}
            )
        except WheelError as error:
            lacking = set(error.names) - set(needs) if isinstance(error, MissingWheelError) else set()
            if isinstance(error, MissingWheelError) and lacking and builds_here(target) and not unsafe:
                needs |= dict.fromkeys(lacking, _Needs())
                missing = error
                continue
            if missing or isinstance(error, MissingWheelError):
                # Without the sdist there is no solution either: what uv said about wheels is the reason.
                raise WheelError(f"{missing or error}; {ways_out(target)}") from error
            raise
        missing = None
        pins = pins_of(table, Source("uv's resolution", root, root), target)
        if strange := [pin for pin in pins if not pin.is_wheel and pin.name not in needs]:
            raise WheelError(f"{strange[0].name} is an sdist that another one names by an address: lock the project")
        unread = [pin for pin in pins if not pin.is_wheel and needs[pin.name].version != pin.version]
        if not unread:
            return pins
        for pin in unread:
            needs[pin.name] = _needs_of(pin, root, ctx, metadata)
    raise WheelError(f"uv finds no stable answer with the sdists of {', '.join(sorted(needs))}; lock the project")


def _needs_of(pin: Pin, root: Path, ctx: Context, metadata: SdistMetadata | None) -> _Needs:
    path, = fetch([pin], ctx, root=root)
    ctx.progress.detail(f"{pin.name} {pin.version} has no wheel: reading what its sdist needs")
    found = static_metadata(path, pin.filename)
    if found is None:
        if metadata is None:
            raise WheelError(
                f"{pin.name} {pin.version} has no wheel, and only running its build tells what it needs; lock "
                "the project (pylock.toml or uv.lock), or require a version that has a wheel"
            )
        found = _parse(metadata(pin, path))
    return _Needs(pin.version, *found)


Found = tuple[tuple[str, ...], tuple[str, ...]]


def static_metadata(path: Path, filename: str) -> Found | None:
    """What an sdist requires and its extras, where it says so without being run; None where it does not.

    Static are metadata 2.2 whose `Dynamic` leaves them out (PEP 643), and a [project] table whose `dynamic`
    does (PEP 621). The archive is only read.
    """
    documents = _documents(path, filename)
    if b"PKG-INFO" in documents and (found := _static(documents[b"PKG-INFO"])):
        return found
    try:
        project = tomllib.loads(documents.get(b"pyproject.toml", b"").decode()).get("project")
    except (ValueError, RecursionError):
        return None
    if not isinstance(project, dict):
        return None
    dynamic, lines = project.get("dynamic", []), project.get("dependencies", [])
    optional = project.get("optional-dependencies", {})
    lists = [dynamic, lines, *(optional.values() if isinstance(optional, dict) else [None])]
    if not all(isinstance(one, list) and all(isinstance(line, str) for line in one) for one in lists):
        return None  # not valid; its backend will say so
    if {"dependencies", "optional-dependencies"} & set(dynamic):
        return None
    for extra, extra_lines in sorted(optional.items()):
        lines = [*lines, *(_with_extra(line, extra) for line in extra_lines)]
    return tuple(lines), tuple(sorted(optional))


def _with_extra(line: str, extra: str) -> str:
    head, semicolon, marker = line.partition(";")
    return f"{head.strip()} ; extra == '{extra}'" + (f" and ({marker.strip()})" if semicolon else "")


def _documents(path: Path, filename: str) -> dict[bytes, bytes]:
    """PKG-INFO and pyproject.toml of the top directory of an sdist."""
    found: dict[bytes, bytes] = {}
    if not filename.endswith((".tar.gz", ".tgz")):
        return found
    from hatch_docker.oci.compression import Decompressed
    from hatch_docker.oci.tar import read_tar

    try:
        with path.open("rb") as stream:
            for entry, content in read_tar(Decompressed(stream, LARGEST)):
                name = entry.path.partition("/")[2]
                if name in ("PKG-INFO", "pyproject.toml") and content is not None and entry.size < 1 << 20:
                    found[name.encode()] = content.read()
                if len(found) == 2:
                    break
    except (OSError, ImageError) as error:
        raise WheelError(f"{filename} cannot be read as an sdist: {error}") from error
    return found


def _static(document: bytes) -> Found | None:
    from packaging.metadata import parse_email
    from packaging.version import Version

    raw, _unknown = parse_email(document)
    dynamic = {field.lower() for field in raw.get("dynamic", [])}
    try:
        old = Version(raw.get("metadata_version", "1.0")) < Version("2.2")
    except ValueError:  # InvalidVersion is one, and so are numbers of 5000 digits
        return None
    return None if old or dynamic & {"requires-dist", "provides-extra"} else _parse(document)


def _parse(document: bytes) -> Found:
    from packaging.metadata import parse_email

    raw, _unknown = parse_email(document)
    return tuple(raw.get("requires_dist", [])), tuple(raw.get("provides_extra", []))
