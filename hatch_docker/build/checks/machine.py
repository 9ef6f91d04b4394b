"""Checks before a build downloads anything: the paths of a plan; a daemon to load into, the sandbox, uv, room."""

import shutil
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, DaemonError, SandboxError
from hatch_docker.core.text import megabytes
from hatch_docker.plan.model import Plan

ROOM = 1_000_000_000  # bytes that a first build may take; Debian's compilers are the largest part


def check_machine(plan: Plan, ctx: Context) -> None:
    """Raise what a build would end with after its downloads: SandboxError, WheelError without uv, DaemonError.

    A cache that has wheels of the builder, or resolutions, may need no sandbox or no uv: then the build itself finds
    out. Warns where the cache has little room.
    """
    if plan.load == "always":
        from hatch_docker.oci.find_daemon import find_daemons

        if not find_daemons(ctx.environ):
            raise DaemonError("no Docker or Podman answers, and tool.hatch-docker.load asks for one; start it")
    builds = (plan.build, *(member.build for member in plan.members))
    isolated = plan.engine == "embedded" and any(build.isolated for build in builds)
    runs = plan.engine == "embedded" and plan.steps
    known = ctx.store.root / ("facts/step-result" if runs else "trees/wheel")
    if (isolated or runs) and not known.exists():
        from hatch_docker.wheels.builder.sandbox import why_not

        if reason := why_not(ctx.environ):
            raise SandboxError(reason)
    resolves = plan.lock.kind == "resolve" and plan.lock.requirements
    if (isolated or resolves) and ctx.image_lock is None and not (ctx.store.root / "facts/pins").exists():
        from hatch_docker.wheels.locks.uv import find_uv

        find_uv(ctx.environ)
    free = shutil.disk_usage(ctx.store.root).free
    if free < ROOM and not any((ctx.store.root / "trees").iterdir()):
        ctx.progress.warn(
            f"the cache {ctx.store.root.parent} has {megabytes(free)} of room, and a first build may need "
            f"{megabytes(ROOM)}: make room, or let HATCH_DOCKER_CACHE_DIR name another file system"
        )


def check_paths(plan: Plan, root: Path) -> None:
    """Raise ConfigError for the lock or a file of a plan that is not there."""
    inputs = (path for step in plan.steps for path in step.places)
    given = ((plan.lock.path, "lock"), *((path, option) for option, path in plan.copied))
    for path, option in (*given, *((path, "steps.inputs") for path in inputs)):
        if path and not (root / path).exists():
            raise ConfigError(f"tool.hatch-docker.{option}: {path} does not exist; correct the path, or create it")
