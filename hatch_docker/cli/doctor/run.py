"""The run of `doctor`: the project is read, then every check runs in its own thread, with one deadline for all."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from hatch_docker.cli.doctor import cache, engines, machine, network
from hatch_docker.cli.doctor.check import Check, Finding, Setup, always
from hatch_docker.cli.doctor.project import ProjectPlans, project_findings, read_project
from hatch_docker.core.cache.store import FORMAT
from hatch_docker.core.context import CACHE_DIR, Context, cache_root, open_context
from hatch_docker.core.errors import HatchDockerError, StoreError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.http.client import Client, is_offline
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.process import end_running
from hatch_docker.core.progress import silent

Result = TypeVar("Result")

READING = 30.0  # seconds for reading the project's files, which asks no other machine
NOT_ASKED = "not asked: offline"


def _needs_sandbox(setup: Setup) -> bool:
    """Return whether code is compiled here, or the check of an image runs."""
    return setup.any_plan(lambda plan: plan.engine == "embedded" and (plan.check or setup.isolated))


def _needs_debian(setup: Setup) -> bool:
    """Return whether packages come from Debian: of the base, the compiler, or the system."""
    return setup.isolated or setup.any_plan(lambda plan: plan.base.kind == "debian" or plan.base.packages, default=True)


def _needs_index(setup: Setup) -> bool:
    """Return whether wheels come from an index."""
    wheels = setup.any_plan(lambda plan: plan.lock.requirements or plan.lock.path, default=True)
    return wheels or setup.isolated or not setup.static


def _needs_uv(setup: Setup) -> bool:
    """Return whether requirements are resolved, of the project or of its build."""
    resolved = setup.any_plan(lambda plan: plan.lock.kind == "resolve" and plan.lock.requirements, default=True)
    return (resolved or setup.isolated or not setup.static) and setup.ctx.image_lock is None


CHECKS = (
    Check("python", machine.check_python, always),
    Check("hatch", machine.check_hatch),
    Check("sandbox", machine.check_sandbox, _needs_sandbox),
    Check("docker", engines.check_docker, lambda s: s.any_plan(lambda plan: plan.load == "always" and plan.archive)),
    Check("podman", engines.check_podman),
    Check("buildkit", engines.check_builder, lambda s: s.any_plan(lambda plan: plan.engine == "buildkit"), remote=True),
    Check("cache", cache.check_cache, always),
    Check("disk", cache.check_disks, always),
    Check("certificates", machine.check_certificates, always),
    Check("debian", network.check_debian, _needs_debian, remote=True),
    Check("index", network.check_indexes, _needs_index, remote=True),
    Check("uv", machine.check_uv, _needs_uv),
    Check("cosign", machine.check_cosign, lambda s: s.any_plan(lambda plan: plan.sign)),
    Check("git", machine.check_git),
)


class _Task(threading.Thread, Generic[Result]):
    """A function that runs in a daemon thread: the program can end before it does."""

    def __init__(self, function: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self.function = function
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Run the function and keep its result or error (see Thread)."""
        try:
            self.result = self.function()
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            self.error = error

    def wait(self, deadline: float | None) -> None:
        """Wait for the end, or until a time of time.monotonic; raise an error that is a bug."""
        self.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if self.error is not None and not isinstance(self.error, HatchDockerError):
            raise self.error

    def problem(self, patience: float) -> str:
        """Return why there is no result, "" if there is one."""
        if self.error is not None:
            return str(self.error)
        text = f"no result after {patience:g} s; look at what it asks, or allow more time with --patience"
        return text if self.is_alive() else ""


def run_checks(
    root: Path, environ: Mapping[str, str], *, offline: bool, deep: bool, patience: float
) -> Iterator[Finding]:
    """Run all checks and return their findings in order; raise StoreError if no directory can be written at all.

    `patience` is how many seconds the checks may take; with `deep` the check of the cache may take any time.
    """
    offline = offline or is_offline(environ)
    directory = cache_root(environ)
    leftovers = cache.find_leftovers(directory / FORMAT)
    with contextlib.ExitStack() as stack:
        stack.callback(end_running)  # programs of checks that took too long
        ctx = _context(environ, patience, stack)
        reading = _Task(partial(read_project, root, ctx.environ))
        reading.wait(time.monotonic() + READING)
        project = reading.result or ProjectPlans()
        yield from project_findings(root, project, reading.problem(READING))
        ctx = replace(ctx, image_lock=project.pins)
        setup = Setup(root, ctx, directory, project.plans, project.static, offline, deep, leftovers)
        tasks = [(check, _start(check, setup)) for check in (*CHECKS, *network.registry_checks(project.plans))]
        deadline = time.monotonic() + patience
        for check, task in tasks:
            if task is None:
                yield Finding("unneeded", check.topic, NOT_ASKED)
                continue
            task.wait(None if deep and check.topic == "cache" else deadline)
            for finding in task.result or ():
                yield finding if isinstance(finding, Finding) else Finding("ok", check.topic, finding)
            if problem := task.problem(patience):
                yield Finding("problem" if check.needed(setup) else "unneeded", check.topic, problem)


def _start(check: Check, setup: Setup) -> _Task[list[str | Finding]] | None:
    return None if check.remote and setup.offline else _Task(lambda: list(check.run(setup)))


def _context(environ: Mapping[str, str], patience: float, stack: contextlib.ExitStack) -> Context:
    """Return a context whose client tries once; its cache is a temporary one if the user's cannot be used."""
    try:
        ctx = open_context(environ, silent())
    except StoreError:
        environ = {**environ, CACHE_DIR: str(stack.enter_context(temporary_directory()))}
        ctx = open_context(environ, silent())
    client = Client(environ, silent(), Policy(tries=1), idle=patience)
    return replace(ctx, connect=lambda: client)
