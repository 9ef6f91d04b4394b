"""Progress of a build for the user: log lines by verbosity, and tasks with a duration and an amount."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from hatch_docker.core.text import duration, megabytes, sanitize

Advance = Callable[[int], None]
"""Function that gets the number of bytes (or units) done since its last call."""

LONG = 1.0  # seconds; plain lines and the receipt have the times of tasks that took at least so long


LongTask = tuple[str, float, str]
"""A task that took at least LONG seconds: its title, its seconds, and the title of its parent task or ""."""


class CancelledWorkError(BaseException):
    """The cancellation of background work. A BaseException, so that it causes no retry and no warning."""


class Display(Protocol):
    """A live display of the running tasks. terminal.py implements it."""

    @property
    def tick(self) -> str:
        """A check mark for a finished task, or ""."""

    def line(self, text: str, /) -> None:
        """Write a permanent line above the tasks."""

    def open(self, task: Task, /) -> None:
        """Show a task that has started."""

    def close(self, task: Task, /) -> None:
        """Remove a task that has ended."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Output of a build for the user. `verbosity`: 0 by default, each `-v` adds one, each `-q` subtracts one.

    With a `screen` (on a terminal) running tasks are shown below the lines. Without, a task writes a line when it
    starts, and one when it ends if it took LONG seconds. Threads can share it.
    """

    write: Callable[[str], None]
    verbosity: int = 0
    screen: Display | None = None
    warnings: list[str] = field(default_factory=list, repr=False, compare=False)  # all, at any verbosity
    long_tasks: list[LongTask] = field(default_factory=list, repr=False, compare=False)
    cancelled: threading.Event | None = None  # for background work: set when it is cancelled
    delayed_warnings: list[str] | None = None  # for background work: its warnings, shown when its result is taken
    thread_state: threading.local = field(default_factory=threading.local, repr=False, compare=False)  # open titles

    def info(self, line: str) -> None:
        """Show a step or a result (by default, not with `-q`)."""
        if self.verbosity >= 0:
            self._line(sanitize(line))

    def detail(self, line: str) -> None:
        """Show a guess and its reason, a cache hit, or a program's output (with `-v`)."""
        if self.verbosity >= 1:
            self._line(sanitize(line))

    def warn(self, line: str) -> None:
        """Show a warning (at any verbosity except `-qq`)."""
        if self.delayed_warnings is not None:
            self.delayed_warnings.append(line)
            return
        self.warnings.append(line)
        if self.verbosity >= -1:
            self._line(sanitize(f"warning: {line}"))

    def stage(self, name: str, seconds: float, how: str = "") -> None:
        """Show a finished stage of a builder, with the time that the builder reports."""
        if self.screen is None:
            self.info(f"  {name}  {how}{duration(seconds)}")
        else:
            self.info(f"{duration(seconds):>8}    stage {name}{', from the cache' if how else ''}")

    def task(
        self, title: str, total: int | None = None, *, unit: str = "", part: bool = False, quick: bool = False
    ) -> Task:
        """Return a task for a `with` block; `total` is its number of bytes (or `unit`s), None if it is unknown.

        A `part` of another task is shown on a terminal while it runs, and writes no lines. A `quick` task writes no
        line when it starts.
        """
        return Task(self, sanitize(title), total, unit, part, quick)

    def check_cancelled(self) -> None:
        """Raise CancelledWorkError if this is the progress of cancelled background work."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise CancelledWorkError

    def _line(self, line: str) -> None:
        if self.screen is None:
            self.write(line)
        else:
            self.screen.line(line)


@dataclass(slots=True, eq=False)
class Task:
    """A step of a build, from the start of its `with` block to the end. Made by `Progress.task`."""

    progress: Progress
    title: str
    total: int | None
    unit: str                             # what is counted: "" for bytes
    part: bool
    quick: bool = False
    done: int = 0
    began: float = 0.0                    # by time.monotonic
    parent: str = ""                      # title of the parent task
    open_titles: list[str] = field(default_factory=list)  # titles of the open tasks of the thread in which it started
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        """Add to the amount done; subtract (a negative count) before an attempt is repeated."""
        self.progress.check_cancelled()
        with self._guard:
            self.done += count

    def expect(self, count: int) -> None:
        """Add to the total; a negative count subtracts."""
        with self._guard:
            self.total = (self.total or 0) + count

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self.began

    def become_parent(self) -> None:
        """Become the parent of the tasks that start in this thread from now on."""
        self._open_titles().append(self.title)

    def _open_titles(self) -> list[str]:
        titles: list[str] = self.progress.thread_state.__dict__.setdefault("titles", [])
        return titles

    def __enter__(self) -> Self:
        self.begin()
        self.become_parent()
        self.open_titles = self._open_titles()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.open_titles.remove(self.title)  # the block may end in another thread than it started in
        self.end(failed=kind is not None)

    def begin(self) -> None:
        """Start the task without a `with` block: for a task without parts, or one that ends in another thread."""
        self.progress.check_cancelled()
        self.parent = (self._open_titles() or [""])[-1]
        self.began = time.monotonic()
        if self.progress.screen is not None:
            self.progress.screen.open(self)
        elif not self.quick:
            size = f" ({megabytes(self.total)})" if self.total and not self.unit else ""
            self._print(f"{self.title}{size}")

    def end(self, *, failed: bool = False) -> None:
        """End a task that was started by `begin`."""
        took = self.seconds
        if self.progress.screen is not None:
            self.progress.screen.close(self)
        if failed:
            return  # the error is shown instead
        if took >= LONG:
            self.progress.long_tasks.append((self.title, took, self.parent))
        moved = "" if self.unit or not self.done else megabytes(self.done)
        if self.progress.screen is not None:
            tick = self.progress.screen.tick
            self._print(f"{tick}{duration(took):>{8 - len(tick)}}  {self.title}{moved and f', {moved}'}")
        elif took >= LONG:
            self._print(f"{self.title}: {moved and f'{moved} in '}{duration(took)}")

    def _print(self, line: str) -> None:
        if not self.part:
            self.progress.info(line)


def no_progress(_count: int) -> None:
    """Ignore progress."""


@contextlib.contextmanager
def undo_on_failure(advance: Advance) -> Iterator[Advance]:
    """Yield a function that passes progress on to `advance`; if the block fails, subtract all of it again."""
    count = 0

    def report(more: int) -> None:
        nonlocal count
        count += more
        advance(more)

    try:
        yield report
    except BaseException:
        advance(-count)
        raise


def silent() -> Progress:
    """Return a Progress that shows nothing."""
    return Progress(lambda _line: None, -2)
