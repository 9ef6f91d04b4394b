"""`hatch-docker lock`: resolve all that builds need from registries, mirrors and indexes, and write the image lock.

Existing entries are kept, except with `--upgrade`; entries that no build needs are removed. Entries are recorded by the
same code in which a build reads them (`core.image_lock`), so a new lock has all entries that a build needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatch_docker.bases.debian.standalone import find_archive
from hatch_docker.bases.debian.steps import base_steps, builder_step
from hatch_docker.bases.debian.suite import Suite
from hatch_docker.bases.debian.suite import pin as pin_packages
from hatch_docker.bases.model import Base, split_build
from hatch_docker.bases.open import compiler_base
from hatch_docker.config.load import load_config
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError
from hatch_docker.core.files import write_file
from hatch_docker.core.image_lock import (
    NAME,
    RELOCK,
    Entry,
    ImageLock,
    image_lock_changes,
    image_lock_toml,
    make_image_lock,
    parse_image_lock,
    question_of,
)
from hatch_docker.engines.buildkit.system_packages import find_system, system_step
from hatch_docker.engines.common import dependency_build_plan, open_inputs
from hatch_docker.engines.embedded import gather
from hatch_docker.engines.project_wheels import own_projects
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.plan.model import DEBIAN_PYTHONS, BasePlan, BuildPlan, Plan
from hatch_docker.project.model import Project
from hatch_docker.project.workspace import writable_path
from hatch_docker.wheels.locks.pin import pin, pin_requirements
from hatch_docker.wheels.target import Target

Entries = list[tuple[str, Entry]]


@dataclass(frozen=True, slots=True)
class CurrentLock:
    """The current image lock: its path, contents and entries, and the `pins` that record the new entries."""

    path: Path
    data: bytes
    entries: Entries
    pins: ImageLock


def open_lock(
    root: Path, pyproject: Mapping[str, Any], environ: Mapping[str, str], *, upgrade: bool = False
) -> CurrentLock:
    """Return the image lock of the project in `root`. `upgrade`: resolve everything again.

    Raises ConfigError if the options turn the lock off, or if it cannot be read or is outside the project.
    """
    table = pyproject.get("tool", {}).get("hatch-docker", {})
    name = load_config(table, environ, root / "pyproject.toml").pins
    if name == "none":
        raise ConfigError('tool.hatch-docker.pins is "none": no build would use the lock; leave that option out')
    name = NAME if name == "auto" else name
    path = writable_path(root, name, "tool.hatch-docker.pins", "HATCH_DOCKER_PINS", environ)
    data = path.read_bytes() if path.is_file() else b""
    entries: Entries = list(parse_image_lock(data, name)) if data else []
    return CurrentLock(path, data, entries, make_image_lock(name, "", [] if upgrade else entries, update=True))


def lock(current: CurrentLock, plans: Sequence[Plan], project: Project, ctx: Context) -> tuple[Sequence[str], bool]:
    """Write the lock of a project's images; return the changes as lines (() for a new lock), and whether it changed.

    Raises the same errors as a build if a registry, mirror or index fails.
    """
    ctx = replace(ctx, image_lock=current.pins)
    bases: dict[str, dict[str, Any]] = {}
    for plan in plans:
        for platform in _platforms(plan, current.entries):
            runtime = _resolve(plan, platform, project, ctx)
            for base in filter(None, (runtime, runtime.builder)):
                _add_base(base, bases)
    for entry in bases.values():
        entry["platforms"].sort(key=lambda row: row["platform"])
        current.pins.note("base", entry)
    used = [_with_old_time(kind, entry, current.entries) for kind, entry in current.pins.used_entries.values()]
    entries = [*used, *_from_other_machines(current.pins, current.entries)]
    text = image_lock_toml(entries)
    if text != current.data:
        write_file(current.path, text)
    return image_lock_changes(current.entries, entries) if current.entries else (), text != current.data


def _add_base(base: Base, bases: dict[str, dict[str, Any]]) -> None:
    """Add a base for one platform to the lock's entries of bases, `bases` (by name)."""
    digest = {"digest": base.digest} if base.plan.kind == "registry" else {}
    entry = bases.setdefault(base.name, {"name": base.name, **digest, "platforms": []})
    row = {"platform": str(base.platform), "python": base.interpreter.build, "libc": " ".join(base.libc)}
    if base.plan.kind != "debian":  # a base of Debian packages has these pinned; its digest also depends on options
        row |= {"digest": base.image.digest, **({"suite": base.suite} if base.suite else {})}
    entry["platforms"] = [old for old in entry["platforms"] if old["platform"] != row["platform"]] + [row]


def _platforms(plan: Plan, old: Entries) -> list[Platform]:
    """Return the platforms of a plan; if the option is not set, this machine's and those in the lock."""
    found = [Platform.parse(text) for text in plan.platforms]
    if any(guess.option == "platforms" for guess in plan.guesses):
        locked = [entry for kind, entry in old if kind == "base" and entry["name"] == plan.base.name]
        found += [Platform.parse(row["platform"]) for entry in locked for row in entry["platforms"]]
    return sorted(set(found))


def _resolve(plan: Plan, platform: Platform, project: Project, ctx: Context) -> Base:
    """Resolve everything that a build for one platform needs, so that `ctx.image_lock` records it; return the base.

    Build requirements of sdists that only a machine of that platform can build are left out, with a warning.
    """
    compression = Compression(plan.compression)
    try:
        base = gather(plan, platform, project, ctx)[0]
    except BuildError as error:
        if platform.architecture == host_platform().architecture:
            raise
        ctx.progress.warn(
            f"the build requirements of sdists for {platform} can be locked only on such a machine: run this command "
            f"there, too ({error})"
        )
        inputs = open_inputs(plan, platform, project, ctx)
        base = inputs.base
        pin(plan.lock, project.root, inputs.target, ctx)
    find_system(base, ctx)
    compiler_base(base, ctx, compression)  # .pyc for another architecture are compiled with this machine's Python
    return base


def _with_old_time(kind: str, entry: Entry, old: Entries) -> tuple[str, Entry]:
    """Return an entry, with its time in the old lock if nothing else has changed."""
    for other_kind, other in old:
        if kind == other_kind == "debian" and {**other, "as-of": ""} == {**entry, "as-of": ""}:
            return kind, other
    return kind, entry


def _from_other_machines(known: ImageLock, old: Entries) -> Iterator[tuple[str, Entry]]:
    """Yield old entries of other architectures, if this machine used an entry that differs in the platform alone."""
    needed = {_without_machine(kind, entry) for kind, entry in known.used_entries.values()}
    for kind, entry in old:
        architecture = entry.get("architecture") or entry.get("platform", "").rpartition("/")[2]
        foreign = architecture not in ("", host_platform().architecture)
        used = key_of(kind, question_of(kind, entry)) in known.used_entries
        if foreign and not used and _without_machine(kind, entry) in needed:
            yield kind, entry


def _without_machine(kind: str, entry: Entry) -> str:
    """Return the key of an entry without its platform."""
    return key_of(kind, {**question_of(kind, entry), "architecture": "", "platform": ""})


def check(plans: Sequence[Plan], project: Project, ctx: Context) -> None:
    """Raise ConfigError if the image lock lacks an entry that the project's images need. Builds nothing."""
    pins = ctx.image_lock
    if pins is None:
        raise ConfigError(f"there is no {NAME}; {RELOCK}")
    for plan in plans:
        rows: dict[tuple[str, str], Entry] = {}
        for base in plan.bases:
            entry = pins.find("base", {"name": base.name})
            assert entry is not None
            rows |= {(base.name, row["platform"]): row for row in entry["platforms"]}
        for platform in plan.platforms:
            for base in plan.bases:
                if (base.name, platform) not in rows:
                    raise ConfigError(f"{pins.name} is out of date: it lacks {base.name} for {platform}; {RELOCK}")
            found = [rows[base.name, platform] for base in plan.bases]
            _check(plan, Platform.parse(platform), found[0], found[-1], project, ctx)


def _check(plan: Plan, platform: Platform, row: Entry, builder_row: Entry, project: Project, ctx: Context) -> None:
    """Look up all entries for one platform. `row`: its row in the base's entry. `builder_row`: that of the builder."""
    libc = row["libc"].partition(" ")
    version, abi = split_build(row["python"])
    target = Target(version, platform, (libc[0], libc[2]), abi)
    if plan.base.standalone:
        find_archive(plan.base, platform, ctx)
    if plan.base.kind == "debian":
        _check_packages(plan.base, plan.base.location, platform, None, ctx)
    elif plan.base.packages and row.get("suite") in DEBIAN_PYTHONS:
        debian = Suite(plan.base, row["suite"], platform.architecture, ctx)
        pin_packages(debian, (), (system_step(plan.base.packages),))
    builder = plan.bases[-1]
    suite = "" if plan.base.builder and builder.kind != "debian" else builder_row.get("suite") or builder.location
    pins = pin(plan.lock, project.root, target, ctx) if plan.lock.kind == "resolve" else ()
    if suite and any(not found.is_wheel for found in pins):
        _check_packages(builder, suite, platform, dependency_build_plan(plan.build), ctx)
    # Pure wheels for other architectures are built here, in the builder of this machine's architecture.
    here = platform.architecture == host_platform().architecture
    if plan.build.isolated and here:
        if suite:
            _check_packages(builder, suite, platform, plan.build, ctx)
        pin_requirements(plan.build.requires, project.root, target, ctx)
    for own in own_projects(plan, target, project) if here or not plan.build.isolated else ():
        pin_requirements(own.project.requires(), own.project.root, target, ctx)


def _check_packages(plan: BasePlan, suite: str, platform: Platform, build: BuildPlan | None, ctx: Context) -> None:
    """Look up the Debian packages of a base, or with `build` those of its builder stage."""
    steps = base_steps(plan, suite) if build is None else (builder_step(plan, suite, build.packages),)
    pin_packages(Suite(plan, suite, platform.architecture, ctx), (), steps)
