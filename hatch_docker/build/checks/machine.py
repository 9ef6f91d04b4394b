"""Checks before a build downloads anything: paths in the options, daemon, sandbox, uv, Debian mirror, disk space."""

import shutil
from pathlib import Path

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, DaemonError, HatchDockerError, SandboxError
from hatch_docker.core.text import megabytes
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.plan.model import Plan

NEEDED_SPACE = 1_000_000_000  # bytes that a first build may need in the cache; Debian's compilers are the largest part


def check_machine(plan: Plan, ctx: Context) -> None:
    """Raise now the errors that the build would otherwise raise after its downloads: all of them, a line for each.

    Also warn if the file system of the cache has little free space. Sandbox, uv and mirror are not checked if the cache
    has results of earlier builds: then the build may not need them.
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
    if free < NEEDED_SPACE and not any((ctx.store.root / "trees").iterdir()):
        ctx.progress.warn(
            f"the cache {ctx.store.root.parent} has {megabytes(free)} free, and a first build may need "
            f"{megabytes(NEEDED_SPACE)}: free some space, or set HATCH_DOCKER_CACHE_DIR to a directory on another disk"
        )


def check_daemon(plan: Plan, ctx: Context) -> None:
    """Raise DaemonError if the plan requires a daemon (`load = "always"`) and none is running."""
    if plan.load == "always" and not find_daemons(ctx.environ):
        raise DaemonError('no Docker or Podman answers, and tool.hatch-docker.load is "always"; start one of them')


def _is_isolated(plan: Plan) -> bool:
    """Return whether the builder stage of the project or a member runs in the sandbox on this machine."""
    builds = (plan.build, *(member.build for member in plan.members))
    return plan.engine == "embedded" and any(build.isolated for build in builds)


def _check_sandbox(plan: Plan, ctx: Context) -> None:
    """Raise SandboxError if the build needs the sandbox and the kernel does not allow it."""
    runs = plan.engine == "embedded" and plan.steps
    known = ctx.store.root / ("facts/step-result" if runs else "trees/wheel")
    if (_is_isolated(plan) or runs) and not known.exists():
        from hatch_docker.wheels.builder.sandbox import cached_sandbox_error

        if reason := cached_sandbox_error(ctx):
            raise SandboxError(reason)


def _check_uv(plan: Plan, ctx: Context) -> None:
    """Raise WheelError if the build needs uv to resolve requirements and it is not installed."""
    resolves = plan.lock.kind == "resolve" and plan.lock.requirements
    if (_is_isolated(plan) or resolves) and ctx.image_lock is None and not (ctx.store.root / "facts/pins").exists():
        from hatch_docker.wheels.locks.uv import find_uv

        find_uv(ctx.environ)


def _check_mirror(plan: Plan, ctx: Context) -> None:
    """Raise BaseImageError if the build needs Debian packages, for the base or its compiler, and has no mirror.

    Builds with a shared cache, such as every push, are not checked: the cache may have the results.
    """
    if plan.push or plan.cache.sources:
        return
    base = plan.base.builder or plan.base
    compiles = _is_isolated(plan) and base.kind != "oci" and not (plan.base.builder and base.kind != "debian")
    known = ctx.store.root / ("trees/builder" if compiles else "facts/debian-snapshot")
    if (plan.base.kind == "debian" or compiles) and not known.exists():
        find_mirrors(plan.base if plan.base.kind == "debian" else base, ctx.environ)


def check_paths(plan: Plan, root: Path) -> None:
    """Raise ConfigError if the lock or another file or directory that the options name does not exist."""
    inputs = (path for step in plan.steps for path in step.places)
    named = ((plan.lock.path, "lock"), *((path, option) for option, path in plan.copied_files))
    for path, option in (*named, *((path, "steps.inputs") for path in inputs)):
        if path and not (root / path).exists():
            raise ConfigError(f"tool.hatch-docker.{option}: {path} does not exist; correct the path, or create it")
