"""The live display of a terminal: running tasks below the lines that stay. It exists only while a task runs.

rich draws it, and is imported in a thread once tasks have been running for a moment: an unchanged build is over by
then. Between tasks, and so at the end of a build, the terminal is as it was.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from hatch_docker.core.progress import Progress, Task
from hatch_docker.core.terminal_lines import NARROW, TICK, is_lively, paint, wrap
from hatch_docker.core.text import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

DELAY = 0.3  # seconds; shorter tasks need no display
PER_SECOND = 10  # refreshes of the display
WINDOW = 3.0  # seconds over which a rate is measured
ROWS = 8  # tasks that are shown
WIDE = 100  # columns from which there is room for bars
WIDEST = 140  # columns of a row
BAR = 20  # columns of one
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True, eq=False)
class Screen:
    """The region below the lines; `write` writes a line while there is none. Safe to use from several threads.

    A callback of rich must not wait for a lock of ours, or two threads would wait for each other: `rows` takes none. A
    line is written while `_printing` is held, so that no display ends meanwhile and is drawn once more.
    """

    write: Callable[[str], None]
    tasks: tuple[Task, ...] = ()
    stream: TextIO = field(default_factory=lambda: sys.stderr)  # which rich replaces while it displays
    _printing: threading.Lock = field(default_factory=threading.Lock)  # taken before the other one
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _rates: dict[Task, deque[tuple[float, int]]] = field(default_factory=dict)
    _waiting: bool = False
    _live: Live | None = None

    def line(self, text: str) -> None:
        """Write a line that stays, above the tasks."""
        with self._printing:
            live = self._live
            styled = paint(wrap(text, self.stream))
            if live is None:
                self.write(styled)
                return
            from rich.text import Text

            live.console.print(Text.from_ansi(styled), soft_wrap=True)

    @property
    def tick(self) -> str:
        """A mark for a task that is done, "" for a terminal without Unicode."""
        return TICK if (self.stream.encoding or "").lower().startswith("utf") else ""

    def open(self, task: Task) -> None:
        """Show a task, which begins."""
        with self._guard:
            self.tasks = (*self.tasks, task)
            if self._live is None and not self._waiting:
                self._waiting = True
                threading.Thread(target=self._show_later, daemon=True).start()

    def close(self, task: Task) -> None:
        """Remove a task, which is over."""
        with self._printing, self._guard:
            self.tasks = tuple(other for other in self.tasks if other is not task)
            self._rates.pop(task, None)
            if self._live is not None and not self.tasks:
                live, self._live = self._live, None
                with live.console:
                    live.stop()
                atexit.unregister(self._leave)

    def _show_later(self) -> None:
        time.sleep(DELAY)
        if self.tasks:
            with contextlib.suppress(ImportError):  # raised while the process exits
                import rich.live
                import rich.progress_bar
                import rich.table  # noqa: F401
        with self._printing, self._guard:
            self._waiting = False
            live = self._live = self._start() if self.tasks else None
        while live is not None:
            time.sleep(1 / PER_SECOND)
            with self._printing:
                if self._live is not live:
                    return
                with live.console:
                    live.refresh()

    def _start(self) -> Live:
        from rich.live import Live

        atexit.register(self._leave)
        console = _console()
        live = Live(
            console=console, get_renderable=lambda: self.rows(console), auto_refresh=False, transient=True,
            # Output of libraries goes above the tasks too, but not output for a pipe.
            redirect_stdout=sys.stdout.isatty(), redirect_stderr=True,
        )
        with console:
            live.start()
        return live

    def _leave(self) -> None:
        """Restore the terminal's cursor at exit, and start a new line for the shell."""
        with contextlib.suppress(OSError):
            os.write(2, (("\n" if self._live is not None else "") + SHOW_CURSOR).encode())

    def rows(self, console: Console) -> RenderableType:
        """Return the tasks as a table, the newest last; if there are too many, those without a total are left out
        first.
        """
        from rich.table import Table

        table = Table.grid(expand=True, padding=(0, 1))
        # A terminal echoes ^C behind the last row; and a very long row is hard to read.
        table.width = max(min(console.width - len("^C") - 1, WIDEST), 1)
        narrow, wide = console.width < NARROW, console.width >= WIDE
        unicode = console.encoding.startswith("utf")
        table.add_column(width=1, style="cyan")
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis" if unicode else "crop")
        if wide:
            table.add_column(width=BAR)
        table.add_column(justify="right", no_wrap=True)
        if not narrow:
            table.add_column(justify="right", no_wrap=True, style="dim")
        spinner = SPINNER if unicode else "|/-\\"
        turning = spinner[int(time.monotonic() * PER_SECOND) % len(spinner)]
        tasks = self.tasks
        hidden = sorted(tasks, key=lambda task: bool(task.total))[: max(len(tasks) - ROWS, 0)]
        for task in tasks:
            if task not in hidden:
                title = "  " * task.part + task.title
                if not unicode:  # so that its width is known
                    title = title.encode("ascii", "backslashreplace").decode()
                bar = [self._bar(task)] if wide else []
                table.add_row(turning, title, *bar, *self._amounts(task, narrow=narrow))
        if hidden:
            table.add_row("", f"and {len(hidden)} more")
        return table

    def _bar(self, task: Task) -> RenderableType:
        """Return a bar in the terminal's own colours, which suit its background; nothing without a total."""
        from rich.progress_bar import ProgressBar

        if not task.total:
            return ""
        done = min(task.done, task.total)
        return ProgressBar(task.total, done, BAR, style="dim", complete_style="cyan", finished_style="cyan")

    def _amounts(self, task: Task, *, narrow: bool) -> list[str]:
        """Return what is done of a task, and the time."""
        done, total, elapsed = task.done, task.total, duration(task.seconds)
        if narrow:
            return [f"{100 * min(done, total) // total} %" if total else elapsed]
        rate = self._rate(task, done)
        if task.unit:
            return [f"{done} of {total} {task.unit}" if total else f"{done} {task.unit}", f"{elapsed:>11}"]
        if not (done or total):
            return ["", elapsed]
        rate = 0.0 if total and done >= total else rate
        left = f"{duration((total - done) / rate)} left" if total and rate else f"{elapsed:>11}"
        amount = f"{done / 1e6:.1f}" + (f"/{total / 1e6:.1f}" if total else "") + " MB"
        return [amount, f"{rate / 1e6:5.1f} MB/s {left:>11}" if rate else left]

    def _rate(self, task: Task, done: int) -> float:
        """Return the recent bytes a second; 0.0 if it is too early to tell."""
        now = time.monotonic()
        samples = self._rates.setdefault(task, deque(((task.began, 0),)))
        samples.append((now, done))
        while len(samples) > 2 and now - samples[0][0] > WINDOW:
            samples.popleft()
        then, before = samples[0]
        return max(0.0, (done - before) / (now - then)) if now - then >= 0.2 else 0.0


def _console() -> Console:
    """Return a console that one thread at a time prints with.

    rich computes where the rows begin, and writes there, in two steps: two threads would write to the same place.
    Callers of `Live` lock the console first, as those who print do: locks are taken in this order.
    """
    from rich.console import Console

    guard = threading.RLock()

    class Whole(Console):
        def __enter__(self) -> Console:
            guard.acquire()
            return super().__enter__()

        def __exit__(self, *error: object) -> None:
            try:
                super().__exit__(*error)
            finally:
                guard.release()

    return Whole(file=sys.stderr, highlight=False, markup=False, emoji=False)


def open_progress(write: Callable[[str], None], verbosity: int, environ: Mapping[str, str]) -> Progress:
    """Return the progress of a command: with a live display if standard error is a suitable terminal."""
    if verbosity < 0 or not is_lively(sys.stderr, environ):
        return Progress(write, verbosity)
    return Progress(write, verbosity, Screen(write))
