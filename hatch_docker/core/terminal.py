"""The live display on a terminal: the running tasks, below the permanent lines. It exists only while a task runs.

It is drawn with rich. rich is imported in a thread after DELAY seconds, because importing it takes longer than an
unchanged build. When no task runs, and at the end of a build, nothing of the display remains on the terminal.
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

DELAY = 0.3  # seconds that a task must run to be displayed
PER_SECOND = 10  # refreshes of the display
WINDOW = 3.0  # seconds over which a rate is measured
ROWS = 8  # most tasks that are shown
WIDE = 100  # columns; a narrower terminal shows no bars
WIDEST = 140  # most columns of a row
BAR = 20  # columns of a bar
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True, eq=False)
class Screen:
    """The display of the running tasks. `write` writes a line while nothing is displayed. Threads can share it.

    rich calls `rows`, which must not acquire `_printing` or `_guard` (a deadlock). A line is written while `_printing`
    is held: the display must not end at the same time, or rich would draw it again.
    """

    write: Callable[[str], None]
    tasks: tuple[Task, ...] = ()
    stream: TextIO = field(default_factory=lambda: sys.stderr)  # the original: rich replaces sys.stderr
    _printing: threading.Lock = field(default_factory=threading.Lock)  # acquired before `_guard`
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _rates: dict[Task, deque[tuple[float, int]]] = field(default_factory=dict)
    _waiting: bool = False
    _live: Live | None = None

    def line(self, text: str) -> None:
        """Write a permanent line above the tasks."""
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
        """A check mark for a finished task, "" for a terminal without Unicode."""
        return TICK if (self.stream.encoding or "").lower().startswith("utf") else ""

    def open(self, task: Task) -> None:
        """Show a task that has started."""
        with self._guard:
            self.tasks = (*self.tasks, task)
            if self._live is None and not self._waiting:
                self._waiting = True
                threading.Thread(target=self._show_later, daemon=True).start()

    def close(self, task: Task) -> None:
        """Remove a task that has ended."""
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
            # Output of libraries is shown above the tasks, except standard output into a pipe.
            redirect_stdout=sys.stdout.isatty(), redirect_stderr=True,
        )
        with console:
            live.start()
        return live

    def _leave(self) -> None:
        """Show the cursor again at exit, and start a new line for the shell."""
        with contextlib.suppress(OSError):
            os.write(2, (("\n" if self._live is not None else "") + SHOW_CURSOR).encode())

    def rows(self, console: Console) -> RenderableType:
        """Return a table of at most ROWS tasks, the newest last. Tasks without a total are omitted first."""
        from rich.table import Table

        table = Table.grid(expand=True, padding=(0, 1))
        # Room for the ^C that a terminal echoes after the last row; and very long rows are hard to read.
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
                if not unicode:  # escaped here, so that its width is known
                    title = title.encode("ascii", "backslashreplace").decode()
                bar = [self._bar(task)] if wide else []
                table.add_row(turning, title, *bar, *self._amounts(task, narrow=narrow))
        if hidden:
            table.add_row("", f"and {len(hidden)} more")
        return table

    def _bar(self, task: Task) -> RenderableType:
        """Return a progress bar in the colours of the terminal's theme, "" without a total."""
        from rich.progress_bar import ProgressBar

        if not task.total:
            return ""
        done = min(task.done, task.total)
        return ProgressBar(task.total, done, BAR, style="dim", complete_style="cyan", finished_style="cyan")

    def _amounts(self, task: Task, *, narrow: bool) -> list[str]:
        """Return the columns with the amount and the time of a task; if `narrow`, one column."""
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
        """Return the bytes per second of the last WINDOW seconds, 0.0 in the first 0.2 s."""
        now = time.monotonic()
        samples = self._rates.setdefault(task, deque(((task.began, 0),)))
        samples.append((now, done))
        while len(samples) > 2 and now - samples[0][0] > WINDOW:
            samples.popleft()
        then, before = samples[0]
        return max(0.0, (done - before) / (now - then)) if now - then >= 0.2 else 0.0


def _console() -> Console:
    """Return a console that only one thread uses at a time.

    rich computes the position of the rows and writes them in two steps, so two threads could write to the same place.
    Callers of `Live` lock the console first, like printing does, so that all threads acquire the locks in one order.
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
    """Return the Progress of a command, with a live display if standard error is a suitable terminal."""
    if verbosity < 0 or not is_lively(sys.stderr, environ):
        return Progress(write, verbosity)
    return Progress(write, verbosity, Screen(write))
