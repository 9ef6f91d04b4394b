"""What is known of the project before anything is asked: its images, its lock, and what is wrong with its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.doctor.check import Finding
from hatch_docker.errors import ConfigError

if TYPE_CHECKING:
    from hatch_docker.pins import Pins
    from hatch_docker.plan import Plan


@dataclass(frozen=True, slots=True)
class Reading:
    """A project's plans and pins; `whole` is False where its backend alone knows what it needs."""

    plans: tuple[Plan, ...] = ()
    pins: Pins | None = None
    whole: bool = True


def read(root: Path, environ: Mapping[str, str]) -> Reading | None:
    """The project in a directory, None without one; raises ConfigError."""
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return None
    from hatch_docker.backend import open_static
    from hatch_docker.doors import hatchling_errors, open_plans, provisional_plan

    with hatchling_errors():
        builder, whole = open_static(root)
        if whole:
            plans, ctx = open_plans(builder, environ, every=True)
        else:
            plan, ctx = provisional_plan(builder, environ)
            plans = (plan,)
    for plan in plans:
        _check_files(plan, root)
    return Reading(plans, ctx.pins, whole)


def _check_files(plan: Plan, root: Path) -> None:
    """Raise ConfigError for what the table names and is not there."""
    paths = [(plan.lock.path, "lock"), *((item.source, "files") for item in plan.files)]
    for path, option in paths:
        if path and not (root / path).exists():
            raise ConfigError(f"tool.hatch-docker.{option}: there is no {path}; correct the path, or make it")


def told(root: Path, project: Reading, problem: str) -> Iterator[Finding]:
    """The lines about the project itself."""
    if problem:
        yield Finding("problem", "project", problem)
        return
    if not project.plans:
        yield Finding("unneeded", "project", f"there is none in {root}: what follows is what most need")
    for plan in project.plans:
        name = f"{plan.name} {plan.version}" if project.whole else plan.name
        part = f", image {plan.part}" if plan.part else ""
        how = "built in the builder stage" if plan.build.isolated else "pure Python"
        lock = plan.lock.path or ("no lock" if plan.lock.requirements or not project.whole else "no dependencies")
        text = f"{name}{part}: engine {plan.engine}, base {plan.base.name}, {how}, {lock}"
        yield Finding("ok", "project", text)
    if not project.whole:
        yield Finding("ok", "project", "what else it needs its backend says, in the builder stage of a build")
    if project.pins is not None:
        yield Finding("ok", "pins", f"{project.plans[0].pins} pins what registries, mirrors and indexes say")
