"""`hatch-docker build` for projects with other backends than hatchling; PEP 517 hooks run in the builder stage."""

import secrets
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Index
from tests.conftest import need, need_docker
from tests.integration.backend_projects import (
    EXTENSION,
    FLIT,
    LEGACY,
    MESON,
    PDM,
    PLUGIN,
    POETRY,
    SCM,
    SCRIPTS,
    UV_BUILD,
    make,
    output_check,
    write,
)
from tests.integration.builds import Outcome, build, check_failed, edit, output_of, run_in
from tests.projects import BUILD_SYSTEM, git, write_project

pytestmark = pytest.mark.network


@pytest.mark.parametrize(
    ("files", "tag", "command", "expected", "version"),
    [
        (SCM, "v1.2.3", "scm-demo", "42 1.2.3", "1.2.3"),
        (LEGACY, "", "legacy-demo", "legacy b'a'", "0.3"),
        (SCRIPTS, "", "old-demo", "old", "0.1"),
        (POETRY, "", "poetry-demo", "poetry b'a'", "4.5"),
        (FLIT, "", "flit-demo", "flit", "2.1"),
        (PDM, "", "pdm-demo", "pdm", "0.4"),
        (UV_BUILD, "", "uv-demo", "uv", "5"),
        (MESON, "", "meson-demo", "42", "6.1"),
        (PLUGIN, "", "plugin-demo", "plugin", "7"),
    ],
    ids=["setuptools-scm", "setup.py", "scripts", "poetry", "flit", "pdm", "uv_build", "meson", "hatchling-plugin"],
)
def test_image_of_a_project_with_any_backend(
    files: dict[str, str], tag: str, command: str, expected: str, version: str, tmp_path: Path, cache: Path
) -> None:
    """Metadata and scripts come from the project's backend; the image runs; a second build makes no layer."""
    project = write(tmp_path / "p", files, tag=tag)
    first = make(project, cache, HATCH_DOCKER_CHECK_COMMAND=output_check(command, expected))
    assert first.status == 0, first.output
    image = first.image()
    assert first.receipt["version"] == version
    assert [layer["kind"] for layer in first.layers][-1] == "project"
    again = make(project, cache)
    assert (again.status, again.new_layers(), again.image().digest) == (0, [], image.digest)
    assert "in the builder" not in again.output


def test_git_logins_are_not_in_the_builder(tmp_path: Path, cache: Path) -> None:
    """The builder's copy of the repository has no credentials; setuptools-scm still finds the version in it."""
    look = """
        import pathlib, subprocess
        from setuptools import setup
        if pathlib.Path(".git").exists():  # for the sdist
            files = pathlib.Path(pathlib.Path(".git").read_text().partition(": ")[2].strip())
            text = subprocess.run(["git", "config", "--list"], capture_output=True, text=True, check=True).stdout
            text += "".join(path.read_text(errors="replace") for path in files.rglob("*") if path.is_file())
            assert "https://example.org/app" in text and "c2VjcmV0" not in text and "hunter2" not in text, text
        setup()
    """
    project = write(tmp_path / "p", {**SCM, "setup.py": textwrap.dedent(look)}, tag="v1.2.3")
    for key, value in {
        "http.https://example.org/.extraheader": "AUTHORIZATION: basic c2VjcmV0OnNlY3JldC0x",
        "remote.origin.url": "https://ada:hunter2hunter2@example.org/app", "core.hooksPath": "/nonexistent",
    }.items():  # fmt: skip
        git(project, "config", key, value)
    built = make(project, cache)
    assert built.status == 0, built.output
    assert built.receipt["version"] == "1.2.3"


def generator(image: Image) -> str:
    """Return the line `Generator` of the project's WHEEL file."""
    for entry, content in layer_entries(image.layers[-1]):
        if entry.path.endswith(".dist-info/WHEEL") and content is not None:
            return next(line for line in content.read().decode().splitlines() if line.startswith("Generator"))
    raise AssertionError


def test_locked_hatchling_makes_the_wheel(tmp_path: Path, cache: Path) -> None:
    """The WHEEL file has the version of hatchling. (The test is here because the builder has git in this module.)"""
    project = write_project("vcs-version", tmp_path / "p")
    edit(project, "hatchling>=1.27", "hatchling==1.27.0")
    output_of(project, cache, "lock")
    assert generator(build(project, cache).image()) == "Generator: hatchling 1.27.0"
    here = build(project, cache, variables={"HATCH_DOCKER_PINS": "none"})
    assert generator(here.image()) != "Generator: hatchling 1.27.0"


def test_hatch_and_hatch_docker_make_the_same_image(tmp_path: Path, cache: Path) -> None:
    """`hatch build -t docker` and `hatch-docker build`, with the output directory from [tool.hatch.build]."""
    files = {name: text.replace("plugin", "plain") for name, text in PLUGIN.items()}
    head, _, _hook = files.pop("pyproject.toml").partition("[tool.hatch.metadata")
    files["pyproject.toml"] = head.replace(', "hatch-fancy-pypi-readme"', "").replace('"readme", ', "")
    files["pyproject.toml"] += '[tool.hatch.build]\ndirectory = "out"\n'
    files["plain_demo.py"] = files.pop("plugin_demo.py")
    project = write(tmp_path / "p", files)
    assert make(project, cache).status == 0
    outcome = Outcome(0, "", project / "out")
    digest = outcome.digest
    shutil.rmtree(project / "out")
    build(project, cache, variables={"HATCH_DOCKER_BASE": "debian:trixie"})
    assert outcome.digest == digest


def test_edit_changes_the_digest_files_of_tools_do_not(tmp_path: Path, cache: Path) -> None:
    project = write(tmp_path / "p", FLIT)
    first = make(project, cache)
    assert first.status == 0, first.output
    digest = first.digest
    write(project, {"__pycache__/x.pyc": "x", "dist/other.txt": "x", ".venv/bin/python": "x"})
    assert make(project, cache).digest == digest
    write(project, {"flit_demo.py": FLIT["flit_demo.py"].replace('print("flit")', 'print("other")')})
    changed = make(project, cache, HATCH_DOCKER_CHECK_COMMAND=output_check("flit-demo", "other"))
    assert changed.status == 0, changed.output
    assert changed.digest != digest


def test_digest_does_not_depend_on_the_directory(tmp_path: Path, cache: Path) -> None:
    one, other = write(tmp_path / "one", SCM, tag="v2.0"), write(tmp_path / "other/deep", SCM, tag="v2.0")
    variables = {"SOURCE_DATE_EPOCH": "1700000000"}
    digests = {make(project, cache, **variables).digest for project in (one, other)}
    assert len(digests) == 1


def test_meson_project_with_uncommitted_edit(tmp_path: Path, cache: Path) -> None:
    """The image has the edit, although the sdist of meson-python contains committed files only."""
    project = write(tmp_path / "p", MESON, tag="v1")
    write(project, {"src/target/_c.c": EXTENSION.replace("42", "43")})
    outcome = make(project, cache, HATCH_DOCKER_CHECK_COMMAND=output_check("meson-demo", "43"))
    assert outcome.status == 0, outcome.output


def test_meson_dist_script_needs_mesons_sdist(tmp_path: Path, cache: Path) -> None:
    """A project with `add_dist_script` is built from its sdist, with a warning about uncommitted changes."""
    script = MESON["meson.build"] + "meson.add_dist_script(py, '-c', 'pass')\n"
    project = write(tmp_path / "p", {**MESON, "meson.build": script}, tag="v1")
    write(project, {"src/target/_c.c": EXTENSION.replace("42", "43")})
    outcome = make(project, cache, HATCH_DOCKER_CHECK_COMMAND=output_check("meson-demo", "42"))
    assert outcome.status == 0, outcome.output
    assert "made of the last commit: the image lacks uncommitted changes" in outcome.output


def test_unpacked_sdist_is_built_without_another_sdist(tmp_path: Path, cache: Path) -> None:
    """An sdist has no git tags: the version comes from its PKG-INFO."""
    facts = "Metadata-Version: 2.1\nName: scm-demo\nVersion: 8.1\n"
    project = write(tmp_path / "p", {**SCM, "PKG-INFO": facts})
    outcome = make(project, cache, HATCH_DOCKER_CHECK_COMMAND=output_check("scm-demo", "42 8.1"))
    assert outcome.status == 0, outcome.output
    assert "building the sdist" not in outcome.output


def test_uv_makes_the_wheel_if_isolation_is_off(tmp_path: Path, cache: Path) -> None:
    project = write(tmp_path / "p", {**FLIT, "pyproject.toml": FLIT["pyproject.toml"].replace(
        'dynamic = ["version", "description"]', 'version = "2.1"\ndescription = "A demonstration."'
    )})
    check = output_check("flit-demo", "flit")
    outcome = make(project, cache, HATCH_DOCKER_BUILD_ISOLATED="never", HATCH_DOCKER_CHECK_COMMAND=check)
    assert outcome.status == 0, outcome.output
    assert "in the builder" not in outcome.output


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "x"}, "there is no pyproject.toml and no setup.py in"),
        ({"pyproject.toml": "[project"}, "cannot read"),
        ({"pyproject.toml": "[build-system]\nrequires = 3"}, "[build-system] is not valid (PEP 518)"),
        ({"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "none_such"\n'
          '[project]\nname = "a"\nversion = "1"\nscripts.a = "a:b"'}, "No module named 'none_such'"),
        ({"pyproject.toml": '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
          '[project]\nname = "gone"\ndynamic = ["version"]'}, "building the sdist of p failed"),
    ],
)
def test_broken_project_is_reported(files: dict[str, str], expected: str, tmp_path: Path, cache: Path) -> None:
    outcome = make(write(tmp_path / "p", files), cache)
    assert outcome.status == 1
    assert expected in outcome.output
    assert "hatch_docker/" not in outcome.output  # no traceback of ours


def test_pure_wheel_serves_all_platforms_compiled_code_one(tmp_path: Path, cache: Path) -> None:
    both = {"HATCH_DOCKER_PLATFORMS": "linux/amd64,linux/arm64"}
    outcome = make(write(tmp_path / "p", FLIT), cache, **both)
    assert outcome.status == 0, outcome.output
    index = outcome.item()
    assert isinstance(index, Index)
    assert {str(image.platform) for image in index.images} == {"linux/amd64", "linux/arm64"}
    refused = make(write(tmp_path / "c", SCM, tag="v1"), cache, **both)
    check_failed(refused, "scm_demo-1.tar.gz cannot be compiled for linux/a")


HOOKED = {
    "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "hooked"
dynamic = ["version", "description"]
scripts.hooked = "hooked:main"
[tool.hatch.version]
source = "code"
path = "hooked.py"
[tool.hatch.build.hooks.custom]
[tool.hatch.metadata.hooks.custom]
""",
    "hooked.py": "import os, pathlib\nif mark := os.environ.get('MARK'):\n    pathlib.Path(mark).touch()\n"
    "__version__ = '3'\ndef main():\n    print('hooked')\n",
    "hatch_build.py": """
import os, pathlib
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
if mark := os.environ.get("MARK"):
    pathlib.Path(mark).touch()
class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        pathlib.Path(self.root, "made.py").write_text("made = True")
        build_data["force_include"][os.path.join(self.root, "made.py")] = "made.py"
class Metadata(MetadataHookInterface):
    def update(self, metadata):
        metadata["description"] = "described"
def get_build_hook():
    return Hook
def get_metadata_hook():
    return Metadata
""",
}


def test_project_code_runs_only_in_the_builder(tmp_path: Path, cache: Path) -> None:
    """No command executes the module of the version or the hooks on this machine."""
    project, mark = write(tmp_path / "p", HOOKED), tmp_path / "mark"
    for command in ("doctor --offline", "init --dry-run", "plan", "dockerfile", "build"):
        program = [sys.executable, "-m", "hatch_docker", *command.split()]
        done = run_in(project, cache, *program, variables={"MARK": str(mark), "HATCH_DOCKER_BASE": "debian:trixie"})
        assert done.status == 0, done.output
        assert not mark.exists(), command
    outcome = Outcome(0, "", project / "dist")
    assert outcome.receipt["version"] == "3"
    assert outcome.image().config_json["config"]["Labels"]["org.opencontainers.image.description"] == "described"
    assert not (project / "made.py").exists()
    assert any(entry.path.endswith("/made.py") for layer in outcome.image().layers for entry, _ in layer_entries(layer))


def test_build_hook_runs_only_in_the_builder(tmp_path: Path, cache: Path) -> None:
    """`hatch build` makes the sdist without the hook. (hatchling has read the metadata before.)"""
    text = HOOKED["pyproject.toml"].replace('dynamic = ["version", "description"]', 'version = "3"')
    text = text.replace('[tool.hatch.version]\nsource = "code"\npath = "hooked.py"\n', "")
    files = {**HOOKED, "pyproject.toml": text.replace("[tool.hatch.metadata.hooks.custom]\n", "")}
    project, mark = write(tmp_path / "p", files), tmp_path / "mark"
    outcome = build(project, cache, variables={"MARK": str(mark), "HATCH_DOCKER_BASE": "debian:trixie"})
    assert any(entry.path.endswith("/made.py") for layer in outcome.image().layers for entry, _ in layer_entries(layer))
    assert not mark.exists()
    assert not (project / "made.py").exists()


@pytest.mark.engine
def test_buildkit_builds_other_backends_without_a_sandbox(tmp_path: Path, cache: Path) -> None:
    """BuildKit makes the wheel from the project's files, with the same digest. Dynamic metadata are rejected."""
    need_docker(), need("unshare")
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\""
    refused = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    buildkit = {"HATCH_DOCKER_ENGINE": "buildkit", "HATCH_DOCKER_BUILD_NETWORK": "false"}
    new = f"# {secrets.token_hex()}\n"  # not in any cache
    project = write(tmp_path / "uv", {**UV_BUILD, "src/uv_demo/__init__.py": new})
    outcome = make(project, cache, prefix=refused, **buildkit)
    assert outcome.status == 0, outcome.output
    assert "the wheel is made from the project's files, without an sdist" in outcome.output
    digest = outcome.digest
    assert make(project, cache, HATCH_DOCKER_BUILD_NETWORK="false").digest == digest
    dynamic = write(tmp_path / "pdm", {**PDM, "new.py": new})
    failed = make(dynamic, cache, prefix=refused, **buildkit)
    check_failed(failed, "or give the `dynamic` fields of [project] static values")
    assert 'set engine = "buildkit"' not in failed.output
