"""Progress for the user while a build runs: lines, by verbosity, and tasks that take time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

from hatch_docker.core.text import duration, megabytes, sanitize

Advance = Callable[[int], None]
"""Is told how much more is done."""

LONG = 1.0  # seconds from which a plain line, and the receipt, says how long a task took


LongTask = tuple[str, float, str]
"""A task that took LONG or more: its title, its seconds, and the title of the task around it, "" if there is none."""


class UnwantedError(BaseException):
    """The end of work whose result is no longer wanted; no retry and no warning follows."""


class Display(Protocol):
    """A live view of the tasks that run; the terminal's is in terminal.py."""

    @property
    def tick(self) -> str:
        """A mark of one column for a task that is done, or ""."""

    def line(self, text: str, /) -> None:
        """Write a line that stays, above the tasks."""

    def open(self, task: Task, /) -> None:
        """Show a task, which begins."""

    def close(self, task: Task, /) -> None:
        """Remove a task, which is over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The user's view of a build. `verbosity` is hatch's: 0 by default, `-v` adds one, `-q` subtracts one.

    On a terminal `screen` shows the running tasks below the lines; elsewhere a task is a line when it begins and, if it
    took long, one when it ends. Safe to use from several threads.
    """

    write: Callable[[str], None]
    verbosity: int = 0
    screen: Display | None = None
    warnings: list[str] = field(default_factory=list, repr=False, compare=False)  # shown or not
    long: list[LongTask] = field(default_factory=list, repr=False, compare=False)
    ended: threading.Event | None = None  # of work beside: set once its result is not wanted, which ends its tasks
    held: list[str] | None = None         # of work beside: its warnings, until its result is taken
    running: threading.local = field(default_factory=threading.local, repr=False, compare=False)  # see Task.adopt

    def info(self, line: str) -> None:
        """Show a step that takes time, or a result: shown by default."""
        if self.verbosity >= 0:
            self._line(sanitize(line))

    def detail(self, line: str) -> None:
        """Show a guess and its reason, a cache hit, or a program's output: shown with `-v`."""
        if self.verbosity >= 1:
            self._line(sanitize(line))

    def warn(self, line: str) -> None:
        """Show something that the user should know at any verbosity except `-qq`."""
        if self.held is not None:
            self.held.append(line)
            return
        self.warnings.append(line)
        if self.verbosity >= -1:
            self._line(sanitize(f"warning: {line}"))

    def stage(self, name: str, seconds: float, how: str = "") -> None:
        """Show that a builder finished a stage, and its time as the builder reports it."""
        if self.screen is None:
            self.info(f"  {name}  {how}{duration(seconds)}")
        else:
            self.info(f"{duration(seconds):>8}    stage {name}{', from the cache' if how else ''}")

    def task(
        self, title: str, total: int | None = None, *, unit: str = "", part: bool = False, quick: bool = False
    ) -> Task:
        """Return a task for a `with` block; `total` is its number of bytes (or `unit`s), None if unknown.

        A `part` of another task is shown on a terminal while it lasts, and has no line. A task that is usually `quick`
        has a line elsewhere only if it took long.
        """
        return Task(self, sanitize(title), total, unit, part, quick)

    def check_wanted(self) -> None:
        """Raise UnwantedError in work beside whose result is no longer wanted."""
        if self.ended is not None and self.ended.is_set():
            raise UnwantedError

    def _line(self, line: str) -> None:
        if self.screen is None:
            self.write(line)
        else:
            self.screen.line(line)


@dataclass(slots=True, eq=False)
class Task:
    """A step that takes time, from the start of its `with` block to the end. Made by `Progress.task`."""

    progress: Progress
    title: str
    total: int | None
    unit: str                             # what is counted: "" for bytes
    part: bool
    quick: bool = False
    done: int = 0
    began: float = 0.0                    # by time.monotonic
    within: str = ""                      # the title of the task around it
    beside: list[str] = field(default_factory=list)  # titles of the tasks around those that begin in its thread
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        """Add to what is done; a negative count takes back an attempt that will be repeated."""
        self.progress.check_wanted()
        with self._guard:
            self.done += count

    def expect(self, count: int) -> None:
        """Add to the total, or subtract from it."""
        with self._guard:
            self.total = (self.total or 0) + count

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self.began

    def adopt(self) -> None:
        """Count as the task around those that begin in this thread from now on."""
        self._around().append(self.title)

    def _around(self) -> list[str]:
        titles: list[str] = self.progress.running.__dict__.setdefault("titles", [])
        return titles

    def __enter__(self) -> Self:
        self.begin()
        self.adopt()
        self.beside = self._around()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.beside.remove(self.title)  # of the thread in which it began: the last download ends its block in another
        self.end(failed=kind is not None)

    def begin(self) -> None:
        """Begin without a `with` block, for a task without parts, or one that ends in another thread."""
        self.progress.check_wanted()
        self.within = (self._around() or [""])[-1]
        self.began = time.monotonic()
        if self.progress.screen is not None:
            self.progress.screen.open(self)
        elif not self.quick:
            size = f" ({megabytes(self.total)})" if self.total and not self.unit else ""
            self._tell(f"{self.title}{size}")

    def end(self, *, failed: bool = False) -> None:
        """End it; without a `with` block."""
        took = self.seconds
        if self.progress.screen is not None:
            self.progress.screen.close(self)
        if failed:
            return  # the error says what became of it
        if took >= LONG:
            self.progress.long.append((self.title, took, self.within))
        moved = "" if self.unit or not self.done else megabytes(self.done)
        if self.progress.screen is not None:
            tick = self.progress.screen.tick
            self._tell(f"{tick}{duration(took):>{8 - len(tick)}}  {self.title}{moved and f', {moved}'}")
        elif took >= LONG:
            self._tell(f"{self.title}: {moved and f'{moved} in '}{duration(took)}")

    def _tell(self, line: str) -> None:
        if not self.part:
            self.progress.info(line)


def no_progress(_count: int) -> None:
    """Ignore progress."""


@contextlib.contextmanager
def undone_on_failure(advance: Advance) -> Iterator[Advance]:
    """Yield a function that reports progress; all that it reported is taken back if the block fails."""
    count = 0

    def tell(more: int) -> None:
        nonlocal count
        count += more
        advance(more)

    try:
        yield tell
    except BaseException:
        advance(-count)
        raise


def silent() -> Progress:
    """Return a progress that shows nothing."""
    return Progress(lambda _line: None, -2)
