"""Options in wrong tables of pyproject.toml and hatch.toml."""

import inspect
import re
from pathlib import Path

import pytest
from hatchling.builders.config import BuilderConfig

from hatch_docker.config.load import TARGET_KEYS, load_config
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import table

GOOD = '[tool.hatch-docker]\nbase = "debian:trixie"\n'


def error_lines(root: Path, pyproject: str, hatch: str = "") -> list[str]:
    (root / "pyproject.toml").write_text(GOOD + pyproject)
    if hatch:
        (root / "hatch.toml").write_text(hatch)
    try:
        load_config(table(GOOD), {}, root / "pyproject.toml")
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("name", [
    "tool.docker", "tool.hatch.docker", "tool.hatch_docker", "tool.hatchdocker", "tool.hatch.hatch-docker",
    "hatch-docker", "tool.Hatch-Docker",
])  # fmt: skip
def test_wrong_table_name_is_reported(name: str, tmp_path: Path) -> None:
    message = f"pyproject.toml:4: {name}: is not read here; the table is [tool.hatch-docker]"
    assert error_lines(tmp_path, f'\n[{name}]\nbase = "python:3.13"\n') == [message]


def test_options_in_the_target_table_are_reported(tmp_path: Path) -> None:
    """hatchling's own keys of a target are accepted."""
    target = "[tool.hatch.build.targets.docker]\ndependencies = []\nimage = 'x'\nprots = [80]\n"
    assert error_lines(tmp_path, target) == [
        "pyproject.toml:5: tool.hatch.build.targets.docker.image: is not read here; move it to [tool.hatch-docker]",
        "pyproject.toml:6: tool.hatch.build.targets.docker.prots: is not read here; move it to [tool.hatch-docker]",
    ]


def test_options_in_hatch_toml_are_reported(tmp_path: Path) -> None:
    hatch = "[docker]\nimage = 'x'\n[hatch-docker]\n[tool.hatch-docker]\n\n\n[build.targets.docker]\ntags = []\n"
    where = "is not read here; the table is [tool.hatch-docker] of pyproject.toml"
    assert error_lines(tmp_path, "[tool.docker]\nimage = 'x'\n", hatch) == [
        "pyproject.toml:3: tool.docker: is not read here; the table is [tool.hatch-docker]",
        f"hatch.toml:1: docker: {where}",
        f"hatch.toml:3: hatch-docker: {where}",
        f"hatch.toml:4: tool.hatch-docker: {where}",
        "hatch.toml:8: build.targets.docker.tags: is not read here; move it to [tool.hatch-docker] of pyproject.toml",
    ]


@pytest.mark.parametrize(("pyproject", "hatch"), [
    ("[tool.hatch.build.targets.docker]\n" + "\n".join(f"{key} = 1" for key in sorted(TARGET_KEYS)), ""),
    ("[tool.docker]\nregistry-mirror-of-another-tool = 1\n[tool.hatch.envs.docker]\n", "[envs.docker]\n"),
    ("", "[[["),
    ("[tool]\nhatch = 3", "build = 3"),
    ("[tool.hatch]\nbuild.targets.docker = 3", "docker = 3"),
])  # fmt: skip
def test_tables_of_other_programs_are_accepted(pyproject: str, hatch: str, tmp_path: Path) -> None:
    assert error_lines(tmp_path, pyproject, hatch) == []


def test_target_keys_equal_those_of_hatchling() -> None:
    source = inspect.getsource(BuilderConfig)
    keys = re.findall(r'target_config(?:\.get\(|\[)"([a-z-]+)"|"([a-z-]+)" in self\.target_config', source)
    assert {key for pair in keys for key in pair if key} == TARGET_KEYS
