"""Size limits in a whole build: an image over a limit is not written; the error names the packages that grew."""

from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build, check_failed, edit, run_build
from tests.projects import write_project

pytestmark = pytest.mark.network


def test_image_over_max_growth_is_not_written(tmp_path: Path, cache: Path) -> None:
    """A large new dependency: exit status 1, its name in the error, the earlier archive unchanged."""
    project = write_project("extras-and-groups", tmp_path / "p")
    with FakeRegistry() as registry:
        variables = {"HATCH_DOCKER_IMAGE": f"{registry.host}/app", "HATCH_DOCKER_MAX_GROWTH": "200kB"}
        build(project, cache, verb="docker:push", variables=variables)
        first = build(project, cache, variables=variables).digest
        edit(project, '"idna>=3"', '"idna>=3", "pygments"')
        over_limit = run_build(project, cache, variables=variables)
        check_failed(over_limit, f"since {registry.host}/app:latest, and tool.hatch-docker.max-growth is 200.00 kB")
        assert "pygments" in over_limit.output.partition("max-growth")[2]
        assert "Traceback" not in over_limit.output
        assert over_limit.digest == first
        within_limit = build(project, cache, variables={**variables, "HATCH_DOCKER_MAX_GROWTH": "50%"})
        assert within_limit.digest != first
    over_limit = run_build(project, cache, variables={"HATCH_DOCKER_MAX_SIZE": "19MB"})
    assert "tool.hatch-docker.max-size is 19.00 MB" in over_limit.output
