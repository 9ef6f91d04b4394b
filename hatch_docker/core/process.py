"""Subprocesses: start, stream output with secrets replaced, raise errors with the last lines of output."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.errors import ProgramError
from hatch_docker.core.signals import before_exit, stopping

if TYPE_CHECKING:
    import socket

LAST_LINES = 20
LONGEST_LINE = 16 << 20  # bytes; one line of BuildKit's JSON log may contain many lines of output
KEPT_LINE = 1 << 16      # characters of each of the last lines that an error shows
PATIENCE = 5.0     # seconds that a program has to exit after its input is closed
SHORTEST_LINE = 6  # characters; shorter lines of a secret are not replaced on their own


def redact(text: str, secrets: Sequence[str]) -> str:
    """Return `text` with every secret, in all usual encodings, replaced by `***`."""
    for word in _texts_to_redact(tuple(filter(None, secrets))):
        text = text.replace(word, "***")
    return text


@functools.lru_cache(16)
def _texts_to_redact(secrets: tuple[str, ...]) -> list[str]:
    """Return the texts to replace, the longest first: all `encodings`, each line, and the complete base64 text.

    The result is cached, because it is needed for every line of output.
    """
    words: set[str] = set()
    for secret in {*secrets, *(secret.strip() for secret in secrets)}:
        import base64

        from hatch_docker.core.secrets import encodings

        words |= {needle.decode(errors="replace") for needle in encodings(secret)}
        words |= {line.strip() for line in secret.splitlines() if len(line.strip()) >= SHORTEST_LINE}
        words.add(base64.b64encode(secret.encode(errors="surrogateescape")).decode())
    return sorted(words, key=len, reverse=True)


class ProcessFailed(ProgramError):
    """A program exited with a `status` other than 0; `output` is its last lines."""

    def __init__(self, message: str, status: int, output: str) -> None:
        super().__init__(message)
        self.status = status
        self.output = output


class TimedOut(ProgramError):
    """A program did not finish in time. It was killed with its child processes."""


Running = subprocess.Popen[bytes]
"""A running program."""

# The running programs of all threads: killed at exit, which does not wait for daemon threads.
_running: set[Running] = set()


def kill_running() -> None:
    """Kill the running programs of all threads."""
    for process in tuple(_running):
        _kill(process)


before_exit.append(kill_running)


@contextlib.contextmanager
def kill_on_failure() -> Iterator[None]:
    """If the block fails, kill all programs that any thread started during the block."""
    before = set(_running)
    try:
        yield
    except BaseException:
        for process in _running - before:
            _kill(process)
        raise


def _kill(process: Running) -> None:
    """Kill a program, and its child processes if it leads a process group (as programs with a timeout do)."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()


def _start(command: Sequence[str], **options: Any) -> Running:
    """Start a program; it is killed if a signal ends this process. Raises ProgramError."""
    try:
        process = subprocess.Popen(command, **options)
    except OSError as error:
        raise ProgramError(f"cannot run {command[0]}: {error.strerror}") from error
    _running.add(process)
    if stopping.is_set():  # `kill_running` may have run already
        _kill(process)
    return process


def _in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None,
    stdin: bytes | None = None, secrets: Sequence[str] = (), log: Callable[[str], None] | None = None,
    timeout: float | None = None, merged: bool = False,
) -> str:
    """Run a program and return its standard output as text; see `run_bytes`."""
    output = run_bytes(command, env=env, cwd=cwd, stdin=stdin, secrets=secrets, log=log, timeout=timeout, merged=merged)
    return output.decode(errors="replace")


def run_bytes(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None,
    stdin: bytes | None = None, secrets: Sequence[str] = (), log: Callable[[str], None] | None = None,
    timeout: float | None = None, merged: bool = False,
) -> bytes:
    """Run a program and return its standard output.

    `log` gets each line of standard error, with secrets replaced. With `merged` it gets standard output too, and b"" is
    returned. Raises ProcessFailed with the last 20 lines if the status is not 0, ProgramError if the program cannot be
    started, TimedOut if it runs longer than `timeout` seconds.
    """
    process = _start(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        start_new_session=timeout is not None,
    )
    last: deque[str] = deque(maxlen=LAST_LINES)
    overdue = threading.Event()

    def end_overdue() -> None:
        overdue.set()
        _kill(process)

    timer = threading.Timer(timeout or 0, end_overdue)
    timer.daemon = True
    try:
        # Any failure from here on kills the program. Its child processes are not waited for.
        threads = [_in_thread(functools.partial(_read_lines, process, secrets, last, log))]
        if stdin is not None:
            threads.append(_in_thread(functools.partial(_write_input, process, stdin)))
        if timeout is not None:
            timer.start()
        output = b""
        if not merged:
            assert process.stdout is not None
            with process.stdout:
                output = process.stdout.read()
        for thread in threads:
            thread.join()
        timer.cancel()
        process.wait()
    except BaseException:
        _kill(process)
        process.wait()
        raise
    finally:
        _running.discard(process)
    name = Path(command[0]).name
    if overdue.is_set():
        raise TimedOut(f"{name} did not finish within {timeout:g} s")
    if process.returncode != 0:
        text = "\n".join(last) or redact("\n".join(output.decode(errors="replace").splitlines()[-LAST_LINES:]), secrets)
        raise ProcessFailed(f"{name} failed with status {process.returncode}:\n{text}", process.returncode, text)
    return output


def start(command: Sequence[str], *, env: Mapping[str, str]) -> Running:
    """Start a program with this process's output, no input, and its own session (Ctrl-C does not end it).

    Raises ProgramError.
    """
    return _start(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)


@contextlib.contextmanager
def connect_stdio(command: Sequence[str], connection: socket.socket) -> Iterator[None]:
    """Run a program during the block, with a socket as its standard input and output; close the socket here.

    The program has no terminal, so it cannot prompt for a password. Raises ProgramError if it cannot be started, and
    ProcessFailed with its last line if the block raises OSError because the program has failed.
    """
    import tempfile

    with tempfile.TemporaryFile() as errors:
        with connection:
            process = _start(
                command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=errors, start_new_session=True
            )
        try:
            yield
            _has_failed(process)
        except OSError as error:
            failed = not isinstance(error, TimeoutError) and _has_failed(process)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
            if failed and lines:
                raise ProcessFailed(lines[-1], process.returncode, "\n".join(lines)) from error
            raise
        finally:
            _kill(process)
            process.wait()
            _running.discard(process)


@contextlib.contextmanager
def listen_stdio(command: Sequence[str], path: str) -> Iterator[None]:
    """Listen on a Unix socket during the block, and run a program for each connection (see `connect_stdio`)."""
    import socket

    failures: list[ProgramError] = []
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as programs:
        listener.bind(path)
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):  # raised when the listener is shut down
                while True:
                    try:
                        programs.enter_context(connect_stdio(command, listener.accept()[0]))
                    except ProgramError as error:
                        failures.append(error)

        thread = _in_thread(accept)
        try:
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
        except OSError as error:
            if failures:
                raise failures[0] from error
            raise


def _has_failed(process: Running) -> bool:
    """Wait up to PATIENCE seconds for a program; return whether it exited with a status other than 0."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(PATIENCE) != 0
    return False


def run_foreground(command: Sequence[str], *, env: Mapping[str, str]) -> int:
    """Run a program in the foreground, on this process's terminal; return its status, -N for signal N."""
    process = _start(command, env=env, stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    except BaseException:
        process.terminate()  # not killed, so that it can clean up
        process.wait()
        raise
    finally:
        _running.discard(process)


def spawn_detached(command: Sequence[str], *, env: Mapping[str, str]) -> None:
    """Start a program that continues after this process exits. Its output and failure are ignored."""
    with contextlib.suppress(OSError):
        subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _read_lines(process: Running, secrets: Sequence[str], last: deque[str], log: Callable[[str], None] | None) -> None:
    """Read a program's standard error, or the merged output, line by line until its end."""
    stream = process.stderr or process.stdout
    assert stream is not None
    with stream:
        while raw := stream.readline(LONGEST_LINE):
            more = raw
            # An untrusted build may print an extremely long line: only its start is kept.
            while len(more) == LONGEST_LINE and not more.endswith(b"\n"):
                more = stream.readline(LONGEST_LINE)
            line = redact(raw.decode(errors="replace").rstrip("\n"), secrets)
            last.append(line[:KEPT_LINE])
            if log is not None:
                log(line)


def _write_input(process: Running, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(data)
        process.stdin.close()
