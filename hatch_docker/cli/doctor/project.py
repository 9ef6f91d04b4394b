"""The project as `doctor` reads it: its plans, its image lock, and the errors in its table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.build.plans import open_plans
from hatch_docker.build.project import open_static, provisional_plan
from hatch_docker.cli.doctor.check import Finding
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.lockfile import ImageLock
from hatch_docker.plan.model import Plan
from hatch_docker.project.hatch import hatchling_errors


@dataclass(frozen=True, slots=True)
class ProjectPlans:
    """A project's plans and pins; `static` is False if only its build backend knows what it needs."""

    plans: tuple[Plan, ...] = ()
    pins: ImageLock | None = None
    static: bool = True


def read_project(root: Path, environ: Mapping[str, str]) -> ProjectPlans | None:
    """Return the plans of the project in a directory, None without a project; raise ConfigError."""
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return None
    with hatchling_errors():
        project, static = open_static(root)
        if static:
            plans, ctx = open_plans(project, environ, every=True)
        else:
            plan, ctx = provisional_plan(project, environ)
            plans = (plan,)
    for plan in plans:
        _check_files(plan, root)
    return ProjectPlans(plans, ctx.image_lock, static)


def _check_files(plan: Plan, root: Path) -> None:
    """Raise ConfigError if a file that the table names does not exist."""
    paths = [(plan.lock.path, "lock"), *((item.source, "files") for item in plan.files)]
    for path, option in paths:
        if path and not (root / path).exists():
            raise ConfigError(f"tool.hatch-docker.{option}: {path} does not exist; correct the path, or create it")


def project_findings(root: Path, project: ProjectPlans, problem: str) -> Iterator[Finding]:
    """Return a line for each image and one for the image lock, or the problem that kept the project from being read."""
    if problem:
        yield Finding("problem", "project", problem)
        return
    if not project.plans:
        yield Finding("unneeded", "project", f"there is none in {root}: the checks are those that most projects need")
    for plan in project.plans:
        name = f"{plan.name} {plan.version}" if project.static else plan.name
        image = f", image {plan.part}" if plan.part else ""
        build = "built in the builder stage" if plan.build.isolated else "pure Python"
        lock = plan.lock.path or ("no lock" if plan.lock.requirements or not project.static else "no dependencies")
        text = f"{name}{image}: engine {plan.engine}, base {plan.base.name}, {build}, {lock}"
        yield Finding("ok", "project", text)
    if not project.static:
        yield Finding("ok", "project", "its backend says what else it needs, in the builder stage of a build")
    if project.pins is not None:
        yield Finding("ok", "pins", f"{project.plans[0].pins} pins the answers of registries, mirrors and indexes")
