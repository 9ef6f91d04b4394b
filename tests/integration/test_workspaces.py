"""Workspaces of uv and hatch: an image contains the members that its project depends on, and no others."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image
from tests.conftest import need
from tests.fakes.github_outputs import read_outputs
from tests.fakes.workspaces import UV_SOURCES, UV_WORKSPACE, write_member
from tests.integration.builds import build, check_failed, lock_of, output_of, run_command, run_in, uv
from tests.projects import write_project
from tests.validate import validate

pytestmark = pytest.mark.network

TARGET = '[tool.hatch.build.targets.docker]\ndependencies = ["hatch-docker[uv]"]\n'
TARGET += '[tool.hatch.envs.hatch-build]\ninstaller = "uv"\n'  # each member has its own build environment
TABLE = '[tool.hatch-docker]\nbase = "debian:trixie"\n[tool.hatch-docker.check]\ncommand = ["{name}"]\n'
CODE = """
def main():
    import importlib.util, lib, core
    print(lib.NAME, core.NAME, importlib.util.find_spec("other"))
"""


def script(name: str) -> str:
    return f'[project.scripts]\n{name} = "{name}:main"\n' + TABLE.format(name=name)


def workspace(root: Path, head: str = UV_WORKSPACE + UV_SOURCES) -> Path:
    """Write a workspace: app and tool depend on lib, lib on core; no project depends on other."""
    root.mkdir(parents=True)
    (root / "pyproject.toml").write_text(head)
    write_member(root / "packages/core", "core", dependencies=["idna"], more=TARGET)
    write_member(root / "packages/lib", "lib", version="0.2", dependencies=["core"], more=TARGET)
    write_member(root / "packages/other", "other", dependencies=["h11"], more=TARGET)
    for name in ("app", "tool"):
        write_member(root / "packages" / name, name, dependencies=["lib"], more=TARGET + script(name), code=CODE)
    return root / "packages/app"


def contents(directory: Path, stem: str) -> list[list[str]]:
    """Return the contents of each layer above the base."""
    receipt: dict[str, Any] = json.loads((directory / f"{stem}.image.json").read_bytes())
    return [layer["contents"] for layer in receipt["platforms"][0]["layers"] if layer["kind"] != "base"]


def image(directory: Path, stem: str) -> Image:
    found = read_archive(directory / f"{stem}.oci.tar")
    validate(found)
    assert isinstance(found, Image)
    return found


def paths(found: Image) -> set[str]:
    return {entry.path for layer in found.layers[1:] for entry, _ in layer_entries(layer)}


def test_required_members_are_installed(tmp_path: Path, cache: Path) -> None:
    """uv.lock, its exports, hatch-docker.lock and no lock give the same wheels."""
    app = workspace(tmp_path / "w")
    first = build(app, cache)
    assert contents(app / "dist", "app-1.0") == [["idna " + idna_version(app)], ["core 1.0"], ["lib 0.2"], ["app 1.0"]]
    installed = paths(first.image())
    site = "opt/venv/lib/python3.13/site-packages"
    assert {f"{site}/core.py", f"{site}/lib.py", f"{site}/lib-0.2.dist-info/METADATA"} <= installed
    assert not [path for path in installed if "other" in path or path.endswith(".pth")]
    uv("lock", "-q", cwd=app)
    assert (tmp_path / "w/uv.lock").is_file()
    above = [layer.diff_id for layer in first.image().layers[1:]]
    for lock in ("uv.lock", "pylock.toml", "requirements.txt"):
        kind = {"pylock.toml": ["--format", "pylock.toml"], "requirements.txt": []}.get(lock)
        if kind is not None:
            uv("export", "-q", "--no-emit-project", *kind, "-o", lock, cwd=app)
        outcome = build(app, cache, variables={"HATCH_VERBOSE": "1"})
        where = "../../uv.lock" if lock == "uv.lock" else lock
        assert f"lock = {where}" in outcome.output
        assert [layer.diff_id for layer in outcome.image().layers[1:]] == above
        (app / lock).unlink(missing_ok=True)
    (tmp_path / "w/uv.lock").unlink()
    output_of(app, cache, "lock")
    output_of(app, cache, "lock", "--check")
    assert lock_of(app)["requirements"]
    assert [layer.diff_id for layer in build(app, cache).image().layers[1:]] == above


def idna_version(app: Path) -> str:
    """Return the resolved version of idna."""
    return contents(app / "dist", "app-1.0")[0][0].partition(" ")[2]


def test_edit_of_a_member_remakes_only_its_layer(tmp_path: Path, cache: Path) -> None:
    app = workspace(tmp_path / "w")
    build(app, cache)
    (tmp_path / "w/packages/core/core.py").write_text(f"NAME = 'core'\n# {tmp_path.name} {os.getpid()}\n")
    edited = build(app, cache)
    (platform,) = edited.receipt["platforms"]
    assert [layer["contents"] for layer in platform["layers"] if not layer["cached"]] == [["core 1.0"]]


def test_members_with_c_code_and_another_backend(tmp_path: Path, cache: Path) -> None:
    """Each is built with its own backend and hooks in the builder stage."""
    app = workspace(tmp_path / "w")
    write_project("c-extension", tmp_path / "w/packages/native")
    system = '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
    more = '[tool.setuptools]\npy-modules = ["old"]\n'
    write_member(tmp_path / "w/packages/old", "old", system=system, more=more)
    code = "def main():\n    import old, c_extension\n    c_extension.main()\n"
    write_member(app, "app", dependencies=["c-extension", "old"], more=script("app"), code=code)
    build(app, cache)
    assert contents(app / "dist", "app-1.0") == [["c-extension 1.0.0"], ["old 1.0"], ["app 1.0"]]
    output_of(app, cache, "lock")
    names = {file["name"] for entry in lock_of(app)["requirements"] for file in entry["files"]}
    assert {"hatchling", "setuptools"} <= names
    build(app, cache)


def test_unsuitable_version_of_a_member_is_rejected(tmp_path: Path, cache: Path) -> None:
    app = workspace(tmp_path / "w")
    write_member(app, "app", dependencies=["lib>=7"], more=script("app"), code=CODE)
    found = run_command(app, cache, "build")
    check_failed(found, "app requires lib>=7, but lib of its workspace is 0.2")


HATCH = '[tool.hatch.envs.default.workspace]\nmembers = ["packages/*"]\n'


def test_hatch_build_all_makes_an_image_of_each_application(tmp_path: Path, cache: Path, find_links: Path) -> None:
    """Members with a script get an image, and the images share layers; other members get none."""
    app = workspace(tmp_path / "w", HATCH)
    outputs = tmp_path / "output"
    variables = {
        "GITHUB_OUTPUT": str(outputs), "PIP_FIND_LINKS": str(find_links), "UV_FIND_LINKS": str(find_links),
        "HATCH_DATA_DIR": str(tmp_path / "data"), "HATCH_ENV_TYPE_VIRTUAL_UV_PATH": need("uv"),
    }  # fmt: skip
    command = (sys.executable, "-m", "hatch", "build", "--all", "-t", "docker")
    found = run_in(app.parent.parent, cache, *command, variables=variables)
    assert found.status == 0, found.output
    dist = tmp_path / "w/dist"
    assert sorted(path.name for path in dist.glob("*.oci.tar")) == ["app-1.0.oci.tar", "tool-1.0.oci.tar"]
    for name in ("core", "lib", "other"):
        assert f"no image: {name} is a part of a workspace" in found.output
    one, other = (image(dist, f"{name}-1.0") for name in ("app", "tool"))
    shared = {layer.diff_id for layer in one.layers} & {layer.diff_id for layer in other.layers}
    assert len(shared) == len(one.layers) - 1  # all layers except the project's
    assert contents(dist, "app-1.0")[1:3] == [["core 1.0"], ["lib 0.2"]]
    lines = read_outputs(outputs)
    assert [lines[f"{name}-digest"] for name in ("app", "tool")] == [one.digest, other.digest]


@pytest.mark.engine
def test_members_in_buildkit_and_dockerfile(tmp_path: Path, cache: Path) -> None:
    """BuildKit makes the same digest; the context of the Dockerfile has the members' wheels."""
    need("docker")
    app = workspace(tmp_path / "w")
    digest = build(app, cache).digest
    shutil.rmtree(app / "dist")
    outcome = build(app, cache, variables={"HATCH_DOCKER_ENGINE": "buildkit"})
    assert outcome.digest == digest
    build(app, cache, verb="docker:dockerfile")
    wheels = {path.name for path in (app / "dist/app-1.0.context").rglob("*.whl")}
    assert {"core-1.0-py3-none-any.whl", "lib-0.2-py3-none-any.whl", "app-1.0-py3-none-any.whl"} <= wheels
    assert not [name for name in wheels if name.startswith("other")]


def test_wheel_hook_adds_the_members(tmp_path: Path, cache: Path) -> None:
    """The hook uses the project's wheel and builds those of the members."""
    app = workspace(tmp_path / "w")
    text = (app / "pyproject.toml").read_text() + "[tool.hatch.build.targets.wheel.hooks.docker]\n"
    (app / "pyproject.toml").write_text(text)
    build(app, cache, verb="wheel")
    assert contents(app / "dist", "app-1.0")[1:] == [["core 1.0"], ["lib 0.2"], ["app 1.0"]]
