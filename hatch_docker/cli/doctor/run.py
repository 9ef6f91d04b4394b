"""The run of `doctor`: read the project, then run each check in its own thread, with one deadline for all."""

import contextlib
import sysconfig
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from hatch_docker.build.checks.machine import check_paths
from hatch_docker.build.plans import open_plans
from hatch_docker.build.project import open_static, provisional_plan
from hatch_docker.cli.doctor import cache, machine, network
from hatch_docker.cli.doctor.check import Check, Finding, Setup
from hatch_docker.core.beside import start_thread
from hatch_docker.core.cache.store import CACHE_DIR, FORMAT, cache_root
from hatch_docker.core.context import Context, open_context
from hatch_docker.core.errors import HatchDockerError, StoreError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.http.client import Client, is_offline
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.image_lock import ImageLock
from hatch_docker.core.process import kill_running
from hatch_docker.core.progress import silent
from hatch_docker.plan.model import Plan
from hatch_docker.project.hatch_errors import hatchling_errors

Result = TypeVar("Result")

READ_TIMEOUT = 30.0  # seconds for reading the project's files; no requests are sent
NOT_ASKED = "not asked: offline"


def _needs_index(setup: Setup) -> bool:
    """Return whether wheels are downloaded from an index, for the image or for the builder stage."""
    wheels = setup.any_plan(lambda plan: plan.lock.requirements or plan.lock.path, default=True)
    return wheels or setup.isolated or not setup.static


def _needs_uv(setup: Setup) -> bool:
    """Return whether uv resolves requirements of the project or of its build."""
    resolved = setup.any_plan(lambda plan: plan.lock.kind == "resolve" and plan.lock.requirements, default=True)
    return (resolved or setup.isolated or not setup.static) and setup.ctx.image_lock is None


CHECKS = (
    Check("python", machine.check_python, lambda _: True),
    Check("hatch", machine.check_hatch),
    Check(  # for compiling code, or for the command of the option `check`
        "sandbox", machine.check_sandbox,
        lambda s: s.any_plan(lambda plan: plan.engine == "embedded" and (plan.check or s.isolated)),
    ),
    Check("docker", machine.check_docker, lambda s: s.any_plan(lambda plan: plan.load == "always" and plan.archive)),
    Check("podman", machine.check_podman),
    Check("buildkit", machine.check_builder, lambda s: s.any_plan(lambda plan: plan.engine == "buildkit"), remote=True),
    Check("cache", cache.check_cache, lambda _: True),
    Check("disk", cache.check_disks, lambda _: True),
    Check("certificates", machine.check_certificates, lambda _: True),
    Check(  # for the base, the compiler, or `runtime.packages`
        "debian", network.check_debian,
        lambda s: s.isolated or s.any_plan(lambda plan: plan.base.kind == "debian" or plan.base.packages, default=True),
        remote=True,
    ),
    Check(
        "standalone", network.check_standalone, lambda s: s.any_plan(lambda plan: plan.base.standalone), remote=True,
    ),
    Check("index", network.check_indexes, _needs_index, remote=True),
    Check("uv", machine.check_uv, _needs_uv),
    Check("cosign", machine.check_cosign, lambda s: s.any_plan(lambda plan: plan.sign)),
    Check("git", machine.check_git),
)


def _result(task: Future[Result], seconds: float | None, patience: float, default: Result) -> tuple[Result, str]:
    """Wait up to `seconds` for a task; return its result and "", or `default` and the error or timeout as text.

    `patience`: the number of seconds in the message about a timeout. Errors other than HatchDockerError are raised.
    """
    try:
        return task.result(seconds), ""
    except HatchDockerError as error:
        return default, str(error)
    except TimeoutError:
        if task.done():
            raise
        return default, f"no result after {patience:g} s; check that server, or allow more time with --patience"


def run_checks(
    root: Path, environ: Mapping[str, str], *, offline: bool, deep: bool, patience: float
) -> Iterator[Finding]:
    """Run all checks and yield their findings in order. Raises StoreError if no directory can be written.

    `patience`: the timeout of all checks in seconds; with `deep` it does not apply to the check of the cache.
    """
    offline = offline or is_offline(environ)
    directory = cache_root(environ)
    leftovers = cache.find_leftovers(directory / FORMAT)
    sysconfig.get_config_vars()  # fill its cache now: Python 3.11 does that without a lock
    with contextlib.ExitStack() as stack:
        stack.callback(kill_running)  # kills programs of checks that exceeded the timeout
        ctx = _context(environ, patience, stack)
        reading = start_thread(partial(_read_project, root, ctx.environ))
        (plans, pins, static), problem = _result(reading, READ_TIMEOUT, READ_TIMEOUT, ((), None, True))
        setup = Setup(root, replace(ctx, image_lock=pins), directory, plans, static, offline, deep, leftovers)
        yield from _project_findings(setup, problem)
        checks = (*CHECKS, *network.registry_checks(plans))
        tasks = [None if offline and check.remote else start_thread(partial(check.findings, setup)) for check in checks]
        deadline = time.monotonic() + patience
        for check, task in zip(checks, tasks, strict=True):
            if task is None:
                yield Finding("unneeded", check.topic, NOT_ASKED)
                continue
            remaining = None if deep and check.topic == "cache" else max(0.0, deadline - time.monotonic())
            findings, problem = _result(task, remaining, patience, [])
            for finding in findings:
                yield finding if isinstance(finding, Finding) else Finding("ok", check.topic, finding)
            if problem:
                yield Finding("problem" if check.needed(setup) else "unneeded", check.topic, problem)


def _context(environ: Mapping[str, str], patience: float, stack: contextlib.ExitStack) -> Context:
    """Return a context whose HTTP client does not retry. Its cache is temporary if the user's cannot be used."""
    try:
        ctx = open_context(environ, silent())
    except StoreError:
        environ = {**environ, CACHE_DIR: str(stack.enter_context(temporary_directory()))}
        ctx = open_context(environ, silent())
    client = Client(environ, silent(), Policy(tries=1), idle=patience)
    return replace(ctx, connect=lambda: client)


def _read_project(root: Path, environ: Mapping[str, str]) -> tuple[tuple[Plan, ...], ImageLock | None, bool]:
    """Return plans (() without a project), image lock, and whether the files have all metadata. Raises ConfigError."""
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return (), None, True
    with hatchling_errors():
        project, static = open_static(root)
        if static:
            plans, ctx = open_plans(project, environ, all_images=True)
        else:
            plan, ctx = provisional_plan(project, environ)
            plans = (plan,)
    for plan in plans:
        check_paths(plan, root)
    return plans, ctx.image_lock, static


def _project_findings(setup: Setup, problem: str) -> Iterator[Finding]:
    """Yield a finding for each image and for the image lock. `problem`: the error of reading the project, or ""."""
    if problem:
        yield Finding("problem", "project", problem)
        return
    if not setup.plans:
        text = f"there is none in {setup.root}: only the checks for every project were made"
        yield Finding("unneeded", "project", text)
    for plan in setup.plans:
        name = f"{plan.name} {plan.version}" if setup.static else plan.name
        image = f", image {plan.part}" if plan.part else ""
        build = "built in the builder stage" if plan.build.isolated else "pure Python"
        lock = plan.lock.path or ("no lock" if plan.lock.requirements or not setup.static else "no dependencies")
        text = f"{name}{image}: engine {plan.engine}, base {plan.base.name}, {build}, {lock}"
        yield Finding("ok", "project", text)
    if not setup.static:
        yield Finding("ok", "project", "its backend may request more during a build, in the builder stage")
    if setup.ctx.image_lock is not None:
        yield Finding("ok", "pins", f"{setup.plans[0].pins} pins the answers of registries, mirrors and indexes")
