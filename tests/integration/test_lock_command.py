"""`hatch-docker lock`: the content of hatch-docker.lock, builds with it, and errors when it is out of date."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.package_index import FakeIndex, make_wheel
from tests.integration.builds import build, edit, lock_of, output_of, run_build, run_command
from tests.projects import write_project
from tests.renovate import found_by_renovate, pins_for_renovate

pytestmark = pytest.mark.network


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    """Start an index that has "plain" 1.0."""
    fake = FakeIndex()
    fake.add("plain", make_wheel("plain", "1.0"))
    with fake.serving() as serving:
        yield serving


def index_variables(serving: FakeIndex) -> dict[str, str]:
    """Return the variables that add an index to the user's index, which has the build backends."""
    return {"UV_INDEX": serving.url, "UV_INDEX_STRATEGY": "unsafe-best-match", "no_proxy": "*", "NO_PROXY": "*"}


def test_locked_version_stays_after_a_new_release(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    """The digest stays the same until `lock --upgrade`; `outdated` reports the release. Renovate finds every pin."""
    project = write_project("hello", tmp_path / "p")
    edit(project, 'requires-python = ">=3.11"', 'requires-python = ">=3.11"\ndependencies = ["plain"]')
    variables = index_variables(index)
    output_of(project, cache, "lock", **variables)
    first = build(project, cache, variables=variables).digest
    index.add("plain", make_wheel("plain", "1.1"))
    outdated = run_command(project, cache, "outdated", "--exit-code", **variables)
    assert outdated.status == 1
    assert re.search(r"^Python 3\.13\S+ +plain +1\.0 +1\.1 +newer$", outdated.output, re.MULTILINE), outdated.output
    text = (project / "hatch-docker.lock").read_text("utf-8")
    assert found_by_renovate(text, "hatch-docker.lock") == pins_for_renovate(text) != []
    index.requests.clear()
    refresh = {**variables, "HATCH_DOCKER_REFRESH": "1"}
    assert build(project, cache, variables=refresh).digest == first
    assert "nothing changes" in output_of(project, cache, "lock", **variables)
    assert index.paths("/simple/") == []
    assert ": plain 1.0 -> 1.1\n" in output_of(project, cache, "lock", "--upgrade", **variables)
    newer = build(project, cache, variables=variables)
    assert newer.digest != first
    assert ["plain 1.1"] in [layer["contents"] for layer in newer.layers]


def test_outdated_lock_fails_build_and_check(tmp_path: Path, cache: Path) -> None:
    """After an edit of `runtime.packages` the error names the option and the command; `lock` then adds the packages."""
    project = write_project("hello", tmp_path / "p")
    assert run_command(project, cache, "lock", "--check").output.strip().endswith("run `hatch-docker lock`")
    output_of(project, cache, "lock")
    output_of(project, cache, "lock", "--check")
    table = '[tool.hatch-docker.runtime]\npackages = ["zlib1g", "libgomp1"]\n'
    edit(project, "[tool.hatch-docker]", f"{table}[tool.hatch-docker]")
    for found in (run_build(project, cache).output, run_command(project, cache, "lock", "--check").output):
        assert "hatch-docker.lock is out of date: it has nothing for runtime.packages" in found
        assert re.search("run `.*hatch.docker lock`", found)
        assert "Traceback" not in found
    before = lock_of(project)
    output_of(project, cache, "lock")
    after = lock_of(project)
    assert [entry for entry in after["debian"] if entry["for"] == "base"] == before["debian"]
    (runtime,) = [entry for entry in after["debian"] if entry["for"] == "runtime"]
    assert [package["name"] for package in runtime["packages"]] == ["libgomp1"]  # zlib1g is in the base
    build(project, cache)
    assert build(project, cache, variables={"HATCH_DOCKER_PINS": "none"}).status == 0


def test_lock_contains_compiler_and_build_requirements(tmp_path: Path, cache: Path) -> None:
    """Writing the lock does not make the project compile again."""
    project = write_project("c-extension", tmp_path / "p")
    first = build(project, cache).digest
    output_of(project, cache, "lock")
    entries = lock_of(project)
    assert {entry["for"] for entry in entries["debian"]} == {"base", "builder"}
    names = {file["name"] for entry in entries["requirements"] for file in entry["files"]}
    assert "hatchling" in names
    again = build(project, cache)
    assert again.digest == first
    assert again.new_layers() == []
    output_of(project, cache, "lock", "--check")


def test_lock_for_two_platforms(tmp_path: Path, cache: Path) -> None:
    """`lock` for one of the platforms keeps the entries of the other."""
    project = write_project("extras-and-groups", tmp_path / "p")
    both = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64"}
    output_of(project, cache, "lock", **both)
    for entry in lock_of(project)["base"]:
        assert [row["platform"] for row in entry["platforms"]] == ["linux/amd64", "linux/arm64"]
    build(project, cache, variables=both)
    assert "nothing changes" in output_of(project, cache, "lock")

def test_lock_of_a_project_with_a_dynamic_version(tmp_path: Path, cache: Path) -> None:
    """setuptools: the requirements for sdist and metadata are locked too; `lock` updates an outdated lock."""
    project = tmp_path / "p"
    (project / "src/made_up").mkdir(parents=True)
    (project / "src/made_up/__init__.py").write_text('__version__ = "3.2"\n\n\ndef main():\n    print("hi")\n')
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "made-up"\ndynamic = ["version"]\nrequires-python = ">=3.11"\n'
        '[project.scripts]\nmade-up = "made_up:main"\n'
        '[tool.setuptools.dynamic]\nversion = { attr = "made_up.__version__" }\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\n'
    )
    output_of(project, cache, "lock")
    first = output_of(project, cache, "build", HATCH_DOCKER_LOAD="never")
    assert "dist/made_up-3.2.oci.tar" in first
    output_of(project, cache, "lock", "--check")
    edit(project, "setuptools>=77", "setuptools>=78")
    assert "setuptools>=78 added, setuptools>=77 removed" in run_command(project, cache, "build").output
    output_of(project, cache, "lock")
    output_of(project, cache, "build", HATCH_DOCKER_LOAD="never")
