"""Background work: a function that runs in a thread during the next steps of a build.

Errors and warnings come in the order of a sequential build: those of the steps first, then those of the background
work.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hatch_docker.core.context import Context
from hatch_docker.core.process import kill_on_failure
from hatch_docker.core.progress import CancelledWorkError

PATIENCE = 2.0  # seconds that cancelled work has to end

Result = TypeVar("Result")


def start_thread(work: Callable[[], Result]) -> Future[Result]:
    """Start a function in a daemon thread, which does not keep the process alive; return the future of its result."""
    done = Future[Result]()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - `Future.result` raises it
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextlib.contextmanager
def in_background(ctx: Context, work: Callable[[Context], Result]) -> Iterator[Callable[[], Result]]:
    """Run a function in a thread while the block runs; yield a function that waits for its result.

    If the result was not taken when the block ends, the work is cancelled: its downloads stop. If the block fails, the
    programs that the work has started are killed.
    """
    cancelled, warnings = threading.Event(), list[str]()
    progress = replace(ctx.progress, cancelled=cancelled, delayed_warnings=warnings)

    def result() -> Result:
        try:
            return done.result()
        finally:
            while warnings:
                ctx.progress.warn(warnings.pop(0))

    try:
        with kill_on_failure():  # entered before the work starts, to kill its programs too
            done = start_thread(partial(work, replace(ctx, progress=progress)))
            yield result
    finally:
        cancelled.set()
        wait([done], PATIENCE)
        if done.done() and isinstance(done.exception(), CancelledWorkError):
            warnings.clear()
