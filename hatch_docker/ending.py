"""The end before the end: Ctrl-C and SIGTERM stop a build within two seconds, and no temporary file stays."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

PATIENCE = 1.0  # seconds that threads get to come to an end by themselves


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT raise SystemExit (143, 130), so that every `finally` is run.

    Handlers that whoever called us has installed stay, and so does everything outside of the main thread.
    """
    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        defaults = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        ours = [number for number, default in defaults.items() if signal.getsignal(number) is default]
    before = {number: signal.signal(number, _stop) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    # A thread in the middle of a download would be waited for, however long it takes.
    impatient = threading.Timer(PATIENCE, _leave, (128 + number,))
    impatient.daemon = True
    impatient.start()
    raise SystemExit(128 + number)


def _leave(status: int) -> None:
    # Among these are the removal of tempfile's directories and of `unfinished`.
    atexit._run_exitfuncs()  # noqa: SLF001
    os._exit(status)
