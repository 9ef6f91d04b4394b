"""Locks and resolutions of a real uv with the user's package index: hatch-docker reads the same files as uv."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.locks.pylock import LockFile, pins_of
from hatch_docker.wheels.locks.uv import find_uv
from hatch_docker.wheels.target import Target
from tests.fakes.context import context

pytestmark = pytest.mark.network

AMD64 = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))
TARGETS = [
    AMD64, Target("3.13.5", Platform("linux", "arm64"), ("glibc", "2.41")),
    Target("3.11.2", Platform("linux", "amd64"), ("glibc", "2.36")),
]
PROJECT = """
[project]
name = "proj"
version = "1"
requires-python = ">=3.11"
dependencies = ["anyio; python_version < '3.12'", "numpy", "tzdata; sys_platform == 'win32'", "uvicorn[standard]"]
optional-dependencies = {cli = ["click", "proj[c]"], a = ["idna==3.10"], b = ["idna==3.11"], c = ["h2"]}
[dependency-groups]
web = ["jinja2", {include-group = "base"}]
base = ["packaging"]
[tool.uv]
conflicts = [[{extra = "a"}, {extra = "b"}]]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a project with forked resolution, conflicting extras and groups, and lock it with uv."""
    root = tmp_path_factory.mktemp("proj")
    (root / "pyproject.toml").write_text(PROJECT)
    uv(root, "lock", "--python", "3.11")
    return root


def uv(root: Path, *arguments: str) -> str:
    command = [find_uv(os.environ), *arguments, "--quiet"]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path / "store", **os.environ)


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    ("extras", "groups"), [((), ()), (("a", "cli"), ("web",)), (("b",), ())], ids=["plain", "cli", "b"]
)
def test_uv_lock_equals_uv_export(
    project: Path, ctx: Context, target: Target, extras: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    """The reader of uv.lock and uv's export select the same files for every target."""
    flags = [*(f"--extra={extra}" for extra in extras), *(f"--group={group}" for group in groups)]
    exported = uv(project, "export", "--frozen", "--format", "pylock.toml", "--no-dev", "--no-header", *flags)
    expected = pins_of(tomllib.loads(exported), LockFile("export", project, project), target)
    assert pin(LockPlan("uv", "uv.lock", extras=extras, groups=groups), project, target, ctx) == expected
    assert len(expected) > 5


def test_requirements_txt_with_hashes(project: Path, ctx: Context) -> None:
    """A requirements.txt that uv exports with hashes selects the same files as uv.lock."""
    text = uv(project, "export", "--frozen", "--format", "requirements.txt", "--no-dev")
    (project / "requirements.txt").write_text(text)
    pins = pin(LockPlan("requirements", "requirements.txt"), project, AMD64, ctx)
    assert pins == pin(LockPlan("uv", "uv.lock"), project, AMD64, ctx)


def test_resolution_for_another_platform(tmp_path: Path, ctx: Context) -> None:
    """Without a lock: the wheels are fetched and verified; a second resolution gives the same result."""
    lock = LockPlan("resolve", requirements=("markupsafe", "idna"))
    pins = pin(lock, tmp_path, TARGETS[1], ctx)
    assert [pin.name for pin in pins] == ["idna", "markupsafe"]
    assert "aarch64" in pins[1].filename
    assert all(pin.upload_time for pin in pins)
    assert [path.stat().st_size for path in fetch(pins, ctx, root=tmp_path)] == [pin.size for pin in pins]
    assert pin(lock, tmp_path, TARGETS[1], ctx) == pins
