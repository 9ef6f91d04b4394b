"""The parser of the command line: help with groups and examples, errors with the command that helps."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from hatch_docker.core.terminal_lines import for_terminal

Row = tuple[str, str]
"""A command, or how it is typed, and a few words about it."""


def show_error(message: str, advice: str = "") -> None:
    """Write an error, which may have several lines, and a line of advice; colours and word wrap are for terminals."""
    with contextlib.suppress(OSError):  # in one file, the output stands before the error
        sys.stdout.flush()
    lines = [f"error: {message}", *([f"help: {advice}"] if advice else [])]
    for line in (line for text in lines for line in text.split("\n")):
        sys.stderr.write(for_terminal(line, sys.stderr, os.environ) + "\n")


class Parser(argparse.ArgumentParser):
    """A parser whose help has sections of rows before the options, and examples after them."""

    sections: Sequence[tuple[str, Sequence[Row]]] = ()
    examples: Sequence[Row] = ()
    summary: str = ""

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self._positionals.title = "arguments"
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, rows in self.sections:
            _add_section(formatter, title, rows)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)  # noqa: SLF001, as argparse does it
            formatter.end_section()
        _add_section(formatter, "examples", self.examples)
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def options(self) -> list[str]:
        """Return the options, as they are typed."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.fail(message, f"`{self.prog} --help` shows the options")

    def fail(self, message: str, advice: str) -> NoReturn:
        """End the program with status 2, an error and what to do."""
        show_error(message, advice)
        raise SystemExit(2)


def _add_section(formatter: argparse.HelpFormatter, title: str, rows: Iterable[Row]) -> None:
    formatter.start_section(title)
    formatter.add_arguments([argparse.Action([], "row", metavar=name, help=text) for name, text in rows])
    formatter.end_section()
