"""Work that is done in a thread beside the steps of a build, which stay in their order.

An error of a step comes before one of the work beside it, as if that had been done afterwards; so do its warnings.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hatch_docker.core.context import Context
from hatch_docker.core.process import ended_on_failure
from hatch_docker.core.progress import UnwantedError

PATIENCE = 2.0  # seconds in which work may end whose result is no longer wanted

Result = TypeVar("Result")


def started(work: Callable[[], Result]) -> Future[Result]:
    """Call a function in a daemon thread: the program can end before it does."""
    done = Future[Result]()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextlib.contextmanager
def beside(ctx: Context, work: Callable[[Context], Result]) -> Iterator[Callable[[], Result]]:
    """Do some work in a thread while the block runs, which gets a function that waits for the result.

    What was not waited for when the block ends is not wanted: its downloads stop, and if the block failed its programs
    are killed.
    """
    ended, held = threading.Event(), list[str]()

    def result() -> Result:
        try:
            return done.result()
        finally:
            while held:
                ctx.progress.warn(held.pop(0))

    try:
        with ended_on_failure():  # which knows what ran before the work began
            done = started(partial(work, replace(ctx, progress=replace(ctx.progress, ended=ended, held=held))))
            yield result
    finally:
        ended.set()
        wait([done], PATIENCE)
        if done.done() and isinstance(done.exception(), UnwantedError):
            held.clear()
