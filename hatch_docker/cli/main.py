"""The entry point of `hatch-docker` and `python -m hatch_docker`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from hatch_docker import __version__
from hatch_docker.build.failures import documentation_url, friendly_errors, terminal_text
from hatch_docker.cli.commands import (
    build,
    clean,
    completion,
    doctor,
    init,
    inspect,
    load,
    lock,
    outdated,
    push,
    rebase,
    schema,
    verify,
)
from hatch_docker.cli.common import Commands, declare
from hatch_docker.cli.parser import Parser, command_advice, option_advice, show_error
from hatch_docker.core.errors import HatchDockerError

# In the order of `--help`.
GROUPS = {
    "make an image": (init, build, lock),
    "distribute an image": (load, push, rebase),
    "examine an image": (inspect, outdated, verify),
    "other commands": (doctor, clean, schema, completion),
}
EXAMPLES = (
    ("hatch-docker init", "show the lines that are missing, and add them"),
    ("hatch-docker build", "build the image, and load it into Docker or Podman"),
    ("hatch-docker build -t registry.example/shop:1.2 --push", "build and push"),
    ("hatch-docker inspect", "show what is in the image"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; print a HatchDockerError to standard error.

    Raises SystemExit with status 2 for an unknown command or option.
    """
    if "_ARGCOMPLETE" in os.environ:  # the shell requests completions
        import argcomplete

        argcomplete.autocomplete(make_parser()[0])
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with friendly_errors():
            status: int | None = options.run(options)
    except HatchDockerError as error:
        show_error(terminal_text(error), documentation_url(error))
        return error.exit_status
    return status or 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command. Ends the program for an unknown command or option, with a suggestion."""
    parser, commands = make_parser()
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    first = words[0].partition("=")[0]
    if first.startswith("-") and first not in ("-h", "--help", "--version"):
        _fail_before_command(parser, commands, first, words)
    if not first.startswith("-") and first not in commands.choices:
        parser.fail(f"unknown command: {first}", command_advice(first, commands.choices))
    options, rest = parser.parse_known_args(words)
    if rest:
        _fail_unknown(options.command, rest[0].partition("=")[0])
    return options


def _fail_before_command(parser: Parser, commands: Commands, option: str, words: Sequence[str]) -> None:
    """End the program for an option before the command, or without a command."""
    command = next((word for word in words if word in commands.choices), "")
    candidates = [name for name, other in commands.choices.items() if option in other.options()]
    if candidates:
        name = command if command in candidates else candidates[0]
        rest = list(words)
        if command:
            rest.remove(command)
        parser.fail(f"{option} must come after the command", f"hatch-docker {name} {shlex.join(rest)}")
    known = {*parser.options(), *(name for other in commands.choices.values() for name in other.options())}
    parser.fail(f"unknown option: {option}", option_advice(option, sorted(known)) or "`hatch-docker help` lists all")


def _fail_unknown(command: Parser, word: str) -> None:
    usage = f"`{command.prog} --help` shows what it takes"
    if not word.startswith("-"):
        command.fail(f"unexpected argument: {word}", usage)
    command.fail(f"unknown option: {word}", option_advice(word, command.options()) or usage)


def make_parser() -> tuple[Parser, Commands]:
    """Return the parser and its commands by name."""
    parser = Parser(
        "hatch-docker", usage="hatch-docker COMMAND [OPTIONS]",
        description="Build container images of Python projects, as `hatch build -t docker` does.",
        epilog="`hatch-docker help COMMAND` describes a command and its options.",
    )
    parser.add_argument("--version", action="version", version=f"hatch-docker {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="hatch-docker")
    sections = []
    for title, modules in GROUPS.items():
        before = set(commands.choices)
        for module in modules:
            module.add(commands)
        sections.append((title, [(name, command.summary) for name, command in commands.choices.items()
                                 if name not in before]))  # fmt: skip

    def show_help(options: argparse.Namespace) -> None:
        if options.name and options.name not in commands.choices:
            parser.fail(f"unknown command: {options.name}", command_advice(options.name, commands.choices))
        (commands.choices[options.name] if options.name else parser).print_help()

    described = declare(commands, "help", "describe a command, or list all", show_help)
    described.add_argument("name", nargs="?", metavar="COMMAND", help="default: a list of all")
    sections[-1][1].append(("help", described.summary))
    parser.sections, parser.examples = sections, EXAMPLES
    return parser, commands
