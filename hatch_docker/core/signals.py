"""Signal handling: SIGINT and SIGTERM stop a build within two seconds and leave no temporary file."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE = 1.0  # seconds in which threads may end by themselves
WATCH = "hatch-docker signals"  # the thread that receives signals, and does nothing else

stopping = threading.Event()  # set once the process is being ended by force
_received: list[int] = []     # the signal that ends the process
before_exit: list[Callable[[], None]] = []  # called then, to end running programs


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT raise SystemExit (143, 130) in the block, so that every `finally` runs.

    If that does not end the process soon, it is killed. Handlers that our caller has installed stay, and nothing
    changes outside of the main thread.
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
            if _received:  # before 3.12 Python replaces an exception that is raised while a class is made
                raise SystemExit(128 + _received[0]) from None
            raise
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is _stop:  # else a signal came, and a second one must not disturb the end
                    signal.signal(number, handler)
            if stopping.is_set():  # the failure is a result of the forced end
                threading.Event().wait()


def _stop(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _watched(ours: list[signal.Signals]) -> Iterator[None]:
    """Start a thread that receives the signals.

    The main thread may not react: it may be looking up a host's name, or lose the exception, which Python drops in a
    destructor; and it waits for a thread in the middle of a download, however long that takes.
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
                # These remove temporary directories and unfinished files.
                atexit._run_exitfuncs()  # noqa: SLF001
                os._exit(128 + heard[0])
