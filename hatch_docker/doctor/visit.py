"""A visit: the project is read, then every check works in a thread of its own; none is waited for beyond a deadline."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from hatch_docker.context import CACHE_DIR, Context, cache_root, open_context
from hatch_docker.doctor import cache, engines, machine, network
from hatch_docker.doctor.check import Check, Finding, Look
from hatch_docker.doctor.reading import Reading, read, told
from hatch_docker.errors import HatchDockerError, StoreError
from hatch_docker.outputs import scratch
from hatch_docker.process import end_running
from hatch_docker.progress import silent
from hatch_docker.retry import Policy
from hatch_docker.store import FORMAT
from hatch_docker.transport import Client, is_offline

Result = TypeVar("Result")

READING = 30.0  # seconds for the project's files, of which no other machine is asked
NOT_ASKED = "not asked: offline"


def _always(_look: Look) -> bool:
    return True


CHECKS = (
    Check("python", machine.python, _always),
    Check("hatch", machine.hatch),
    Check("sandbox", machine.sandbox, machine.needs_sandbox),
    Check("docker", engines.docker, engines.needs_daemon),
    Check("podman", engines.podman),
    Check("buildkit", engines.builder, engines.needs_builder, asks=True),
    Check("cache", cache.cache, _always),
    Check("disk", cache.disk, _always),
    Check("certificates", machine.certificates, _always),
    Check("debian", network.debian, network.needs_debian, asks=True),
    Check("index", network.indexes, network.needs_index, asks=True),
    Check("uv", machine.uv, machine.needs_uv),
    Check("cosign", machine.cosign, machine.needs_cosign),
    Check("git", machine.git),
)


def visit(root: Path, environ: Mapping[str, str], *, offline: bool, deep: bool, patience: float) -> Iterator[Finding]:
    """The findings of all checks, in their order; raises StoreError where nothing can be written at all.

    `patience` is how many seconds the checks may take; `deep` gives the cache all the time that it needs.
    """
    offline = offline or is_offline(environ)
    directory = cache_root(environ)
    left = cache.leftovers(directory / FORMAT)
    with contextlib.ExitStack() as stack:
        stack.callback(end_running)  # whoever was not waited for
        ctx = _context(environ, patience, stack)
        reading = _Work(partial(read, root, ctx.environ))
        reading.wait(time.monotonic() + READING)
        project = reading.result or Reading()
        yield from told(root, project, reading.problem(READING))
        ctx = replace(ctx, pins=project.pins)
        look = Look(root, ctx, directory, project.plans, project.whole, offline, deep, left)
        works = [(check, _start(check, look)) for check in (*CHECKS, *network.registries(project.plans))]
        deadline = time.monotonic() + patience
        for check, work in works:
            if work is None:
                yield Finding("unneeded", check.topic, NOT_ASKED)
                continue
            work.wait(None if deep and check.topic == "cache" else deadline)
            yield from _findings(check, look, work, patience)


def _start(check: Check, look: Look) -> _Work[list[str | Finding]] | None:
    return None if check.asks and look.offline else _Work(lambda: list(check.work(look)))


def _findings(check: Check, look: Look, work: _Work[list[str | Finding]], patience: float) -> Iterator[Finding]:
    for said in work.result or ():
        yield said if isinstance(said, Finding) else Finding("ok", check.topic, said)
    if problem := work.problem(patience):
        yield Finding("problem" if check.needed(look) else "unneeded", check.topic, problem)


class _Work(threading.Thread, Generic[Result]):
    """Something done beside us, that nobody has to wait for."""

    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """See Thread."""
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            self.error = error

    def wait(self, deadline: float | None) -> None:
        """Wait for the end, or a time of time.monotonic; a bug that it met is raised."""
        self.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if self.error is not None and not isinstance(self.error, HatchDockerError):
            raise self.error

    def problem(self, patience: float) -> str:
        """Why there is no result, "" where there is one."""
        if self.error is not None:
            return str(self.error)
        return f"not done after {patience:g} s; look at what it asks, or give it more with --patience" * self.is_alive()


def _context(environ: Mapping[str, str], patience: float, stack: contextlib.ExitStack) -> Context:
    """The context of a build that tries once; on a cache of its own where the user's cannot be used."""
    try:
        ctx = open_context(environ, silent())
    except StoreError:
        environ = {**environ, CACHE_DIR: str(stack.enter_context(scratch()))}
        ctx = open_context(environ, silent())
    client = Client(environ, silent(), Policy(tries=1), idle=patience)
    return replace(ctx, connect=lambda: client)
