"""Projects with hatchling: configurations that run code of the project, and files outside of the project."""

import tomllib
from pathlib import Path

import pytest

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.hatch import hatchling_project, open_hatchling, runs_code
from hatch_docker.project.model import Project
from tests.projects import write_files, write_project


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
def test_configuration_that_runs_code(table: str, expected: bool, tmp_path: Path) -> None:
    """Code for the metadata or the sdist counts; build hooks of the wheel do not: they run in the builder stage."""
    assert runs_code(tmp_path, tomllib.loads(table)) is expected
    if "tool.hatch." in table:
        (tmp_path / "hatch.toml").write_text(table.replace("tool.hatch.", ""))
        assert runs_code(tmp_path, {}) is expected


@pytest.mark.parametrize("data", [b"\xff", b"[", b"a = " + b"[" * 9999])
def test_unreadable_hatch_toml_is_reported(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "hatch.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"cannot read .*hatch\.toml: "):
        runs_code(tmp_path, {})


def project(tmp_path: Path, table: str) -> Project:
    """Return the project "hello" with `table` appended to its pyproject.toml, built by hatchling in this process."""
    root = write_project("hello", tmp_path / "p")
    with (root / "pyproject.toml").open("a") as stream:
        stream.write(table)
    (tmp_path / "out").mkdir()
    return hatchling_project(open_hatchling(root), tmp_path / "out")


def test_requires_runs_no_code_of_the_project(tmp_path: Path) -> None:
    """`hatch-docker lock` calls `requires` on the host; dynamic requirements of hooks are for the builder stage."""
    found = project(tmp_path, "[tool.hatch.build.hooks.custom]\ndependencies = ['cffi']")
    (found.root / "hatch_build.py").write_text("raise SystemExit('code of the project runs')")
    assert found.requires()[1:] == ("cffi",)


@pytest.mark.parametrize("path", ["../victim", "link", ".git/config", "sub/.git/hooks/x"])
def test_version_hook_cannot_write_outside_the_project(path: str, tmp_path: Path) -> None:
    """hatchling's hook `version` can write any text to any file, and runs on the host."""
    found = project(tmp_path, f"[tool.hatch.build.hooks.version]\npath = '{path}'\ntemplate = 'evil'")
    (tmp_path / "victim").write_text("mine")
    (found.root / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match=f"path of the build hook version is {path}, which is not a file"):
        found.wheel()
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (found.root / ".git").exists()
    assert not (found.root / "sub").exists()


READS = {
    "a readme": ("[project]", "[project]\nreadme = {file = 'link', content-type = 'text/plain'}"),
    "a licence": ("[project]", "[project]\nlicense-files = ['../vic*']"),
    "a licence's text": ("[project]", "[project]\nlicense = {file = '../victim'}"),
    "a licence that is a link": ("[project]", "[project]\nlicense-files = ['link']"),
    "force-include": ("[project]", "[tool.hatch.build.targets.wheel.force-include]\n'../victim' = 'x'\n[project]"),
    "shared data": ("[project]", "[tool.hatch.build.targets.wheel.shared-data]\n'../victim' = 'x'\n[project]"),
    "a link in a directory": ("[project]", "[tool.hatch.build.targets.wheel.shared-data]\n'sub' = 'x'\n[project]"),
    "a script": ("[project]", "[tool.hatch.build.targets.wheel.shared-scripts]\n'../victim' = 'x'\n[project]"),
}


@pytest.mark.parametrize("what", READS)
def test_wheel_cannot_contain_files_outside_the_project(what: str, tmp_path: Path) -> None:
    """Otherwise a project could copy private files into its image. Files elsewhere in the repository are allowed."""
    found = project(tmp_path, "")
    (tmp_path / "victim").write_text("mine")
    for link in ("link", "sub/link"):
        (found.root / link).parent.mkdir(exist_ok=True)
        (found.root / link).symlink_to(tmp_path / "victim")
    text = (found.root / "pyproject.toml").read_text().replace(*READS[what], 1)
    (found.root / "pyproject.toml").write_text(text + "[tool.hatch.build.targets.wheel]\nexclude = ['/link']\n")
    found = hatchling_project(open_hatchling(found.root), tmp_path / "out")
    with pytest.raises(ConfigError, match="leads to a place outside of the project"):
        found.wheel()
    around = tmp_path / "pyproject.toml"
    around.write_text("[tool.uv.workspace]\nmembers = ['p']\n")
    assert found.wheel().is_file()
    around.unlink()
    (tmp_path / ".git").mkdir()
    assert hatchling_project(open_hatchling(found.root), tmp_path / "out").wheel().is_file()


def test_licence_files_are_sources(tmp_path: Path) -> None:
    """This includes a file outside of the project, and matches of `license-files` in an excluded directory."""
    tables = "[tool.hatch.build]\nexclude = ['/legal']\n[project]\nname = 'a'\nversion = '1'\n"
    write_files(tmp_path, {"p/pyproject.toml": f"{tables}license = {{file = '../licence'}}\n", "licence": ""})
    root = write_files(tmp_path / "p", {"legal/a": "", "a.py": ""})
    sources = hatchling_project(open_hatchling(root), tmp_path).sources(False)
    assert sources is not None
    assert root / "../licence" in sources.extra_paths
    assert sources.is_skipped("legal")
    (root / "pyproject.toml").write_text(f"{tables}license-files = ['legal/*']\n")
    sources = hatchling_project(open_hatchling(root), tmp_path).sources(False)
    assert sources is not None
    assert not sources.is_skipped("legal")
