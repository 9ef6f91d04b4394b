"""One Ctrl-C, or one SIGTERM, ends a build soon, wherever it comes, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hatch_docker
from hatch_docker.core.signals import PATIENCE, handle_signals

BEGIN = """
import sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hatch_docker.core.signals import handle_signals
from hatch_docker.core.process import run
from hatch_docker.core.progress import silent
from hatch_docker.core.files import atomic_write
from hatch_docker.core.cache.store import open_store
store, out = open_store(Path(sys.argv[1], "cache")), Path(sys.argv[1], "out")
out.write_text("whole")
def ready():
    print("ready", flush=True)
with handle_signals(), tempfile.TemporaryDirectory(dir=sys.argv[1]) as directory:
"""

# Python drops an exception here: the loop after it would go on for ever.
DROPPED = """
    class Last:
        def __del__(self):
            ready()
            time.sleep(60)
    last = Last()
    del last
    time.sleep(60)
"""
# And here it would go on to a program, which fails as it is ended.
FAILING = DROPPED.rpartition("    time.sleep")[0] + """
    run(["sleep", "60"])
"""
# And here Python before 3.12 makes a RuntimeError of it.
CLASSES = """
    class Slow:
        def __set_name__(self, owner, name):
            ready()
            time.sleep(60)
    class Last:
        slow = Slow()
"""
# As in the look-up of a host's name: no Python runs in the main thread until it is done.
DEAF = """
    import ctypes
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    ready()
    libc.pthread_mutex_lock(mutex)
"""
WRITING = """
    def write():
        with atomic_write(out) as stream, store.writer() as writer:
            stream.write(b"half")
            writer.write(b"half")
            ready()
            time.sleep(60)
    def make(directory):
        (directory / "file").write_text("half")
        write()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda key: store.tree("kind", key, make), ["a"]))
"""
FILLING = """
    def make(directory):
        for number in range(100):
            place = directory / f"{number % 10}" / f"{number}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("whole")
    def fill(name):
        for number in range(100000):
            store.tree("kind", f"{name}{number}", make)
            if (name, number) == ("a", 0):
                ready()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fill, "abc"))
"""
DOWNLOADING = """
    from hatch_docker.core.http.client import Client, fetch
    ready()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: fetch(store, Client({}, silent()), sys.argv[2] + path, digest=None), "ab"))
"""
RUNNING = """
    def sleep(timeout):
        run(["sh", "-c", f"echo >&2; sleep {sys.argv[2]} & sleep {sys.argv[2]}"], timeout=timeout, log=told.append)
    told = []
    threading.Thread(target=lambda: [time.sleep(0.1) for _ in iter(lambda: len(told) < 2, False)] and ready()).start()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(sleep, [3600, 3600]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A program that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=Path(hatch_docker.__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ends(process: subprocess.Popen[str], number: int, directory: Path) -> str:
    """Send a signal; the program ends with its status, before what it waits for, and what it began is gone."""
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=PATIENCE + 20)  # on a busy machine
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert sorted(path.name for path in directory.iterdir()) == ["cache", "out"]
    assert (directory / "out").read_text() == "whole"
    for name in ("tmp", "blobs", "trees/kind"):
        assert list(directory.glob(f"cache/v1/{name}/*")) == []
    return errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [DROPPED, FAILING, CLASSES, DEAF, WRITING])
def test_one_signal_does_wherever_it_comes(tmp_path: Path, code: str, number: int) -> None:
    """In a destructor, in a library that does not let Python in, while other threads write."""
    ends(start(code, tmp_path), number, tmp_path)


def test_trees_that_are_being_filled_are_gone_and_the_others_are_whole(tmp_path: Path) -> None:
    """Also where a thread would make a directory anew that was removed, or give what is left of one its name."""
    process = start(FILLING, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.glob("cache/v1/tmp/*")) == []
    trees = list(tmp_path.glob("cache/v1/trees/kind/*"))
    assert trees
    assert {sum(path.is_file() for path in tree.rglob("*")) for tree in trees} == {100}


def test_a_download_is_not_waited_for(tmp_path: Path) -> None:
    """From a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = start(DOWNLOADING, tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/")
        with server.accept()[0] as connection:
            connection.recv(100)
            ends(process, signal.SIGINT, tmp_path)


def test_programs_in_other_threads_end_too(tmp_path: Path) -> None:
    """With what they started, where they have a session of their own, which no Ctrl-C of a terminal reaches."""
    mark = f"{2000000 + os.getpid()}"
    ends(start(RUNNING, tmp_path, mark), signal.SIGINT, tmp_path)
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-fx", f"sleep {mark}"], capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_signal_does_not_disturb_the_end(tmp_path: Path) -> None:
    """People press Ctrl-C twice: the files are removed all the same, and no traceback is shown."""
    process = start(WRITING, tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(PATIENCE / 2)
    assert "Traceback" not in ends(process, signal.SIGINT, tmp_path)


def test_what_a_caller_wants_of_signals_stays() -> None:
    """An ignored SIGINT (nohup, a shell's background) is ignored on; all is as it was afterwards."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with handle_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[1]
        assert signal.getsignal(signal.SIGTERM) is before[1]
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before[0])
