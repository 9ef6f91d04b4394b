"""What the user reads while a build runs: lines, by how much they asked to see, and tasks that take time."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from hatch_docker.core.terminal import Screen

Advance = Callable[[int], None]
"""Is told how much more is done."""

LONGEST = 2000  # characters of a line
LONG = 1.0  # seconds from which a plain line says how long a task took


def plain(text: str) -> str:
    """A text that a terminal only shows: names in archives, registries and builds may hold orders to it, or no end."""
    if text.isprintable() and len(text) <= LONGEST:
        return text
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
    return "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in shown.split("\n"))


def megabytes(size: int) -> str:
    """A number of bytes for people, in powers of ten."""
    if size < 1000:
        return counted(size, "byte")
    return f"{size / 1e6:.2f} MB" if size >= 1_000_000 else f"{size / 1e3:.2f} kB"


def counted(number: int, word: str) -> str:
    """A number of things: "1 file", "2 files"."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are: "a, b and 7 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent; what is there is never nothing: "<0.1 %"."""
    percent = 100 * part / whole if whole else 0.0
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """A time for people: "0.3 s", "42.0 s", "3 min 07 s"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where lines go. `verbosity` is hatch's: 0 by default, `-v` adds one, `-q` takes one away.

    On a terminal `screen` shows the tasks that run below the lines; elsewhere each is a line when it begins and, where
    it took long, one when it is done. Safe to use from several threads.
    """

    write: Callable[[str], None]
    verbosity: int = 0
    screen: Screen | None = None

    def info(self, line: str) -> None:
        """A step that takes time, a result: shown by default."""
        if self.verbosity >= 0:
            self._line(plain(line))

    def detail(self, line: str) -> None:
        """A guess and its reason, a cache hit, a program's output: shown with `-v`."""
        if self.verbosity >= 1:
            self._line(plain(line))

    def warn(self, line: str) -> None:
        """Something that the user should know whatever they asked to see, but for `-qq`."""
        if self.verbosity >= -1:
            self._line(plain(f"warning: {line}"))

    def stage(self, name: str, seconds: float, how: str = "") -> None:
        """A stage of somebody else's build is over, who says how long it took."""
        if self.screen is None:
            self.info(f"  {name}  {how}{duration(seconds)}")
        else:
            self.info(f"{duration(seconds):>8}    stage {name}{', from the cache' if how else ''}")

    def task(
        self, title: str, total: int | None = None, *, unit: str = "", part: bool = False, quick: bool = False
    ) -> Task:
        """A task to do in a `with` block; `total` is how many bytes (or `unit`s) it moves, None if nobody knows.

        A `part` of another task is shown on a terminal while it lasts, and has no line. One that is `quick` as a rule
        has one elsewhere only where it took long.
        """
        return Task(self, plain(title), total, unit, part, quick)

    def _line(self, line: str) -> None:
        if self.screen is None:
            self.write(line)
        else:
            self.screen.line(line)


@dataclass(slots=True, eq=False)
class Task:
    """Something that takes a while, from the beginning of its `with` block to the end. Made by `Progress.task`."""

    progress: Progress
    title: str
    total: int | None
    unit: str                             # what is counted: "" for bytes
    part: bool
    quick: bool = False
    done: int = 0
    began: float = 0.0                    # by time.monotonic
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        """So much more is done; less than nothing where an attempt is to be repeated."""
        with self._guard:
            self.done += count

    def expect(self, count: int) -> None:
        """So much more is to be done, or less, than was thought before."""
        with self._guard:
            self.total = (self.total or 0) + count

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.began

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        if self.progress.screen is not None:
            self.progress.screen.open(self)
        elif not self.quick:
            size = f" ({megabytes(self.total)})" if self.total and not self.unit else ""
            self._tell(f"{self.title}{size}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = self.seconds
        if self.progress.screen is not None:
            self.progress.screen.close(self)
        if kind is not None:
            return  # the error says what became of it
        moved = "" if self.unit or not self.done else megabytes(self.done)
        if self.progress.screen is not None:
            self._tell(f"{duration(took):>8}  {self.title}{moved and f', {moved}'}")
        elif took >= LONG:
            self._tell(f"{self.title}: {moved and f'{moved} in '}{duration(took)}")

    def _tell(self, line: str) -> None:
        if not self.part:
            self.progress.info(line)


def nobody(_count: int) -> None:
    """Nobody wants to know how far it is."""


@contextlib.contextmanager
def attempted(advance: Advance) -> Iterator[Advance]:
    """What is told of an attempt's progress; none of it counts where the attempt fails."""
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


def open_progress(write: Callable[[str], None], verbosity: int, environ: Mapping[str, str]) -> Progress:
    """The progress of a command: with a live display where standard error is a terminal that wants one."""
    if verbosity < 0 or not is_lively(sys.stderr, environ):
        return Progress(write, verbosity)
    from hatch_docker.core.terminal import Screen

    return Progress(write, verbosity, Screen(write))


def is_lively(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a stream is a terminal that can move its cursor, of somebody who wants to see it move.

    NO_COLOR (no-color.org), TERM=dumb and CI are taken for wishes to have plain lines.
    """
    if environ.get("NO_COLOR") or environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # it is closed, or something in its place
        return False


def silent() -> Progress:
    """A progress that shows nothing."""
    return Progress(lambda _line: None, -2)
