"""Formatting of lines for a terminal: wrapped at its width, and coloured by their start."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping
from typing import TextIO

NARROW = 60  # columns; a narrower terminal shows little more than titles
TICK = "\N{CHECK MARK}"
# SGR codes by the starts of lines.
STYLES = (
    (re.compile(r"error:"), "1;31"), (re.compile(r"help:"), "1;36"), (re.compile(r"warning:"), "1;33"),
    (re.compile(r"  total .*"), "1"), (re.compile(r"ok(?=  )"), "32"), (re.compile(r"!!(?=  )"), "1;31"),
    (re.compile(TICK), "32"),
)  # fmt: skip


def for_terminal(line: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return a line wrapped and coloured for a terminal, unchanged for another stream."""
    wrapped = wrap(line, stream)
    return paint(wrapped) if has_colors(stream, environ) else wrapped


def paint(line: str) -> str:
    """Return a line with its start coloured if it matches one of STYLES. The terminal's theme defines the colours."""
    for style, code in STYLES:
        if match := style.match(line):
            return f"\x1b[{code}m{match[0]}\x1b[0m{line[match.end():]}"
    return line


def wrap(line: str, stream: TextIO) -> str:
    """Return a line wrapped between words at the width of the terminal, unchanged for another stream.

    Indented lines (tables and commands) are not wrapped.
    """
    if not _is_terminal(stream) or line[:1].isspace():
        return line
    columns = shutil.get_terminal_size().columns
    hanging = " " * (len(line.partition(": ")[0]) + 2) if line.startswith(("error: ", "help: ", "warning: ")) else ""
    return textwrap.fill(
        line, max(columns, NARROW) - 1, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False,
        expand_tabs=False, replace_whitespace=False,
    )  # fmt: skip


def is_lively(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal on which a live display can be shown.

    NO_COLOR (no-color.org), TERM=dumb and CI turn it off.
    """
    return environ.get("CI", "").lower() in ("", "0", "false") and has_colors(stream, environ)


def has_colors(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal with colours, and NO_COLOR is not set."""
    wanted = not environ.get("NO_COLOR") and environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return wanted and _is_terminal(stream)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a closed or replaced stream
        return False
