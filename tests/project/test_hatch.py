"""Hatchling's view of a project: which configurations run code of the project."""

import tomllib
from pathlib import Path

import pytest

from hatch_docker.project.hatch import runs_code


@pytest.mark.parametrize(("table", "expected"), [
    ("", False),
    ("[tool.hatch.version]\npath = 'a.py'", False),
    ("[tool.hatch.version]\nsource = 'regex'", False),
    ("[tool.hatch.version]\nsource = 'env'\nvariable = 'V'", False),
    ("[tool.hatch.version]\nsource = 'code'", True),
    ("[tool.hatch.version]\nsource = 'vcs'", True),
    ("[tool.hatch.metadata.hooks.custom]", True),
    ("[tool.hatch.metadata]\nallow-direct-references = true", False),
    ("[tool.hatch.build.hooks.custom]", False),
    ("[tool.hatch.build.targets.wheel.hooks.custom]", False),
    ("[tool.hatch.build.targets.sdist.hooks.custom]", True),
    ("[tool.hatch.build.targets.sdist.hooks.version]\npath = 'v.py'", False),
    ("[build-system]\nbuild-backend = 'hatchling.build'\nbackend-path = ['.']", True),
    ("[tool]\nhatch = 1", False),
])  # fmt: skip
def test_configurations_that_run_code(table: str, expected: bool, tmp_path: Path) -> None:
    """To read the metadata or to make the sdist; build hooks of the wheel run in the builder stage."""
    assert runs_code(tmp_path, tomllib.loads(table)) is expected
    if "tool.hatch." in table:
        (tmp_path / "hatch.toml").write_text(table.replace("tool.hatch.", ""))
        assert runs_code(tmp_path, {}) is expected
