"""Checks before a build downloads anything: the paths of a plan; a daemon to load into, the sandbox, uv, room."""

import shutil
from pathlib import Path

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, DaemonError, HatchDockerError, SandboxError
from hatch_docker.core.text import megabytes
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.plan.model import Plan

ROOM = 1_000_000_000  # bytes that a first build may take; Debian's compilers are the largest part


def check_machine(plan: Plan, ctx: Context) -> None:
    """Raise what a build would end with after its downloads: all of it, a line each. Warn of a cache with little room.

    A cache that has wheels of the builder, or resolutions, may need no sandbox, no uv and no mirror: then the build
    itself finds out.
    """
    problems: list[HatchDockerError] = []
    for check in (check_daemon, _check_sandbox, _check_uv, _check_mirror):
        try:
            check(plan, ctx)
        except HatchDockerError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise HatchDockerError("\n".join(map(str, problems)))
    free = shutil.disk_usage(ctx.store.root).free
    if free < ROOM and not any((ctx.store.root / "trees").iterdir()):
        ctx.progress.warn(
            f"the cache {ctx.store.root.parent} has {megabytes(free)} of room, and a first build may need "
            f"{megabytes(ROOM)}: make room, or let HATCH_DOCKER_CACHE_DIR name another file system"
        )


def check_daemon(plan: Plan, ctx: Context) -> None:
    """Raise DaemonError if there is no daemon to load the image into, and the plan asks for one."""
    if plan.load == "always" and not find_daemons(ctx.environ):
        raise DaemonError("no Docker or Podman answers, and tool.hatch-docker.load asks for one; start it")


def _is_isolated(plan: Plan) -> bool:
    """Tell whether the builder stage runs in the sandbox on this machine."""
    builds = (plan.build, *(member.build for member in plan.members))
    return plan.engine == "embedded" and any(build.isolated for build in builds)


def _check_sandbox(plan: Plan, ctx: Context) -> None:
    """Raise SandboxError if a sandbox is needed, and the kernel refuses it."""
    runs = plan.engine == "embedded" and plan.steps
    known = ctx.store.root / ("facts/step-result" if runs else "trees/wheel")
    if (_is_isolated(plan) or runs) and not known.exists():
        from hatch_docker.wheels.builder.sandbox import cached_sandbox_error

        if reason := cached_sandbox_error(ctx):
            raise SandboxError(reason)


def _check_uv(plan: Plan, ctx: Context) -> None:
    """Raise WheelError if uv is needed to resolve requirements, and is not found."""
    resolves = plan.lock.kind == "resolve" and plan.lock.requirements
    if (_is_isolated(plan) or resolves) and ctx.image_lock is None and not (ctx.store.root / "facts/pins").exists():
        from hatch_docker.wheels.locks.uv import find_uv

        find_uv(ctx.environ)


def _check_mirror(plan: Plan, ctx: Context) -> None:
    """Raise BaseImageError if packages of Debian are needed, for the base or for its compiler, and no mirror is known.

    A shared cache, which every push has, may hold what is made of them.
    """
    if plan.push or plan.cache.sources:
        return
    base = plan.base.builder or plan.base
    compiles = _is_isolated(plan) and base.kind != "oci" and not (plan.base.builder and base.kind != "debian")
    known = ctx.store.root / ("trees/builder" if compiles else "facts/debian-snapshot")
    if (plan.base.kind == "debian" or compiles) and not known.exists():
        find_mirrors(plan.base if plan.base.kind == "debian" else base, ctx.environ)


def check_paths(plan: Plan, root: Path) -> None:
    """Raise ConfigError for the lock or a file of a plan that is not there."""
    inputs = (path for step in plan.steps for path in step.places)
    given = ((plan.lock.path, "lock"), *((path, option) for option, path in plan.copied))
    for path, option in (*given, *((path, "steps.inputs") for path in inputs)):
        if path and not (root / path).exists():
            raise ConfigError(f"tool.hatch-docker.{option}: {path} does not exist; correct the path, or create it")
