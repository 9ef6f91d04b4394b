"""Work in a fork of this process, which uses another processor: two threads of Python share one."""

import contextlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from hatch_docker.core.signals import WATCH


def in_fork(work: Callable[[], Any], meanwhile: Callable[[], object]) -> Any:
    """Return the JSON value that a function gives in a fork of this process, while another one runs in this process.

    Return None if the function fails, or where a fork is of no use or not safe: with one processor, or while threads
    run. The caller then calls the function itself, and gets its error.
    """
    threads = {thread.name for thread in threading.enumerate()} - {WATCH}
    if sys.platform != "linux" or threads != {"MainThread"} or len(os.sched_getaffinity(0)) < 2:
        return None
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: WATCH waits for a pipe
            child = os.fork()
    except OSError:  # too many processes
        os.close(reading)
        os.close(writing)
        return None
    if child == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):  # our handlers remove what the parent uses
                signal.signal(number, signal.SIG_DFL)
            os.close(reading)
            with os.fdopen(writing, "w") as stream:
                stream.write(json.dumps(work()))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading) as stream:
            meanwhile()
            text = stream.read()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        with contextlib.suppress(ChildProcessError):  # who started this process ignores SIGCHLD
            os.waitpid(child, 0)
    try:
        return json.loads(text)
    except ValueError:  # it failed, or was killed while it wrote
        return None
