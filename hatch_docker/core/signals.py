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

PATIENCE = 1.0  # seconds that threads get to come to an end by themselves

leaving = threading.Event()              # set where a second does not do
_heard: list[int] = []                   # the signal that ends us
at_leave: list[Callable[[], None]] = []  # then called first: what ends the programs that run


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
    _heard.clear()
    with _watched(ours):
        before = {number: signal.signal(number, _stop) for number in ours}
        try:
            yield
        except Exception:
            if _heard:  # before 3.12 Python makes another exception of one that comes up while a class is made
                raise SystemExit(128 + _heard[0]) from None
            raise
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is _stop:  # else one came: no second one shall disturb the end
                    signal.signal(number, handler)
            if leaving.is_set():  # whatever went wrong, we did it: this is no way to end
                threading.Event().wait()


def _stop(number: int, _frame: FrameType | None) -> None:
    _heard.append(number)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _watched(ours: list[signal.Signals]) -> Iterator[None]:
    """Start a thread that receives the signals.

    The main thread may not react: it may be looking up a host's name, or lose the exception, which Python drops in a
    destructor; and it waits for a thread in the middle of a download, however long that takes.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    threading.Thread(target=_watch, args=(ear, ours), daemon=True).start()
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)


def _watch(ear: int, ours: list[signal.Signals]) -> None:
    with os.fdopen(ear, "rb", buffering=0) as stream:
        while heard := stream.read(1):
            if heard[0] in ours:
                time.sleep(PATIENCE)
                leaving.set()
                for end in at_leave:
                    end()
                # Among these are the removal of tempfile's directories and of `unfinished`.
                atexit._run_exitfuncs()  # noqa: SLF001
                os._exit(128 + heard[0])
