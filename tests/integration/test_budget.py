"""A budget in a whole build: nothing is written over one, and what grew is named."""

from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build, check_failed, edit, run_build
from tests.projects import write_project

pytestmark = pytest.mark.network


def test_what_grew_since_the_last_push_is_named(tmp_path: Path, cache: Path) -> None:
    """A new dependency over the budget: status 1, one name, and the archive of before; within it all is well."""
    project = write_project("extras-and-groups", tmp_path / "p")
    with FakeRegistry() as registry:
        variables = {"HATCH_DOCKER_IMAGE": f"{registry.host}/app", "HATCH_DOCKER_MAX_GROWTH": "200kB"}
        build(project, cache, verb="docker:push", variables=variables)
        first = build(project, cache, variables=variables).digest
        edit(project, '"idna>=3"', '"idna>=3", "pygments"')
        over = run_build(project, cache, variables=variables)
        check_failed(over, f"since {registry.host}/app:latest, and tool.hatch-docker.max-growth is 200.00 kB")
        assert "pygments" in over.output.partition("max-growth")[2]
        assert "Traceback" not in over.output
        assert over.digest == first
        within = build(project, cache, variables={**variables, "HATCH_DOCKER_MAX_GROWTH": "50%"})
        assert within.digest != first
    over = run_build(project, cache, variables={"HATCH_DOCKER_MAX_SIZE": "19MB"})
    assert "tool.hatch-docker.max-size is 19.00 MB" in over.output
