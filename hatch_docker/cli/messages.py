"""Errors on standard error: what failed, and what to do."""

import contextlib
import os
import sys

from hatch_docker.core.terminal_lines import for_terminal


def show_error(message: str, advice: str = "") -> None:
    """Write an error, which may have several lines, and a line of advice; colours and word wrap are for terminals."""
    with contextlib.suppress(OSError):  # in one file, the output stands before the error
        sys.stdout.flush()
    lines = [f"error: {message}", *([f"help: {advice}"] if advice else [])]
    for line in (line for text in lines for line in text.split("\n")):
        sys.stderr.write(for_terminal(line, sys.stderr, os.environ) + "\n")
