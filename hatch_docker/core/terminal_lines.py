"""Lines as a terminal shows them: wrapped at its width, with the colours of their kinds."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping
from typing import TextIO

NARROW = 60  # columns below which there is room for titles and little else
TICK = "\N{CHECK MARK}"
# Colours of a terminal by the kinds of lines.
STYLES = (
    (re.compile(r"error:"), "1;31"), (re.compile(r"help:"), "1;36"), (re.compile(r"warning:"), "1;33"),
    (re.compile(r"  total .*"), "1"), (re.compile(r"ok(?=  )"), "32"), (re.compile(r"!!(?=  )"), "1;31"),
    (re.compile(TICK), "32"),
)  # fmt: skip


def for_terminal(line: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return a line as a terminal shows it, with colours and wrapped; unchanged for another stream."""
    wrapped = wrap(line, stream)
    return paint(wrapped) if has_colors(stream, environ) else wrapped


def paint(line: str) -> str:
    """Return a line with the colours of its kind, those of the terminal's theme."""
    for style, code in STYLES:
        if match := style.match(line):
            return f"\x1b[{code}m{match[0]}\x1b[0m{line[match.end():]}"
    return line


def wrap(line: str, stream: TextIO) -> str:
    """Return a line that is wrapped between words at the width of a terminal; unchanged for another stream.

    Indented lines hold tables and commands, and stay as they are.
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
    """Return whether a stream is a terminal that can move its cursor, and its user wants that.

    NO_COLOR (no-color.org), TERM=dumb and CI count as wishes for plain lines.
    """
    return environ.get("CI", "").lower() in ("", "0", "false") and has_colors(stream, environ)


def has_colors(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal with colours, and its user wants them."""
    wanted = not environ.get("NO_COLOR") and environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return wanted and _is_terminal(stream)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # it is closed or replaced
        return False
