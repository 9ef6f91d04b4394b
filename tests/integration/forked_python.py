"""Builds in processes that begin with all modules imported: imports take more than half of the time of most builds.

`run_module` asks a server, which is this module as a program, to fork, and so does the program of `write_program`. The
fork has a directory, variables and streams like those of a new process. Tests of what is imported start a process.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LIBRARIES = (
    "email.headerregistry", "encodings.cp437", "hatch_vcs.hooks", "hatchling.bridge.app", "hatchling.builders.app",
    "hatchling.builders.plugin.hooks", "hatchling.builders.sdist", "hatchling.builders.wheel", "hatchling.cli",
    "hatchling.metadata.core", "hatchling.metadata.plugin.interface", "hatchling.plugin.manager",
    "hatchling.version.source.plugin.interface", "packaging.requirements", "packaging.tags", "pydantic",
    "pydantic.functional_validators", "pydantic.json_schema", "pydantic.types", "pytest", "trove_classifiers",
    "urllib3", "zlib_ng.gzip_ng",
)  # fmt: skip
AT_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # variables that are read when a process starts


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}


def is_forkable(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a command is one of this Python's modules, with nothing special when its process starts."""
    own = tuple(command[:2]) == (sys.executable, "-m") and command[2] in ("hatchling", "hatch_docker")
    return own and _read_at_start(environ) == _server().at_start


def run_module(command: Sequence[str], directory: Path, environ: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run `python -m MODULE ...` in a fork of the server; return its status and its output, both streams in one."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        with _ask(_server().requests, command[2:], str(directory), environ, output) as answers:
            process = int(answers.read(10))
            if not select.select([answers], [], [], timeout)[0]:
                os.kill(process, signal.SIGKILL)
                answers.read(10)
                raise subprocess.TimeoutExpired(command, timeout)
            status = int(answers.read(10))
        output.seek(0)
        return status, output.read()


def write_program(directory: Path) -> int:
    """Write a program `hatch-docker`, for shells, that runs in a fork; return the descriptor that it has to inherit."""
    number = _server().requests.fileno()
    path = directory / "hatch-docker"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" ask {number} hatch_docker "$@"\n')
    path.chmod(0o755)
    return number


def _ask(
    requests: socket.socket, words: Sequence[str], directory: str, environ: Mapping[str, str], output: IO[str],
    streams: Sequence[int] = (),
) -> IO[bytes]:
    """Ask for a fork with three streams, or with a file for its output; return the pipe with its ID, then its status.

    The file holds the request until the fork has read it.
    """
    json.dump({"words": words, "directory": directory, "environ": dict(environ)}, output)
    output.flush()
    reader, writer = os.pipe()
    try:
        socket.send_fds(requests, [b"fork"], [output.fileno(), writer, *streams])
    finally:
        os.close(writer)
    return os.fdopen(reader, "rb", buffering=0)


@dataclass(frozen=True)
class _Server:
    """The socket that it takes requests from, and the variables that it read when it started."""

    requests: socket.socket
    at_start: Mapping[str, str]


@functools.cache
def _server() -> _Server:
    """Return the server of this process, which is started once."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        process = subprocess.Popen([sys.executable, __file__, "serve", str(other.fileno())], pass_fds=[other.fileno()])

    def end() -> None:
        own.close()
        process.wait()

    atexit.register(end)
    return _Server(own, _read_at_start(os.environ))


def _own_modules() -> list[str]:
    """Return the names of our modules but those that run when they are imported, or note then when a build began."""
    import hatch_docker

    found = [module.name for module in pkgutil.walk_packages(hatch_docker.__path__, "hatch_docker.")]
    return [name for name in found if not name.startswith(("hatch_docker.__main__", "hatch_docker.plugin"))]


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request, and tell who asked how the fork ended; return in the fork, with the words of its command.
    """
    del sys.path[0]  # this file's directory
    for name in (*LIBRARIES, *_own_modules()):
        importlib.import_module(name)
    gc.freeze()
    os.fsync = lambda _file: None  # as in tests/conftest.py
    running: dict[int, int] = {}

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                writer = running.pop(ended[0])
                with contextlib.suppress(BrokenPipeError):
                    os.write(writer, f"{os.waitstatus_to_exitcode(ended[1]):10}".encode())
                os.close(writer)

    signal.signal(signal.SIGCHLD, reap)
    while True:
        asked, files, _, _ = socket.recv_fds(requests, 10, 5)
        if not asked:
            sys.exit()
        output, answers, *streams = files
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if process := os.fork():
            running[process] = answers
            with contextlib.suppress(BrokenPipeError):
                os.write(answers, f"{process:10}".encode())
            for file in (output, *streams):
                os.close(file)
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if not process:
            break
    requests.close()
    for file in (answers, *running.values()):
        os.close(file)
    with os.fdopen(output, "r+") as stream:
        stream.seek(0)
        request = json.load(stream)
        stream.seek(0)
        stream.truncate()
        for number, descriptor in enumerate(streams or (0, output, output)):
            os.dup2(descriptor, number)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ |= request["environ"]
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = request["words"]
    words: list[str] = request["words"]
    return words


def _run(module: str) -> None:
    """Run a module as a program, and end as Python does but for the objects, which are not freed one by one.

    That would copy all memory that a fork shares with the server, and takes a quarter of the time of a build.
    """
    status: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    if status is not None and not isinstance(status, int):
        sys.exit(str(status))
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((status or 0) & 0xFF)


if __name__ == "__main__":
    what, number, *words = sys.argv[1:]
    requests = socket.socket(fileno=int(number))
    if what == "ask":
        with tempfile.TemporaryFile("w+") as request, _ask(
            requests, words, str(Path.cwd()), os.environ, request, (0, 1, 2)
        ) as answers:  # fmt: skip
            answers.read(10)
            sys.exit(int(answers.read(10)))
    _run(_serve(requests)[0])
