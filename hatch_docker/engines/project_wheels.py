"""Own wheels of an image: those of the workspace members that the project depends on, then the project's.

Without a builder stage, a wheel is built by the running hatchling or, with an image lock, by the locked version:
hatchling writes its version into each wheel, so another version would change the image.
"""

from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.plan.model import BuildPlan, Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.install.compatibility import fitting_wheel
from hatch_docker.wheels.locks.pin import pin_requirements
from hatch_docker.wheels.target import Target, note_used

PURE = "-none-any.whl"


@dataclass(frozen=True, slots=True)
class OwnProject:
    """A project whose wheel is built from its sources. `is_main`: it is the image's project, not a member."""

    title: str                                # "my_app 1.0", for receipt and history
    build: BuildPlan
    project: Project
    is_main: bool = False


def own_projects(plan: Plan, target: Target, project: Project) -> list[OwnProject]:
    """Return the projects whose own wheels are installed in the image for a target, in the order of their layers."""
    found = []
    for member in plan.members:
        from packaging.markers import Marker

        if any(not marker or target.satisfies(Marker(marker)) for marker in member.markers):
            assert project.member is not None
            found.append(OwnProject(f"{member.name} {member.version}", member.build, project.member(member.path)))
    return [*found, OwnProject(f"{plan.name} {plan.version}", plan.build, project, is_main=True)]


def own_wheel(project: Project, target: Target, ctx: Context) -> Path:
    """Return the wheel of a project without a builder stage; raises BuildError if the locked hatchling cannot run."""
    if project.wheels:
        return fitting_wheel(project.wheels, target)
    requires = project.requires() if ctx.image_lock is not None else ()
    if not requires:
        return project.wheel()

    pins = pin_requirements(requires, project.root, target, ctx)
    note_used(pins, ctx)
    differing = [pinned for pinned in pins if _installed_version(pinned.name) != pinned.version]
    if project.wheel_with is None:
        raise BuildError(
            "the project's wheel is made on this machine, with the versions installed here and not those of the lock: "
            'leave isolated = "never" out of [tool.hatch-docker.build], or set HATCH_DOCKER_PINS=none'
        )
    if not differing:
        return project.wheel()
    name = differing[0].name
    here = _installed_version(name)
    ctx.progress.detail(
        f"{name} is {here} here and {differing[0].version} in the lock; the build uses the version of the lock"
    )
    for pinned in pins:
        if not pinned.filename.endswith(PURE):
            here = _installed_version(pinned.name)
            raise BuildError(
                f"build requirement {pinned.name} is {here} here and {pinned.version} in the lock, and "
                'it is compiled: install that version here, or set isolated = "always" in [tool.hatch-docker.build]'
            )
    from hatch_docker.wheels.builder.environment import install_pure

    return project.wheel_with(install_pure(pins, project.root, ctx), ctx.environ)


def _installed_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
