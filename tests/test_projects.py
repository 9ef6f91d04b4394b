"""The projects of tests/projects.py: their wheels can be built, and their commands print the expected output."""

import subprocess
import sys
import tomllib
from pathlib import Path

import installer.destinations
import installer.sources
import pytest

from hatch_docker.config.load import load_config
from tests.conftest import need
from tests.projects import KINDS, write_project

NEEDS_DEPENDENCIES = {"extras-and-groups", "fastapi-numpy"}


def build_wheel(project: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = (project / "dist").glob("*.whl")
    return wheel


def install(wheel: Path, prefix: Path) -> None:
    """Install a wheel with pypa/installer into a virtual environment without pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    schemes = {"purelib": str(site), "platlib": str(site), "scripts": str(prefix / "bin"), "data": str(prefix)}
    destination = installer.destinations.SchemeDictionaryDestination(schemes, str(prefix / "bin/python"), "posix")
    with installer.sources.WheelFile.open(wheel) as source:
        installer.install(source, destination, {})


@pytest.mark.parametrize("kind", KINDS)
def test_wheel_is_built_and_command_runs(kind: str, tmp_path: Path) -> None:
    """The command runs only if the project has no dependencies."""
    if kind == "c-extension":
        need("cc")
    if kind == "vcs-version":
        need("git")
    project = write_project(kind, tmp_path / "project")
    wheel = build_wheel(project)
    if kind in NEEDS_DEPENDENCIES:
        return
    install(wheel, tmp_path / "venv")
    command, *arguments = KINDS[kind].command
    done = subprocess.run(
        [tmp_path / "venv/bin" / command, *arguments], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == KINDS[kind].output


@pytest.mark.parametrize("kind", KINDS)
def test_tool_table_is_valid(kind: str, tmp_path: Path) -> None:
    """Also with further options."""
    project = write_project(kind, tmp_path, base="oci:base", options='user = "1000"\n[tool.hatch-docker.env]\nA = "b"')
    path = project / "pyproject.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["hatch-docker"]
    config = load_config(table, {}, path)
    assert (config.base, config.user, dict(config.env)) == ("oci:base", "1000", {"A": "b"})


def test_tool_table_of_example_project_is_valid() -> None:
    path = Path(__file__).parent.parent / "example_project/pyproject.toml"
    config = load_config(tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["hatch-docker"], {}, path)
    assert config.check.command == ("mandelbrot-tiles", "--self-check")
