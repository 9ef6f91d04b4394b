"""Work in a forked child process, which can use a second processor (Python threads share one)."""

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
    """Run `work` in a forked child and `meanwhile` in this process; return the result of `work`, a JSON value.

    Return None if `work` fails, or if a fork is useless or unsafe: with one processor, or with other threads. The
    caller then calls `work` itself and gets its error.
    """
    threads = {thread.name for thread in threading.enumerate()} - {WATCH}
    if sys.platform != "linux" or threads != {"MainThread"} or len(os.sched_getaffinity(0)) < 2:
        return None
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # for a fork with threads: WATCH only reads a pipe
            child = os.fork()
    except OSError:  # too many processes
        os.close(reading)
        os.close(writing)
        return None
    if child == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM):  # our handlers would remove the parent's files
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
        with contextlib.suppress(ChildProcessError):  # the parent process ignores SIGCHLD
            os.waitpid(child, 0)
    try:
        return json.loads(text)
    except ValueError:  # the child failed, or was killed while it wrote
        return None
