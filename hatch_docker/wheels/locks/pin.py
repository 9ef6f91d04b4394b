"""Pins of a project's dependencies: read from its lock or resolved, and cached by everything that affects them.

A lock with addresses (pylock.toml, uv.lock) is converted to the table of a pylock.toml. A lock without addresses
(poetry.lock, pdm.lock, requirements with hashes) has names, versions and hashes, and uv lists the files on the index.
Without a lock uv resolves the requirements; the result is in the project's hatch-docker.lock if that exists.
"""

from __future__ import annotations

import functools
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, TransientError, WheelError
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import digest_of
from hatch_docker.plan.model import LockPlan
from hatch_docker.project.git_source import parse_git
from hatch_docker.project.sources import read_sources
from hatch_docker.project.workspace import workspaces_of
from hatch_docker.wheels.index import Indexes, read_indexes
from hatch_docker.wheels.target import Pin, PinHash, Target, parse_requirement

if TYPE_CHECKING:
    from hatch_docker.wheels.locks.archives import SdistMetadata
    from hatch_docker.wheels.locks.pylock import PinDirect
    from hatch_docker.wheels.locks.requirements_txt import LockedPackage

RECIPE = 1
RESOLUTION_LIFETIME = 24 * 3600           # seconds for which a resolution without a lock is reused
IN_PROJECT = "project:"                   # prefix of URLs of files below the project, in caches and locks
_FACT = "pins"
HASHES = "build-pins"                     # fact: a resolution of build requirements without URLs
_RELOCK = {
    "pylock": "lock it again (`hatch lock`, `uv export --format pylock.toml`)",
    "uv": "run `uv lock`",
    "poetry": "run `poetry lock`",
    "pdm": "run `pdm lock`",
    "requirements": "write it again (`uv pip compile --generate-hashes`)",
}


def pin(
    lock: LockPlan, root: Path, target: Target, ctx: Context, *, metadata: SdistMetadata | None = None
) -> tuple[Pin, ...]:
    """Return the files of a project's dependencies for a target, by name; an sdist only if no wheel fits.

    Requirements in addition to the lock (`LockPlan.beside`) are resolved separately and do not affect other pins.
    `metadata` builds the core metadata of an sdist if they are not static. Raise WheelError if the lock does not match
    the project or the target, and for a resolution without a solution.
    """
    lock = _with_sources(lock, ctx)
    pins = _locked_pins(lock, root, target, ctx, metadata)
    ctx.local_wheels.update(unquote(urlsplit(pin.url).path) for pin in pins if pin.url.startswith("file:"))
    names = {pin.name for pin in pins}
    missing = [name for name in lock.beside if name not in names]
    if not missing:
        return pins
    more = [pin for pin in pin_requirements(missing, root, target, ctx) if pin.name not in names]
    return tuple(sorted((*pins, *more), key=lambda pin: pin.name))


def pin_requirements(requires: Sequence[str], project: Path, target: Target, ctx: Context) -> tuple[Pin, ...]:
    """Return the wheels of build requirements, with the indexes and sources of `project`; raise WheelError."""
    lock = _requirements_lock(requires, project, ctx)
    key = _resolution_key(lock, project, target, ctx)[0] if ctx.image_lock is None else ""
    return _pin_wheels(lock, key, project, target, ctx)


def find_hashes(requires: Sequence[str], project: Path, target: Target, ctx: Context) -> tuple[PinHash, ...] | None:
    """Return the hashes of the wheels of build requirements, for cache keys.

    A build with a shared cache takes them from it. They have no URLs: only `pin_requirements` decides what is installed
    and executed. Return None if a shared cache could have chosen a URL to request. Raise WheelError.
    """
    lock = _requirements_lock(requires, project, ctx)
    key = _resolution_key(lock, project, target, ctx)[0] if ctx.image_lock is None else ""
    if key and ctx.store.uses_shared and not _is_recent(ctx.store.recall(_FACT, key), ctx):
        shared = ctx.store.recall(HASHES, key)
        if _is_recent(shared, ctx):
            ctx.note_response_time(HASHES, key, shared["at"])
            return tuple(PinHash(*row) for row in shared["pins"])
        if any("@" in line for line in requires):
            return None
    return _hashes(_pin_wheels(lock, key, project, target, ctx))


def _pin_wheels(lock: LockPlan, key: str, project: Path, target: Target, ctx: Context) -> tuple[Pin, ...]:
    """Return the wheels of build requirements. If `key` is not "", store their hashes for a shared cache."""
    pins = pin(lock, project, target, ctx)
    for found in pins:
        if not found.is_wheel:
            raise WheelError(f"build requirement {found.name} {found.version} has no wheel for {target}")
    at = ctx.response_times.get((_FACT, ctx.store.stored_key(_FACT, key))) if key else None
    if at is not None and not any(found.url.startswith("file:") for found in pins):
        ctx.store.note(HASHES, key, {"at": at, "pins": [astuple(row) for row in _hashes(pins)]})
    return pins


def _with_sources(lock: LockPlan, ctx: Context) -> LockPlan:
    """Return the lock plan; without uv's sources if UV_NO_SOURCES is set."""
    if ctx.environ.get("UV_NO_SOURCES", "").lower() not in ("1", "true", "yes", "on"):
        return lock
    return replace(lock, sources=tuple(source for source in lock.sources if not source.is_from_uv))


def _hashes(pins: Iterable[Pin]) -> tuple[PinHash, ...]:
    return tuple(PinHash(found.name, found.version, found.filename, found.sha256) for found in pins)


def _requirements_lock(requires: Sequence[str], project: Path, ctx: Context) -> LockPlan:
    """Return the lock plan of build requirements. Raise WheelError if one is a member of the workspace."""
    from hatch_docker.project.pyproject import read_pyproject

    names = {canonicalize_name(parse_requirement(line, "the build requirement").name) for line in requires}
    tables = read_pyproject(project) if (project / "pyproject.toml").is_file() else {}
    sources = [
        source for source in read_sources(project, tables, workspaces_of(project))
        if source.name in names and not source.extra and not source.group
    ]
    for source in sources:
        if source.kind == "workspace":
            raise WheelError(
                f"pyproject.toml: {source.table} is in the workspace: a build requirement comes from an index"
            )
    return _with_sources(LockPlan("resolve", requirements=tuple(requires), sources=tuple(sources)), ctx)


def _locked_pins(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    if lock.kind == "resolve":
        return _resolved(lock, root, target, ctx, metadata)
    make: Callable[[], tuple[Pin, ...]]
    pin_direct = functools.partial(_pin_direct, lock=lock, root=root, ctx=ctx, metadata=metadata)
    if lock.kind in ("pylock", "uv"):
        data = _read(lock, root)
        indexes = read_indexes(root, ctx.environ) if lock.sources else None
        key = _key(lock, target, [digest_of(data), indexes and indexes.identity()])
        make = functools.partial(_from_table, lock, data, root, target, indexes, pin_direct)
    else:
        packages = _hashed_packages(lock, root, target, ctx)
        indexes = read_indexes(root, ctx.environ)
        rows = [[*astuple(package)[:3], sorted(package.sha256), package.index, package.git] for package in packages]
        key = _key(lock, target, [rows, indexes.identity()])
        make = functools.partial(_from_index, lock, packages, root, target, indexes, ctx, pin_direct)
    pins = _pins_of_fact(ctx.store.recall_or_make(_FACT, key, lambda: _fact_of(make(), root)), root)
    if all(_is_unchanged(pin) for pin in pins):
        return pins
    pins = make()
    ctx.store.remember(_FACT, key, _fact_of(pins, root))
    return pins


def _is_unchanged(pin: Pin) -> bool:
    """Return whether a local file still has the pin's hash, which a lock may not contain; True for other files."""
    path = Path(unquote(urlsplit(pin.url).path))
    return not pin.url.startswith("file:") or (path.is_file() and file_digest(path) == f"sha256:{pin.sha256}")


def _pin_direct(
    name: str, version: str, address: str, lock: LockPlan, root: Path, ctx: Context, metadata: SdistMetadata | None
) -> Pin:
    """Return the pin of a direct reference in a lock that must be built; see pylock.PinDirect."""
    from hatch_docker.wheels.locks.archives import direct_package, repository_pin

    where = f"{lock.path}: {name}"
    if version and address.startswith("git+") and (source := parse_git(address, where)).is_pinned:
        return repository_pin(name, version, source, ctx)
    return direct_package(name, address, where, root, read_indexes(root, ctx.environ), ctx, metadata).pin


def _hashed_packages(lock: LockPlan, root: Path, target: Target, ctx: Context) -> tuple[LockedPackage, ...]:
    """Return the packages of a lock without URLs that the project needs on a target."""
    if lock.kind == "requirements":
        from hatch_docker.wheels.locks.requirements_txt import read_requirements

        return read_requirements(root / lock.path, root, target, ctx.progress, lock.members)
    from hatch_docker.wheels.locks.poetry_pdm import locked_packages

    table = _table(lock, _read(lock, root))
    return locked_packages(lock.kind, table, lock.path, lock.requirements, lock.extras, target)


def _read(lock: LockPlan, root: Path) -> bytes:
    try:
        return (root / lock.path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the lock {lock.path}: {error.strerror}") from error


def _table(lock: LockPlan, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise WheelError(f"{lock.path} is not valid TOML: {error}") from error


def _key(lock: LockPlan, target: Target, facts: Any) -> str:
    sources = [astuple(source) for source in lock.sources]
    request = [sorted(lock.requirements), sorted(lock.extras), sorted(lock.groups), sources]
    return key_of(RECIPE, lock.kind, lock.path, request, target.build, str(target.platform), target.libc, facts)


def _from_table(
    lock: LockPlan, data: bytes, root: Path, target: Target, indexes: Indexes | None = None,
    pin_direct: PinDirect | None = None,
) -> tuple[Pin, ...]:
    """Return the pins of a pylock.toml or a uv.lock."""
    from hatch_docker.wheels.locks.pylock import LockFile, pins_of
    from hatch_docker.wheels.locks.uv_lock import uv_table

    file = LockFile(lock.path, (root / lock.path).parent, root, lock.members)
    table = _table(lock, data)
    if lock.kind == "pylock":
        _check_sources(lock, table.get("packages", ()), indexes, target)
        pins = pins_of(table, file, target, extras=lock.extras, groups=lock.groups, direct=pin_direct)
        check_covers(lock, pins, target)
        return pins
    found, direct = uv_table(table, file, target, lock.extras, lock.groups)
    _check_sources(lock, found["packages"], indexes, target)
    overridden = {entry.get("name") for entry in table.get("manifest", {}).get("overrides", [])}
    pins = pins_of(found, file, target, direct=pin_direct)
    required = check_covers(lock, pins, target, frozenset(overridden))
    direct -= {package["name"] for package in found["packages"] if "directory" in package}
    if lock.requirements and direct - required:
        raise WheelError(
            f"{lock.path} still has {', '.join(sorted(direct - required))}, which the project does not require; "
            "run `uv lock`"
        )
    return pins


def _from_index(
    lock: LockPlan, packages: Sequence[LockedPackage], root: Path, target: Target, indexes: Indexes, ctx: Context,
    pin_direct: PinDirect,
) -> tuple[Pin, ...]:
    """Return the pins of a lock without URLs: the index lists the files of each version, the hashes select."""
    from hatch_docker.wheels.locks.pylock import LockFile, pins_of, repository_table
    from hatch_docker.wheels.locks.sources import bind_locked
    from hatch_docker.wheels.locks.uv import compile_lock

    rows = [
        repository_table(package.name, "", package.git, f"{lock.path}: {package.name}") if package.git
        else {"name": package.name, "index": package.index} for package in packages
    ]
    _check_sources(lock, rows, indexes if lock.sources else None, target)
    tables: list[dict[str, Any]] = []
    if indexed := {package.name: package for package in packages if not package.url and not package.git}:
        lines = [f"{package.name}=={package.version}" for package in indexed.values()]
        bindings = bind_locked(lock.kind, indexed, lines, indexes, root, target)
        resolved = compile_lock(
            lines, target, root, indexes if lock.kind != "poetry" else indexes.without_declared(), ctx,
            metadata={name: {"requires-dist": []} for name in indexed}, bindings=bindings, every_file=True,
        ).get("packages", [])
        tables = [_only_hashed(table, indexed[table["name"]].sha256, lock) for table in resolved]
    for package in packages:
        if package.url:
            count, is_local = len(package.sha256), "://" not in package.url or package.url.startswith("file:")
            if count != 1 and not (is_local and count == 0):
                raise WheelError(f"{lock.path}: {package.name} has a URL and {count} hashes; give it one")
            hashes = {"sha256": min(package.sha256)} if count else {"none": ""}
            place = {"url" if "://" in package.url else "path": package.url}
            tables.append({"name": package.name, "archive": {**place, "hashes": hashes}})
        elif package.git:
            tables.append(repository_table(package.name, package.version, package.git, f"{lock.path}: {package.name}"))
    table = {"lock-version": "1.0", "created-by": "hatch-docker", "packages": tables}
    pins = pins_of(table, LockFile(lock.path, (root / lock.path).parent, root), target, direct=pin_direct)
    check_covers(lock, pins, target)
    return pins


def _only_hashed(package: dict[str, Any], allowed: frozenset[str], lock: LockPlan) -> dict[str, Any]:
    """Return a package's table with only the files whose hashes are in the lock."""
    files = [*package.get("wheels", []), package.get("sdist", {})]
    found = [file for file in files if file.get("hashes", {}).get("sha256") in allowed]
    if not found:
        raise WheelError(
            f"{lock.path}: no file of {package['name']} {package.get('version', '')} on the index has one of its "
            f"hashes: it was replaced, or locked from another index; {_RELOCK[lock.kind]}"
        )
    wheels = [file for file in found if file is not files[-1]]
    kept = {name: value for name, value in package.items() if name != "wheels" and (name != "sdist" or value in found)}
    return {**kept, "wheels": wheels} if wheels else kept


def _check_sources(
    lock: LockPlan, packages: Iterable[Mapping[str, Any]], indexes: Indexes | None, target: Target
) -> None:
    """Raise WheelError if a lock has a package from another index or address than the project's sources."""
    from hatch_docker.wheels.locks.archives import split_references
    from hatch_docker.wheels.locks.sources import stale_source

    named = [source for source in split_references(lock.requirements)[1] if source.kind == "git"]
    if (lock.sources or named) and (text := stale_source((*lock.sources, *named), packages, indexes, target)):
        raise WheelError(f"{lock.path} is stale: {text}; {_RELOCK[lock.kind]}")


def check_covers(
    lock: LockPlan, pins: Sequence[Pin], target: Target, overridden: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the names that the project requires on a target. Raise WheelError if the lock lacks a suitable pin."""
    versions = {pin.name: pin.version for pin in pins}
    required: set[str] = set()
    for line in lock.requirements:
        requirement = parse_requirement(line, "the project's dependency")
        if not target.satisfies(requirement.marker):
            continue
        name = canonicalize_name(requirement.name)
        required.add(name)
        found = versions.get(name)
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        if not fits and not (found and name in overridden):
            has = f"has {name} {found}" if found else f"does not have {name}"
            raise WheelError(f"{lock.path} is stale: the project requires {line!r}, it {has}; {_RELOCK[lock.kind]}")
    return frozenset(required)


def _resolved(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    """Return a resolution: from hatch-docker.lock if the project has this file, otherwise by uv, at most a day old.

    Raise ConfigError if hatch-docker.lock is out of date.
    """
    if not lock.requirements:
        return ()
    if ctx.image_lock is None:
        return _resolve_by_index(lock, root, target, ctx, metadata)
    pinned = [f"{line} of {lock.pinned}" for line in _pinned(lock, root, target, ctx)]
    question = {
        "platform": str(target.platform), "python": target.build, "libc": " ".join(target.libc),
        "asked": sorted([*map(_without_login, lock.requirements), *map(str, lock.sources), *pinned]),
    }  # fmt: skip
    entry = ctx.image_lock.find("requirements", question)
    if entry is not None:
        return tuple(_absolute(_pin_of_row(row), root) for row in entry["files"])
    pins = _resolve_by_index(lock, root, target, ctx, metadata)
    ctx.image_lock.note("requirements", {**question, "files": [_row_of_pin(_relative(pin, root)) for pin in pins]})
    return pins


def _without_login(line: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", line)


def _pinned(lock: LockPlan, root: Path, target: Target, ctx: Context) -> tuple[str, ...]:
    """Return the pins of a requirements file without hashes; they are constraints for the project's dependencies."""
    if not lock.pinned:
        return ()
    from hatch_docker.wheels.locks.requirements_txt import read_pins

    return read_pins(root / lock.pinned, root, target, ctx.progress)


def _resolve_by_index(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    """Return a resolution at most a day old; while no index responds, an older one with a warning."""
    key, indexes, pinned = _resolution_key(lock, root, target, ctx)
    fact = ctx.store.recall(_FACT, key) or {"at": 0, "pins": []}
    known, age = _pins_of_fact(fact, root), time.time() - int(fact["at"])
    if _is_recent(fact, ctx):
        ctx.note_response_time(_FACT, key, fact["at"])
        return known
    from hatch_docker.wheels.locks.resolver import resolve

    if pinned:
        ctx.progress.info(
            f"{lock.pinned} pins {abbreviate(pinned)}; with hashes (`uv pip compile --generate-hashes`) it would pin "
            "the files too"
        )
        note = f'{lock.pinned} pins some of them; `lock = "none"` ignores these pins'
        indexes = replace(indexes, note=f"{indexes.note}; {note}" if indexes.note else note)
    reason = "no lock" if ctx.image_lock is None else "to be locked"
    try:
        with ctx.progress.task(f"resolving {abbreviate(sorted(lock.requirements))} for {target.platform} ({reason})"):
            pins = resolve(sorted(lock.requirements), target, root, indexes, ctx, metadata, lock.sources, pinned)
        fact = _fact_of(pins, root)
        ctx.store.remember(_FACT, key, fact)
        ctx.note_response_time(_FACT, key, fact["at"])
        return pins
    except TransientError as error:
        if not known or ctx.refresh:
            raise
        ctx.progress.warn(f"{error}; using the resolution of {age / 3600:.0f} hours ago")
        return known


def _resolution_key(lock: LockPlan, root: Path, target: Target, ctx: Context) -> tuple[str, Indexes, tuple[str, ...]]:
    """Return the key of a resolution without a lock, the indexes for it, and the versions that are constraints."""
    indexes = read_indexes(root, ctx.environ)
    files = [root / source.where.partition("#")[0] for source in lock.sources if source.kind == "path"]
    pinned = _pinned(lock, root, target, ctx)
    digests = [digest_of(file.read_bytes()) for file in files if file.is_file()]
    return _key(lock, target, [indexes.identity(), pinned, digests]), indexes, pinned


def _is_recent(fact: Mapping[str, Any] | None, ctx: Context) -> bool:
    """Return whether a resolution is at most a day old."""
    if not fact or not fact["pins"] or ctx.refresh:
        return False
    return 0 <= time.time() - int(fact["at"]) < RESOLUTION_LIFETIME


def _pins_of_fact(fact: Mapping[str, Any], root: Path) -> tuple[Pin, ...]:
    return tuple(_absolute(Pin(*row), root) for row in fact["pins"])


def _fact_of(pins: Sequence[Pin], root: Path) -> dict[str, Any]:
    return {"at": int(time.time()), "pins": [astuple(_relative(pin, root)) for pin in pins]}


def _relative(pin: Pin, root: Path) -> Pin:
    """Return the pin with a URL relative to the project, if the file is below it, for use in another checkout."""
    project = root.absolute().as_uri() + "/"
    return replace(pin, url=IN_PROJECT + pin.url.removeprefix(project)) if pin.url.startswith(project) else pin


def _absolute(pin: Pin, root: Path) -> Pin:
    project = root.absolute().as_uri() + "/"
    return replace(pin, url=project + pin.url.removeprefix(IN_PROJECT)) if pin.url.startswith(IN_PROJECT) else pin


def _pin_of_row(row: Mapping[str, Any]) -> Pin:
    """Return the pin of a row in hatch-docker.lock, whose upload time is in ISO format."""
    uploaded = None
    if "uploaded" in row:
        from datetime import datetime

        uploaded = int(datetime.fromisoformat(row["uploaded"]).timestamp())
    return Pin(row["name"], row["version"], row["file"], row["url"], row["sha256"], row.get("size"), uploaded)


def _row_of_pin(pin: Pin) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": pin.name, "version": pin.version, "file": pin.filename, "url": pin.url, "sha256": pin.sha256,
    }  # fmt: skip
    if pin.size is not None:
        row["size"] = pin.size
    if pin.upload_time is not None:
        row["uploaded"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(pin.upload_time))
    return row
