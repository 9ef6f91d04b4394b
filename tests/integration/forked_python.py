"""Builds in forks of a process that has imported all modules: imports take over half of the time of most builds.

This module, run as a program, is the fork server. `run_module` and the program of `write_program` request forks from
it. A fork gets the directory, the variables and the streams of the request. Tests of imports need a new process.
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
AT_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_")  # prefixes of variables that are read when a process starts


def _start_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}


def is_forkable(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a command is `python -m hatchling` or `hatch_docker` with the server's start-up variables."""
    own = tuple(command[:2]) == (sys.executable, "-m") and command[2] in ("hatchling", "hatch_docker")
    return own and _start_variables(environ) == _server().at_start


def run_module(command: Sequence[str], directory: Path, environ: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run `python -m MODULE ...` in a fork of the server; return its status and its output, both streams in one."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        with _request_fork(_server().requests, command[2:], str(directory), environ, output) as answers:
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
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" request {number} hatch_docker "$@"\n')
    path.chmod(0o755)
    return number


def _request_fork(
    requests: socket.socket, words: Sequence[str], directory: str, environ: Mapping[str, str], output: IO[str],
    streams: Sequence[int] = (),
) -> IO[bytes]:
    """Request a fork; return a pipe that contains its process ID, and its exit status when it has ended.

    The request is written to the file `output`. `streams`: stdin, stdout, stderr; by default `output` for the last two.
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
    """The socket for requests to the server, and the variables that were read when the server started."""

    requests: socket.socket
    at_start: Mapping[str, str]


@functools.cache
def _server() -> _Server:
    """Start the server, once for this process, and return it."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        process = subprocess.Popen([sys.executable, __file__, "serve", str(other.fileno())], pass_fds=[other.fileno()])

    def end() -> None:
        own.close()
        process.wait()

    atexit.register(end)
    return _Server(own, _start_variables(os.environ))


def _own_modules() -> list[str]:
    """Return the names of hatch-docker's modules, except those that run on import or record the start of a build."""
    import hatch_docker

    found = [module.name for module in pkgutil.walk_packages(hatch_docker.__path__, "hatch_docker.")]
    return [name for name in found if not name.startswith(("hatch_docker.__main__", "hatch_docker.plugin"))]


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request and write each fork's exit status to its pipe; return only in a fork, with its command."""
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
        received, files, _, _ = socket.recv_fds(requests, 10, 5)
        if not received:
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
    """Run a module as a program and exit without freeing the objects.

    Freeing them would copy the memory that a fork shares with the server: a quarter of the time of a build.
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
    mode, number, *words = sys.argv[1:]
    requests = socket.socket(fileno=int(number))
    if mode == "request":
        with tempfile.TemporaryFile("w+") as request, _request_fork(
            requests, words, str(Path.cwd()), os.environ, request, (0, 1, 2)
        ) as answers:  # fmt: skip
            answers.read(10)
            sys.exit(int(answers.read(10)))
    _run(_serve(requests)[0])
