"""Handling of SIGINT and SIGTERM: a build ends within two seconds and leaves no temporary files."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE = 1.0  # seconds after a signal until the process is ended by `os._exit`
WATCH = "hatch-docker signals"  # name of the thread that only waits for signals

stopping = threading.Event()  # set before the process is ended by `os._exit`
_received: list[int] = []     # the signal that was received
before_exit: list[Callable[[], None]] = []  # called before `os._exit`, to kill running programs


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT raise SystemExit (143, 130) in the block, so that every `finally` runs.

    If the process still runs after PATIENCE seconds, it is ended by `os._exit`. Handlers that the caller has installed
    are kept. Outside of the main thread nothing changes.
    """
    ours: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        defaults = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        ours = [number for number, default in defaults.items() if signal.getsignal(number) is default]
    if not ours:
        yield
        return
    _received.clear()
    with _watched(ours):
        before = {number: signal.signal(number, _stop) for number in ours}
        try:
            yield
        except Exception:
            if _received:  # Python before 3.12 replaces SystemExit if it is raised while a class is created
                raise SystemExit(128 + _received[0]) from None
            raise
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is _stop:  # otherwise a signal was received: ignore further signals
                    signal.signal(number, handler)
            if stopping.is_set():  # do not report errors that the exit causes
                threading.Event().wait()


def _stop(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _watched(ours: list[signal.Signals]) -> Iterator[None]:
    """Start a thread that ends the process some time after a signal, if the main thread does not.

    The main thread may be blocked in a DNS lookup or wait for a thread with a download, or Python may drop the
    exception (in a destructor).
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_watch, args=(reader, ours), name=WATCH, daemon=True).start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch(reader: int, ours: list[signal.Signals]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while heard := stream.read(1):
            if heard[0] in ours:
                time.sleep(PATIENCE)
                stopping.set()
                for end in before_exit:
                    end()
                # They remove temporary files and directories.
                atexit._run_exitfuncs()  # noqa: SLF001
                os._exit(128 + heard[0])
