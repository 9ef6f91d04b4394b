"""Which files the dependencies are: read from the project's lock, or resolved; remembered by what decides them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import ConfigError, TransientError, WheelError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import digest_of
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.target import Pin, Target

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.wheels.index import Indexes
    from hatch_docker.wheels.locks.requirements_txt import HashedLine
    from hatch_docker.wheels.locks.resolver import SdistMetadata

RECIPE = 1
RESOLUTION_LIFETIME = 24 * 3600           # seconds for which a resolution without a lock is not asked again
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
    """The files of a project's dependencies for one target, by name; an sdist only where no wheel fits.

    What is wanted beside a lock (`LockPlan.beside`) is resolved apart, so that nothing else changes for it. Raises
    WheelError for a lock that does not cover the project or does not serve the target, and for a resolution without a
    solution. `metadata` is asked for what an sdist needs if only its build can tell.
    """
    found = _pinned(lock, root, target, ctx, metadata)
    names = {one.name for one in found}
    missing = [line for line in lock.beside if line not in names]
    if not missing:
        return found
    more = [one for one in pin_requirements(missing, root, target, ctx) if one.name not in names]
    return tuple(sorted((*found, *more), key=lambda one: one.name))


def _pinned(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    if lock.kind == "resolve":
        return _resolved(lock, root, target, ctx, metadata)
    path = root / lock.path
    if lock.kind in ("requirements", "poetry", "pdm"):
        from hatch_docker.wheels.index import read_indexes

        lines = _lines(lock, path, root, target, ctx)
        indexes = read_indexes(root, ctx.environ)
        facts: list[Any] = [[[one.name, one.version, one.url, sorted(one.sha256)] for one in lines],
                            indexes.identity()]
        key = _key(lock, target, facts)
        return _remembered(key, root, ctx) or _keep(key, root, ctx, _hashed(lock, lines, root, target, indexes, ctx))
    data = _read(lock, path)
    key = _key(lock, target, digest_of(data))
    return _remembered(key, root, ctx) or _keep(key, root, ctx, _locked(lock, data, root, target))


def _read(lock: LockPlan, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the lock {lock.path}: {error.strerror}") from error


def _table(lock: LockPlan, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise WheelError(f"{lock.path} is not valid TOML: {error}") from error


def _lines(lock: LockPlan, path: Path, root: Path, target: Target, ctx: Context) -> tuple[HashedLine, ...]:
    """The pinned names of a lock without addresses."""
    if lock.kind == "requirements":
        from hatch_docker.wheels.locks.requirements_txt import read_requirements

        return read_requirements(path, root, target, ctx.progress, lock.members)
    from hatch_docker.wheels.locks.poetry_pdm import named_lines

    return named_lines(lock.kind, _table(lock, _read(lock, path)), lock.path, lock.requirements, lock.extras, target)


def pin_requirements(requires: Sequence[str], project: Path, target: Target, ctx: Context) -> tuple[Pin, ...]:
    """The wheels of some build requirements, by the index configuration of `project`; raises WheelError."""
    pins = pin(LockPlan("resolve", requirements=tuple(requires)), project, target, ctx)
    for one in pins:
        if not one.is_wheel:
            raise WheelError(f"build requirement {one.name} {one.version} has no wheel for {target}")
    return pins


def _key(lock: LockPlan, target: Target, facts: Any) -> str:
    wanted = [sorted(lock.requirements), sorted(lock.extras), sorted(lock.groups)]
    return key_of(RECIPE, lock.kind, lock.path, wanted, target.python, str(target.platform), target.libc, facts)


def _locked(lock: LockPlan, data: bytes, root: Path, target: Target) -> tuple[Pin, ...]:
    """The pins of a pylock.toml or a uv.lock."""
    from hatch_docker.wheels.locks.pylock import Source, pins_of
    from hatch_docker.wheels.locks.uv_lock import uv_table

    source = Source(lock.path, (root / lock.path).parent, root, lock.members)
    table = _table(lock, data)
    if lock.kind == "pylock":
        pins = pins_of(table, source, target, extras=lock.extras, groups=lock.groups)
        check_covers(lock, pins, target)
        return pins
    found, direct = uv_table(table, source, target, lock.extras, lock.groups)
    overridden = {entry.get("name") for entry in table.get("manifest", {}).get("overrides", [])}
    pins = pins_of(found, source, target)
    asked = check_covers(lock, pins, target, frozenset(overridden))
    direct -= {package["name"] for package in found["packages"] if "directory" in package}
    if lock.requirements and direct - asked:
        raise WheelError(
            f"{lock.path} still has {', '.join(sorted(direct - asked))}, which the project does not ask for; "
            "run `uv lock`"
        )
    return pins


def _hashed(
    lock: LockPlan, lines: Sequence[HashedLine], root: Path, target: Target, indexes: Indexes, ctx: Context
) -> tuple[Pin, ...]:
    """The pins of a lock without addresses: the index is asked for the files of each version, the hashes choose."""
    from hatch_docker.wheels.locks.pylock import Source, pins_of
    from hatch_docker.wheels.locks.uv import compile_lock

    named = [one for one in lines if not one.url]
    packages: list[dict[str, Any]] = []
    if named:
        nothing: dict[str, list[str]] = {"requires-dist": []}
        table = compile_lock(
            [f"{one.name}=={one.version}" for one in named], target, root, indexes, ctx,
            metadata={one.name: nothing for one in named}, every_file=True,
        )
        allowed = {one.name: one.sha256 for one in named}
        packages = [_only(package, allowed[package["name"]], lock) for package in table.get("packages", [])]
    for one in lines:
        if one.url:
            if len(one.sha256) != 1:
                raise WheelError(f"{lock.path}: {one.name} has a URL and {len(one.sha256)} hashes; give it one")
            packages.append({"name": one.name, "archive": {"url": one.url, "hashes": {"sha256": min(one.sha256)}}})
    table = {"lock-version": "1.0", "created-by": "hatch-docker", "packages": packages}
    pins = pins_of(table, Source(lock.path, (root / lock.path).parent, root), target)
    check_covers(lock, pins, target)
    return pins


def _only(package: dict[str, Any], allowed: frozenset[str], lock: LockPlan) -> dict[str, Any]:
    """A package with only the files whose hashes the lock has."""
    kept = {name: value for name, value in package.items() if name not in ("wheels", "sdist")}
    wheels = [one for one in package.get("wheels", []) if one.get("hashes", {}).get("sha256") in allowed]
    sdist = package.get("sdist", {})
    kept |= {"wheels": wheels} if wheels else {}
    kept |= {"sdist": sdist} if sdist.get("hashes", {}).get("sha256") in allowed else {}
    if "wheels" not in kept and "sdist" not in kept:
        raise WheelError(
            f"{lock.path}: no file of {package['name']} {package.get('version', '')} on the index has one of its "
            f"hashes: it was replaced, or locked from another index; {_RELOCK[lock.kind]}"
        )
    return kept


def check_covers(
    lock: LockPlan, pins: Sequence[Pin], target: Target, overridden: frozenset[str] = frozenset()
) -> frozenset[str]:
    """The names that the project asks for on a target; raises WheelError where a lock has no fitting pin."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    versions = {pin.name: pin.version for pin in pins}
    asked: set[str] = set()
    for line in lock.requirements:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            raise ConfigError(f"the project's dependency {redact_requirement(line)!r} is not valid: {why}") from None
        if not target.holds(requirement.marker):
            continue
        name = canonicalize_name(requirement.name)
        asked.add(name)
        found = versions.get(name)
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        if not fits and not (found and name in overridden):
            has = f"has {name} {found}" if found else f"does not have {name}"
            raise WheelError(f"{lock.path} is stale: the project asks for {line!r}, it {has}; {_RELOCK[lock.kind]}")
    return frozenset(asked)


def _resolved(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    """A resolution: the project's lock's, else one remembered for a day, and for longer while no index answers."""
    if not lock.requirements:
        return ()
    if ctx.image_lock is not None:
        from hatch_docker.wheels.locks.pinned import pinned

        return pinned(lock, root, target, ctx, lambda: _asked(lock, root, target, ctx, metadata))
    return _asked(lock, root, target, ctx, metadata)


def _asked(
    lock: LockPlan, root: Path, target: Target, ctx: Context, metadata: SdistMetadata | None
) -> tuple[Pin, ...]:
    from hatch_docker.wheels.index import read_indexes

    indexes = read_indexes(root, ctx.environ)
    key = _key(lock, target, indexes.identity())
    age = time.time() - _time_of(key, ctx)
    known = _remembered(key, root, ctx)
    if known and not ctx.refresh and 0 <= age < RESOLUTION_LIFETIME:
        return known
    from hatch_docker.wheels.locks.resolver import resolve

    why = "no lock" if ctx.image_lock is None else "to be locked"
    try:
        with ctx.progress.task(f"resolving {abbreviate(sorted(lock.requirements))} for {target.platform} ({why})"):
            found = resolve(sorted(lock.requirements), target, root, indexes, ctx, metadata)
        return _keep(key, root, ctx, found)
    except TransientError as error:
        if not known or ctx.refresh:
            raise
        ctx.progress.warn(f"{error}; using the resolution of {age / 3600:.0f} hours ago")
        return known


def _time_of(key: str, ctx: Context) -> int:
    fact = ctx.store.recall("pins", key)
    return int(fact["at"]) if fact else 0


def _remembered(key: str, root: Path, ctx: Context) -> tuple[Pin, ...]:
    """The pins remembered under a key; addresses below the project are kept relative to it."""
    fact = ctx.store.recall("pins", key)
    pins = tuple(Pin(*row) for row in fact["pins"]) if fact else ()
    return tuple(moved(one, "project:", root.absolute().as_uri() + "/") for one in pins)


def _keep(key: str, root: Path, ctx: Context, pins: tuple[Pin, ...]) -> tuple[Pin, ...]:
    kept = [moved(one, root.absolute().as_uri() + "/", "project:") for one in pins]
    rows = [[p.name, p.version, p.filename, p.url, p.sha256, p.size, p.upload_time] for p in kept]
    ctx.store.remember("pins", key, {"at": int(time.time()), "pins": rows})
    return pins


def moved(one: Pin, old: str, new: str) -> Pin:
    """The pin with the start of its address replaced: what is below the project is kept relative to it."""
    if not one.url.startswith(old):
        return one
    url = new + one.url.removeprefix(old)
    return Pin(one.name, one.version, one.filename, url, one.sha256, one.size, one.upload_time)
