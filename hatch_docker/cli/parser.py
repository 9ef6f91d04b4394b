"""The parser of the command line: help with groups and examples, errors with suggestions."""

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from hatch_docker.core.terminal_lines import for_terminal

Row = tuple[str, str]
"""A command, or a command line, and a short description."""

# Words that users of other tools may type, by our command for the same purpose.
COMMANDS = {
    "build": "image make bake package",
    "init": "new create setup start quickstart",
    "build --watch --run": "run dev serve up",
    "build --watch": "watch",
    "build --push": "release deploy",
    "dockerfile": "generate export render",
    "lock": "pin freeze",
    "lock --upgrade": "update upgrade",
    "push": "publish upload",
    "load": "import",
    "inspect": "show ls list images sbom dive history",
    "why": "tree depends",
    "diff": "compare",
    "outdated": "stale fresh scan audit",
    "verify-signature": "cosign",
    "doctor": "check info status test",
    "clean": "prune rm purge cache",
    "schema": "config options",
    "completion": "completions autocomplete",
    "--version": "version",
}
_SYNONYMS = {word: command for command, words in COMMANDS.items() for word in words.split()}

# Advice on options of other tools for which there is no option with a similar name.
_ADVICE = {
    **dict.fromkeys(("-f", "--file"), "a build needs no Dockerfile; `hatch-docker dockerfile` writes one"),
    "--pull": "HATCH_DOCKER_REFRESH=1 asks the registry for the base again",
    **dict.fromkeys(("-n", "--name"), "did you mean --image?"),
    "--from": "did you mean --base?",
    **dict.fromkeys(("--dest", "--outdir", "-d"), "did you mean --output?"),
    **dict.fromkeys(("--force", "--no-caches", "--fresh"), "did you mean --no-cache?"),
    **dict.fromkeys(("--arch", "--target-platform"), "did you mean --platform?"),
}  # fmt: skip


def show_error(message: str, advice: str = "") -> None:
    """Print an error of one or more lines, and a line of advice; on a terminal with colours and word wrap."""
    with contextlib.suppress(OSError):  # if both streams go to one file, the output comes before the error
        sys.stdout.flush()
    lines = [f"error: {message}", *([f"help: {advice}"] if advice else [])]
    for line in (line for text in lines for line in text.split("\n")):
        sys.stderr.write(for_terminal(line, sys.stderr, os.environ) + "\n")


class Parser(argparse.ArgumentParser):
    """A parser whose help also has sections of commands, before the options, and examples, after them."""

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
            formatter.add_arguments(group._group_actions)  # noqa: SLF001, like the overridden method
            formatter.end_section()
        _add_section(formatter, "examples", self.examples)
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def options(self) -> list[str]:
        """Return all spellings of the options: "-o", "--output"."""
        return [name for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.fail(message, f"`{self.prog} --help` shows the options")

    def fail(self, message: str, advice: str) -> NoReturn:
        """Print an error and advice, and end the program with status 2."""
        show_error(message, advice)
        raise SystemExit(2)


def _add_section(formatter: argparse.HelpFormatter, title: str, rows: Iterable[Row]) -> None:
    formatter.start_section(title)
    formatter.add_arguments([argparse.Action([], "row", metavar=name, help=text) for name, text in rows])
    formatter.end_section()


def most_similar(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the name in `known` that is most similar to a word, "" if none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), "")


def command_advice(word: str, known: Iterable[str]) -> str:
    """Return advice on an unknown command. `known`: all commands."""
    words = {**_SYNONYMS, **{name: name for name in known}}
    similar = most_similar(word.lower(), words) if len(word) > 2 else ""  # two letters are similar to everything
    meant = words.get(word.lower()) or words.get(similar, "")
    lists = "`hatch-docker help` lists all commands"
    return f"did you mean `hatch-docker {meant}`? {lists}" if meant else lists


def option_advice(word: str, known: Iterable[str]) -> str:
    """Return advice on an unknown option, "" if there is none. `known`: the options of the command.

    Also suggests options of [tool.hatch-docker]; their names need the import of pydantic.
    """
    if word in _ADVICE:
        return _ADVICE[word]
    if meant := most_similar(word, known, 0.75):
        return f"did you mean {meant}?"
    if not word.startswith("--"):
        return ""
    from hatch_docker.config.suggest import suggest_options

    for name in (word[2:], f"{word[2:]}s"):
        if names := suggest_options(name):
            variable = "HATCH_DOCKER_" + names[0].replace(".", "_").replace("-", "_").upper()
            return f"`{names[0]}` is an option of [tool.hatch-docker]; {variable} sets it for one run"
    return ""
