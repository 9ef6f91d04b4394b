"""`hatch-docker completion`: print the shell code that completes commands and options."""

import argparse

from hatch_docker.cli.common import Commands, declare

FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/hatch-docker.fish"}


def add(commands: Commands) -> None:
    """Declare the command."""
    examples = [
        ('eval "$(hatch-docker completion bash)"', f"in {FILES['bash']}; zsh and {FILES['zsh']} in the same way"),
        (f"hatch-docker completion fish > {FILES['fish']}", "for fish, once"),
    ]
    summary = "print the code that completes commands and options in a shell"
    completion = declare(commands, "completion", summary, run, examples=examples)
    completion.add_argument("shell", choices=tuple(FILES), metavar="SHELL", help="bash, zsh or fish")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["hatch-docker"], shell=options.shell))
