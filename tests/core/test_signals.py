"""SIGINT and SIGTERM end a build within seconds at any point, and leave no temporary files."""

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

# Python drops exceptions in a destructor: the program would continue.
DROPPED = """
    class Last:
        def __del__(self):
            ready()
            time.sleep(60)
    last = Last()
    del last
    time.sleep(60)
"""
# The same, and the next statement runs a program, which fails because it is killed.
FAILING = DROPPED.rpartition("    time.sleep")[0] + """
    run(["sleep", "60"])
"""
# Python before 3.12 turns an exception here into RuntimeError.
CLASSES = """
    class Slow:
        def __set_name__(self, owner, name):
            ready()
            time.sleep(60)
    class Last:
        slow = Slow()
"""
# The main thread is blocked in C code and executes no Python, like in a DNS lookup.
BLOCKED = """
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
    """Start a program and wait until it prints that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=Path(hatch_docker.__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def check_end(process: subprocess.Popen[str], number: int, directory: Path) -> str:
    """Send a signal; check that the program exits soon with its status and without temporary files. Return stderr."""
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=PATIENCE + 20)  # long enough for a busy machine
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert sorted(path.name for path in directory.iterdir()) == ["cache", "out"]
    assert (directory / "out").read_text() == "whole"
    for name in ("tmp", "blobs", "trees/kind"):
        assert list(directory.glob(f"cache/v1/{name}/*")) == []
    return errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [DROPPED, FAILING, CLASSES, BLOCKED, WRITING])
def test_one_signal_ends_the_program(tmp_path: Path, code: str, number: int) -> None:
    """In a destructor, in a blocking C function, and while other threads write."""
    check_end(start(code, tmp_path), number, tmp_path)


def test_signal_leaves_only_complete_trees(tmp_path: Path) -> None:
    """Other threads must not create a removed directory again, or rename an incomplete tree to its final path."""
    process = start(FILLING, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.glob("cache/v1/tmp/*")) == []
    trees = list(tmp_path.glob("cache/v1/trees/kind/*"))
    assert trees
    assert {sum(path.is_file() for path in tree.rglob("*")) for tree in trees} == {100}


def test_signal_ends_a_hanging_download(tmp_path: Path) -> None:
    """The server accepts the connection and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = start(DOWNLOADING, tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/")
        with server.accept()[0] as connection:
            connection.recv(100)
            check_end(process, signal.SIGINT, tmp_path)


def test_signal_kills_programs_of_other_threads(tmp_path: Path) -> None:
    """With their child processes, also in a session of their own, which Ctrl-C of a terminal does not reach."""
    mark = f"{2000000 + os.getpid()}"
    check_end(start(RUNNING, tmp_path, mark), signal.SIGINT, tmp_path)
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-fx", f"sleep {mark}"], capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_second_signal_is_ignored(tmp_path: Path) -> None:
    """Temporary files are removed, and no traceback is shown."""
    process = start(WRITING, tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(PATIENCE / 2)
    assert "Traceback" not in check_end(process, signal.SIGINT, tmp_path)


def test_handlers_of_the_caller_are_kept() -> None:
    """An ignored SIGINT (nohup, a background job) stays ignored. The other handlers are restored afterwards."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with handle_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[1]
        assert signal.getsignal(signal.SIGTERM) is before[1]
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before[0])
