"""The recorded inputs of a build with several images that build the wheel differently."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from hatch_docker.build.inputs import sources_of
from hatch_docker.build.unchanged import NotRememberable
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from tests.projects import write_files

HOOKED = "[project]\nname = 'a'\nversion = '1'\n[tool.hatch.build.targets.wheel.hooks.custom]\n"


@pytest.mark.parametrize(("isolated", "known"), [([True], True), ([False], False), ([True, False], False)])
def test_no_record_if_a_hook_runs_outside_the_sandbox(isolated: list[bool], known: bool, tmp_path: Path) -> None:
    root = write_files(tmp_path, {"pyproject.toml": HOOKED, "hatch_build.py": "", "a.py": ""})
    project = hatchling_project(open_hatchling(root), root)
    plans = [SimpleNamespace(build=SimpleNamespace(isolated=value)) for value in isolated]
    if known:
        assert sources_of(project, plans).top == root  # type: ignore[arg-type]
        return
    with pytest.raises(NotRememberable, match="code of the project"):
        sources_of(project, plans)  # type: ignore[arg-type]
