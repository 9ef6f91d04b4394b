"""Text for people: sizes, durations, percentages, lists of names, and text that is safe to print."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 2000  # most characters of a line


def sanitize(text: str) -> str:
    """Return a text with control characters escaped and long lines cut: names in archives may contain anything."""
    if text.isprintable() and len(text) <= LONGEST:
        return text
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
    return "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}..." for line in shown.split("\n"))


def megabytes(size: int) -> str:
    """Return a size for people, in powers of ten: "1 byte", "1.50 kB", "2.00 MB"."""
    if size < 1000:
        return plural(size, "byte")
    return f"{size / 1e6:.2f} MB" if size >= 1_000_000 else f"{size / 1e3:.2f} kB"


def plural(number: int, word: str) -> str:
    """Return a number with a noun: "1 file", "2 files"."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def abbreviate(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names and the number of the others: "a, b, c and 7 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def percentage(part: int, whole: int) -> str:
    """Return a percentage: "12.3 %", and "<0.1 %" for a part that would be rounded to zero."""
    percent = 100 * part / whole if whole else 0.0
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """Return a duration for people: "0.3 s", "42.0 s", "3 min 07 s"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
