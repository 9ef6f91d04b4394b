"""Mistakes in `[tool.hatch-docker]` and in its variables: the exact message of each, all of them at once.

A case of mistakes.txt is `$ VARIABLE=value`, then the lines below [tool.hatch-docker], then `> ` and the message.
"""

import tomllib
from pathlib import Path

import pytest

from hatch_docker.config.load import load_configs
from hatch_docker.core.errors import ConfigError

CASES = Path(__file__).with_name("mistakes.txt").read_text("utf-8").strip().split("\n\n")


def test_there_are_many() -> None:
    assert len(CASES) > 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.partition("\n")[0])
def test_mistakes_are_told_all_at_once(case: str, tmp_path: Path) -> None:
    """Each with the line, the path, what is allowed, and the value."""
    lines = case.splitlines()
    environ = dict(line[2:].split("=", 1) for line in lines if line.startswith("$ "))
    toml = "\n".join(line for line in lines if not line.startswith(("$ ", "> ")))
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[tool.hatch-docker]\n{toml}\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_configs(tomllib.loads(path.read_text("utf-8"))["tool"]["hatch-docker"], environ, path)
    assert str(caught.value).splitlines() == [line[2:] for line in lines if line.startswith("> ")]
