"""The wheel hook: it makes an image of the wheel that hatch, build or uv builds, but none when pip or uv installs."""

import hashlib
import os
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hatch_docker.oci.layer import layer_entries
from tests.conftest import need
from tests.integration.builds import Outcome, check_failed, check_option, run_in
from tests.projects import write_project

pytestmark = pytest.mark.network

ROOT = Path(__file__).parent.parent.parent
PYTHON = sys.executable
HOOK = """
[tool.hatch.build.targets.wheel.hooks.docker]
dependencies = ["hatch-docker[uv]"]
enable-by-default = false
"""
ENABLE = {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "1"}

# ISOLATED frontends make an environment and install the hook's dependencies there; those in HERE use this environment.
ISOLATED = {
    "hatch": [PYTHON, "-m", "hatch", "build", "-t", "wheel"],
    "build": [PYTHON, "-m", "build", "--installer", "uv"],
    "uv": [PYTHON, "-m", "uv", "build", "--python", PYTHON],
}
HATCHLING = [PYTHON, "-m", "hatchling", "build", "-t", "wheel"]
BUILD = [PYTHON, "-m", "build", "--no-isolation"]
UV_BUILD = [PYTHON, "-m", "uv", "build", "--no-build-isolation", "--python", PYTHON]
HERE = {"hatchling": HATCHLING, "build": BUILD, "build-wheel": [*BUILD, "--wheel"], "uv": UV_BUILD}


def write(kind: str, directory: Path, *, options: str = "", base: str = "debian:trixie", hook: str = HOOK) -> Path:
    return write_project(kind, directory, options=options + hook, base=base)


def run(command: Sequence[str], project: Path, cache: Path, variables: Mapping[str, str] = ENABLE) -> Outcome:
    """Run a frontend in a project's directory."""
    return run_in(project, cache, *command, variables=variables)


def check_agreement(outcome: Outcome) -> None:
    """Check that the receipt names the wheel in dist/, and that the last layer has the wheel's files."""
    assert outcome.status == 0, outcome.output
    (wheel,) = outcome.directory.glob("*.whl")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert outcome.receipt["wheel"] == {"filename": wheel.name, "sha256": sha256}
    assert outcome.output.count("linux/") == 1, outcome.output
    paths = [entry.path for entry, _ in layer_entries(outcome.image().layers[-1])]
    assert any(path.endswith(".dist-info/RECORD") for path in paths)


@pytest.mark.parametrize("name", HERE)
def test_image_contains_the_built_wheel(name: str, tmp_path: Path, cache: Path) -> None:
    outcome = run(HERE[name], write("hello", tmp_path / "p", options=check_option("hello")), cache)
    check_agreement(outcome)
    assert "dist/hello-1.0.0.oci.tar" in outcome.output


@pytest.mark.parametrize("name", ISOLATED)
def test_isolated_frontend_installs_the_hook(name: str, tmp_path: Path, cache: Path, find_links: Path) -> None:
    links = " ".join(filter(None, [os.environ.get("PIP_FIND_LINKS"), str(find_links)]))
    variables = {
        **ENABLE, "UV_FIND_LINKS": str(find_links), "PIP_FIND_LINKS": links, "HATCH_DATA_DIR": str(tmp_path / "data"),
    }
    outcome = run(ISOLATED[name], write("hello", tmp_path / "p"), cache, variables)
    check_agreement(outcome)


def test_hook_and_target_make_the_same_digest(tmp_path: Path, cache: Path) -> None:
    """The target makes the same wheel of a pure project."""
    hook = run(BUILD, write("hello", tmp_path / "p"), cache)
    target = run([*HATCHLING[:-1], "docker"], write("hello", tmp_path / "q"), cache, {})
    assert hook.digest == target.digest
    assert hook.receipt["wheel"] == target.receipt["wheel"]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("kind", "command"), [("hello", HATCHLING), ("c-extension", BUILD), ("hello", UV_BUILD)],
    ids=["hatch", "build", "uv"],
)
def test_buildkit_installs_the_hooks_wheel(
    kind: str, command: Sequence[str], docker: str, tmp_path: Path, cache: Path
) -> None:
    """No stage builds the wheel; hash and digest are those of the embedded engine."""
    base = f"debian:{own_suite()}" if kind == "c-extension" else "debian:trixie"
    project = write(kind, tmp_path / "p", options=check_option(kind), base=base)
    module = next(path for path in sorted(project.rglob("*.py")) if path.name != "hatch_build.py")
    module.write_text(f"{module.read_text()}\n# {secrets.token_hex()}\n")  # not in any cache
    outcome = run(command, project, cache, {**ENABLE, "HATCH_DOCKER_ENGINE": "buildkit"})
    check_agreement(outcome)
    assert "install-project" in outcome.output
    assert "build-project" not in outcome.output
    digest, wheel = outcome.digest, outcome.receipt["wheel"]
    again = run(command, project, cache)
    assert (again.digest, again.receipt["wheel"]) == (digest, wheel)


def test_disabled_hook_installs_no_dependencies(tmp_path: Path, cache: Path) -> None:
    """Without the variable the frontend does not install the hook's dependencies."""
    project = write("hello", tmp_path / "p", hook=HOOK.replace("hatch-docker[uv]", "no-such-package-anywhere"))
    outcome = run([PYTHON, "-m", "uv", "build", "--python", PYTHON], project, cache, {})
    assert outcome.status == 0, outcome.output
    assert not list(outcome.directory.glob("*.oci.tar"))


def test_hook_enabled_by_default_needs_no_variable(tmp_path: Path, cache: Path) -> None:
    project = write("hello", tmp_path / "p", hook=HOOK.replace("enable-by-default = false", ""))
    check_agreement(run(HATCHLING, project, cache, {}))


@pytest.mark.parametrize("targets", [("wheel", "docker"), ("docker", "wheel")])
def test_hook_and_target_in_one_build_make_one_image(targets: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    command = [PYTHON, "-m", "hatchling", "build", *(word for target in targets for word in ("-t", target))]
    outcome = run(command, write("hello", tmp_path / "p"), cache)
    check_agreement(outcome)
    assert outcome.output.count("your code") == 1


def install_commands(target: Path) -> dict[str, list[str]]:
    pip, uv = [PYTHON, "-m", "pip"], [PYTHON, "-m", "uv", "pip"]
    own = ["-v", "--no-build-isolation", "--no-deps"]
    target_options = [*own, "--target", str(target)]
    return {
        "pip install .": [*pip, "install", *target_options, "."],
        "pip wheel .": [*pip, "wheel", *own, "-w", str(target), "."],
        "uv pip install .": [*uv, "install", *target_options, "--python", PYTHON, "."],
    }


@pytest.mark.parametrize("name", install_commands(Path()))
def test_installing_a_wheel_makes_no_image(name: str, tmp_path: Path, cache: Path) -> None:
    """With -v the temporary builds of pip and uv print the reason."""
    project = write("hello", tmp_path / "p")
    variables = {**ENABLE, "UV_CACHE_DIR": str(tmp_path / "uv")}
    outcome = run(install_commands(tmp_path / "target")[name], project, cache, variables)
    assert outcome.status == 0, outcome.output
    assert "no image: " in outcome.output
    assert not list(tmp_path.rglob("*.oci.tar"))
    assert list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("installer", [["pip", "install"], ["uv", "pip", "install", "--python", PYTHON]])
def test_editable_install_makes_no_image(installer: list[str], tmp_path: Path, cache: Path) -> None:
    project = write("hello", tmp_path / "p", hook=f'{HOOK}[tool.hatch.build]\ndev-mode-dirs = ["."]\n')
    own = ["-v", "--no-build-isolation", "--no-deps", "--prefix", str(tmp_path / "prefix"), "-e", "."]
    outcome = run([PYTHON, "-m", *installer, *own], project, cache)
    assert outcome.status == 0, outcome.output
    assert "no image: " in outcome.output
    assert not list(tmp_path.rglob("*.oci.tar"))
    assert [str(project)] == [path.read_text().strip() for path in tmp_path.rglob("_hello.pth")]


def test_hook_makes_no_image_in_the_builder_stage(tmp_path: Path, cache: Path) -> None:
    outcome = run(HATCHLING, write("hello", tmp_path / "p"), cache, {**ENABLE, "HATCH_DOCKER_BUILDER_STAGE": "1"})
    assert outcome.status == 0, outcome.output
    assert not list(outcome.directory.glob("*.oci.tar"))


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["embedded", "buildkit"])
def test_builder_stage_installs_the_enabled_hook(
    engine: str, docker: str, tmp_path: Path, cache: Path, find_links: Path
) -> None:
    """The builder stage installs hatch-docker, which the hook's table requires; the hook does nothing there."""
    project = write("c-extension", tmp_path / "p", hook=HOOK.replace("enable-by-default = false", ""))
    module = project / "c_extension/__init__.py"
    module.write_text(f"{module.read_text()}\n# {secrets.token_hex()}\n")  # not in any cache
    variables = {"UV_FIND_LINKS": str(find_links), "HATCH_DOCKER_ENGINE": engine, "HATCH_DOCKER_BUILD_NETWORK": "false"}
    outcome = run([*HATCHLING[:-1], "docker"], project, cache, {**variables, "HATCH_VERBOSE": "1"})
    assert outcome.status == 0, outcome.output
    assert "no image: this is the builder stage" in outcome.output
    assert outcome.output.count("linux/amd64  sha256:") == 1
    outcome.item()


@pytest.mark.parametrize("command", [BUILD, UV_BUILD], ids=["build", "uv"])
def test_files_missing_in_the_sdist_come_from_the_checkout(command: list[str], tmp_path: Path, cache: Path) -> None:
    """build and uv make the wheel from an unpacked sdist; lock, `files` and commit come from the checkout."""
    options = (
        'tags = ["{revision}"]\n[[tool.hatch-docker.files]]\nsource = "conf"\ntarget = "/etc/app.conf"\n'
        '[tool.hatch.build.targets.sdist]\nexclude = ["conf"]\n'
    )
    project = write("vcs-version", tmp_path / "p", options=options)
    (project / "conf").write_text("x = 1\n")
    outcome = run(command, project, cache)
    assert outcome.status == 0, outcome.output
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()
    image = outcome.image()
    assert image.config_json["config"]["Labels"]["org.opencontainers.image.revision"] == f"{commit}-dirty"
    assert [entry.path for entry, _ in layer_entries(image.layers[-1])][-1] == "etc/app.conf"


SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}


def own_suite() -> str:
    """Return the Debian suite that has the Python version of the tests: a wheel built on this machine fits it."""
    need("cc")
    suite = SUITES.get(sys.version_info[:2])
    if suite is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no Debian has this Python, or its headers are not here")
    return suite


def test_hosts_compiled_wheel_runs_in_the_image(tmp_path: Path, cache: Path) -> None:
    """The image contains the wheel that the host compiled, not a wheel of the builder stage."""
    options = check_option("c-extension")
    project = write("c-extension", tmp_path / "p", options=options, base=f"debian:{own_suite()}")
    outcome = run(HATCHLING, project, cache)
    check_agreement(outcome)
    assert "linux_" in outcome.receipt["wheel"]["filename"]
    assert "in the builder" not in outcome.output


@pytest.mark.parametrize("targets", [("wheel", "docker"), ("docker", "wheel")])
def test_hook_and_target_use_the_wheel_in_dist(targets: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    """In either order the image has the hook's wheel, not the wheel of the builder stage."""
    project = write("c-extension", tmp_path / "p", base=f"debian:{own_suite()}")
    command = [PYTHON, "-m", "hatchling", "build", *(word for target in targets for word in ("-t", target))]
    outcome = run(command, project, cache)
    assert outcome.status == 0, outcome.output
    (wheel,) = outcome.directory.glob("*.whl")
    assert outcome.receipt["wheel"]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    outcome.item()


def test_wheel_of_another_python_makes_no_image(tmp_path: Path, cache: Path) -> None:
    (other,) = set(SUITES.values()) - {own_suite()}
    outcome = run(HATCHLING, write("c-extension", tmp_path / "p", base=f"debian:{other}"), cache)
    check_failed(outcome, f"does not fit the base debian:{other}, which is Python 3.", "`hatch build -t docker`")
    assert [path.suffix for path in outcome.directory.iterdir()] == [".whl"]
