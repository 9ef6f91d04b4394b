"""What the user reads while a build runs: plain lines, by how much they asked to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where lines go. `verbosity` is hatch's: 0 by default, `-v` adds one, `-q` takes one away."""

    write: Callable[[str], None]
    verbosity: int = 0

    def info(self, line: str) -> None:
        """A step that takes time, a result: shown by default."""
        if self.verbosity >= 0:
            self.write(line)

    def detail(self, line: str) -> None:
        """A guess and its reason, a cache hit, a program's output: shown with `-v`."""
        if self.verbosity >= 1:
            self.write(line)

    def warn(self, line: str) -> None:
        """Something that the user should know whatever they asked to see, but for `-qq`."""
        if self.verbosity >= -1:
            self.write(f"warning: {line}")


def silent() -> Progress:
    """A progress that shows nothing."""
    return Progress(lambda _line: None, -2)
