"""What the user reads while a build runs: plain lines, by how much they asked to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 2000  # characters of a line


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
    return f"{size / 1e6:.2f} MB" if size >= 1_000_000 else f"{size / 1e3:.2f} kB"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where lines go. `verbosity` is hatch's: 0 by default, `-v` adds one, `-q` takes one away."""

    write: Callable[[str], None]
    verbosity: int = 0

    def info(self, line: str) -> None:
        """A step that takes time, a result: shown by default."""
        if self.verbosity >= 0:
            self.write(plain(line))

    def detail(self, line: str) -> None:
        """A guess and its reason, a cache hit, a program's output: shown with `-v`."""
        if self.verbosity >= 1:
            self.write(plain(line))

    def warn(self, line: str) -> None:
        """Something that the user should know whatever they asked to see, but for `-qq`."""
        if self.verbosity >= -1:
            self.write(plain(f"warning: {line}"))


def silent() -> Progress:
    """A progress that shows nothing."""
    return Progress(lambda _line: None, -2)
