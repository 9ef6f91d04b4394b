"""Running a program in a pseudo-terminal, with a screen emulator (pyte) that shows what the user would see."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyte


@dataclass
class Terminal:
    """A running program and its screen. `seen`: all different screens so far, each as a list of lines."""

    process: subprocess.Popen[bytes]
    master: int
    columns: int
    raw: bytes = b""
    seen: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.screen: Any = pyte.Screen(self.columns, 40)
        self.stream: Any = pyte.ByteStream(self.screen)

    def lines(self) -> list[str]:
        """Return the lines of the screen that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def read(self, until: Callable[[list[str]], bool] = lambda _lines: False, timeout: float = 60) -> list[str]:
        """Read until `until` is true for the screen, or the program has ended. Return the lines of the screen."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            self.raw += data
            self.stream.feed(data)
            shown = self.lines()
            if not self.seen or self.seen[-1] != shown:
                self.seen.append(shown)
            if until(shown):
                break
        return self.lines()

    def end(self, timeout: float = 30) -> int:
        """Read until the program ends, and return its exit status."""
        self.read(timeout=timeout)
        os.close(self.master)
        return self.process.wait(timeout)

    @property
    def has_cursor(self) -> bool:
        """Return whether the cursor is visible."""
        return not self.screen.cursor.hidden


def start(
    command: Sequence[str], *, columns: int = 80, cwd: Path | None = None,
    variables: Mapping[str, str | None] | None = None, piped: bool = False,
) -> Terminal:
    """Start a program in a new terminal and a new session. `piped`: its standard output is a pipe, not the terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    changes: dict[str, str | None] = {"TERM": "xterm-256color", **dict.fromkeys(("CI", "NO_COLOR", "COLUMNS", "LINES"))}
    changes |= variables or {}
    environment = {**os.environ, **{name: value for name, value in changes.items() if value is not None}}
    for name in [name for name, value in changes.items() if value is None]:
        environment.pop(name, None)
    process = subprocess.Popen(
        list(command), stdin=slave, stdout=subprocess.PIPE if piped else slave, stderr=slave, cwd=cwd, env=environment,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    return Terminal(process, master, columns)
