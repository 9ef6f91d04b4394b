"""Work in a forked child process."""

import os
import subprocess
import sys
import threading

import pytest

from hatch_docker.core.fork import in_fork

PROGRAM = """
import os, resource, signal, sys
from hatch_docker.core.fork import in_fork
from hatch_docker.core.signals import handle_signals

def work():
    import json.tool
    return [os.getpid() != parent, {"with": "é"}]

def fail():
    raise ValueError

parent, seen = os.getpid(), []
with handle_signals():
    print(in_fork(work, lambda: seen.append(os.getpid())), seen == [parent], "json.tool" in sys.modules)
    print(in_fork(fail, lambda: None), in_fork(object, lambda: None))
    try:
        in_fork(lambda: __import__("time").sleep(60), fail)
    except ValueError:
        print("ended")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nothing is left")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(in_fork(list, lambda: None))
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setuid(65534) if os.getuid() == 0 else None
print(in_fork(list, lambda: None))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a fork is of use with a second processor")
def test_fork_returns_a_result_and_always_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=True
    )
    result = "[True, {'with': 'é'}] True False\nNone None\nended\nnothing is left\n[]\nNone\n"
    assert (done.stdout, done.stderr) == (result, "")


def test_process_with_threads_is_not_forked() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    try:
        assert in_fork(lambda: 1, lambda: None) is None
    finally:
        over.set()
        thread.join()
