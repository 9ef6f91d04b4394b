"""Exact messages for mistakes in `[tool.hatch-docker]` and in its variables.

A case of mistakes.txt: lines `$ VARIABLE=value`, lines of the table [tool.hatch-docker], and `> ` with each message.
"""

import tomllib
from pathlib import Path

import pytest

from hatch_docker.config.load import load_configs
from hatch_docker.core.errors import ConfigError

CASES = Path(__file__).with_name("mistakes.txt").read_text("utf-8").strip().split("\n\n")


def test_number_of_cases() -> None:
    assert len(CASES) > 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.partition("\n")[0])
def test_all_mistakes_are_reported_together(case: str, tmp_path: Path) -> None:
    lines = case.splitlines()
    environ = dict(line[2:].split("=", 1) for line in lines if line.startswith("$ "))
    toml = "\n".join(line for line in lines if not line.startswith(("$ ", "> ")))
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[tool.hatch-docker]\n{toml}\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_configs(tomllib.loads(path.read_text("utf-8"))["tool"]["hatch-docker"], environ, path)
    assert str(caught.value).splitlines() == [line[2:] for line in lines if line.startswith("> ")]
