"""The commands of `hatch-docker` behave alike: they tell what they do, take the same words, and fail in a line."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.cli import _parser, main
from hatch_docker.verbs import verbosity

(COMMANDS,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
OF_PROJECTS = {"build", "plan", "dockerfile", "lock", "rebase", "verify", "init", "doctor"}
OF_IMAGES = {"inspect", "why", "diff"}
SPEAKING = {"build", "plan", "dockerfile", "lock", "load", "rebase", "push", "verify"}


def test_the_commands_are_all_there() -> None:
    assert set(COMMANDS.choices) == OF_PROJECTS | OF_IMAGES | SPEAKING | {"verify-signature", "clean", "schema"}


@pytest.mark.parametrize("name", sorted(COMMANDS.choices))
def test_help(name: str) -> None:
    """A sentence of what it does, and one of each argument; names of values in capitals."""
    command = COMMANDS.choices[name]
    assert command.description
    assert command.description[0].isupper() and command.description.endswith(".")
    for action in command._actions:
        assert action.help, action.dest
        assert action.choices or action.metavar is None or str(action.metavar).isupper(), action.dest
        assert action.option_strings or str(action.metavar).isupper(), action.dest
    options = set(command._option_string_actions)
    assert ({"-v", "--verbose", "-q", "--quiet"} <= options) is (name in SPEAKING)
    assert ({"--json", "--platform"} <= options) is (name in OF_IMAGES)


def test_both_names_are_the_same_program() -> None:
    for words in (["--help"], ["build", "--help"], ["--version"]):
        told = {
            subprocess.check_output([*program, *words], text=True, env={**os.environ, "COLUMNS": "80"})
            for program in ([str(Path(sys.executable).parent / "hatch-docker")], [sys.executable, "-m", "hatch_docker"])
        }
        assert len(told) == 1


@pytest.mark.parametrize("name", sorted(OF_PROJECTS))
@pytest.mark.parametrize(("place", "told"), [("none", "is no directory"), (".", "there is no pyproject.toml")])
def test_no_project_is_one_line(
    name: str, place: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (name, place) in (("init", "."), ("doctor", ".")):
        pytest.skip("tells what it finds there")
    monkeypatch.chdir(tmp_path)
    for variable in ("HATCH_VERBOSE", "HATCH_QUIET"):
        monkeypatch.setenv(variable, "")
    assert main([name, *(["--project"] if name in ("rebase", "verify") else []), place]) == 1
    said = capsys.readouterr().err
    assert said.startswith("hatch-docker: ")
    assert told in said
    assert said.count("\n") == 1


def test_words_add_up_to_hatchs_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hatchling starts is told as much; a variable that is no number counts as none."""
    monkeypatch.setenv("HATCH_VERBOSE", "1")
    monkeypatch.setenv("HATCH_QUIET", "much")
    assert verbosity(_parser().parse_args(["push", "-v"])) == 2
    assert (os.environ["HATCH_VERBOSE"], os.environ["HATCH_QUIET"]) == ("2", "0")
    assert verbosity(_parser().parse_args(["build", "-qqq"])) == -1
