"""The project's own pure wheel: by the hatchling that runs, or by the very one that the project's lock has.

hatchling writes its version into each wheel, so another one makes another image of the same sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import BuildError
from hatch_docker.wheels import Pin, Target

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.project import Source

PURE = "-none-any.whl"


def own_wheel(source: Source, target: Target, ctx: Context) -> Path:
    """The wheel of a project that needs no builder stage; raises BuildError where the lock's hatchling cannot run."""
    requires = source.requires() if ctx.pins is not None else ()
    if not requires:
        return source.wheel()
    from hatch_docker.wheels.lock import pin_requirements

    pins = pin_requirements(requires, source.root, target, ctx)
    other = [one for one in pins if _here(one.name) != one.version]
    if source.wheel_by is None:
        raise BuildError(
            "the project's wheel is made on this machine, by what its backend finds here, whatever the lock has: leave "
            'isolated = "never" out of [tool.hatch-docker.build], or build without the lock (HATCH_DOCKER_PINS=none)'
        )
    if not other:
        return source.wheel()
    name = other[0].name
    ctx.progress.detail(f"{name} is {_here(name)} here and {other[0].version} in the lock, which is taken")
    return source.wheel_by(_installed(pins, source, ctx), ctx.environ)


def _here(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _installed(pins: Sequence[Pin], source: Source, ctx: Context) -> Path:
    """The directory of the store in which the pinned build requirements can be imported by this Python."""
    for one in pins:
        if not one.filename.endswith(PURE):
            raise BuildError(
                f"build requirement {one.name} is {_here(one.name)} here and {one.version} in the lock, and it is "
                'compiled: install that version here, or set isolated = "always" in [tool.hatch-docker.build]'
            )
    from hatch_docker.wheels.environment import install_pure

    return install_pure(pins, source.root, ctx)
