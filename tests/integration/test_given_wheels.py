"""`hatch-docker build WHEEL`: the image of an existing wheel; the project's build backend is not used."""

import hashlib
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import run
from tests.fakes.wheels import Wheel
from tests.integration.builds import check_failed, run_command, run_in
from tests.projects import write_files, write_project

pytestmark = pytest.mark.network

TABLE = """\
base = "debian:trixie"
image = "hatch-docker/given"
files = [{ source = "settings.toml", target = "/etc/shop/settings.toml" }]
[tool.hatch-docker.check]
command = ["demo"]
"""
BROKEN = '[build-system]\nrequires = ["nowhere"]\nbuild-backend = "nowhere"\n[tool.hatch-docker]\n'
MAIN = b"def main():\n    print(open('/etc/shop/settings.toml').read())\n"


def write(directory: Path) -> str:
    """Write a project with an unknown backend and a wheel of it; return the wheel's path relative to the project."""
    write_files(directory, {"pyproject.toml": BROKEN + TABLE, "settings.toml": "a = 1\n", "dist/.keep": ""})
    wheel = Wheel(files={"demo/__init__.py": MAIN}, scripts="[console_scripts]\ndemo = demo:main\n")
    wheel.metadata += "Requires-Python: >=3.10\nRequires-Dist: idna\n"
    return str(wheel.write(directory / "dist/demo-1.0-py3-none-any.whl").relative_to(directory))


@pytest.mark.engine
def test_image_of_a_wheel(docker: str, tmp_path: Path, hello_cache: Path) -> None:
    """Both engines and the Dockerfile use this wheel, and table, files and check of the project in the directory."""
    wheel = write(tmp_path)
    time.sleep(0.1)  # a build is not remembered if a file was written a moment before
    first = run_command(tmp_path, hello_cache, "build", wheel)
    assert first.status == 0, first.output
    digest = hashlib.sha256((tmp_path / wheel).read_bytes()).hexdigest()
    assert first.receipt["wheel"] == {"filename": Path(wheel).name, "sha256": digest}
    assert "revision" not in first.image().config_json["config"]["Labels"]
    again = run_command(tmp_path, hello_cache, "build", wheel, HATCH_VERBOSE="0")
    assert (again.status, again.new_layers(), list(again.receipt["timings"])) == (0, [], ["build"])  # remembered
    other = run_command(tmp_path, hello_cache, "build", wheel, HATCH_DOCKER_ENGINE="buildkit")
    assert (other.status, other.digest) == (0, first.digest), other.output
    assert run_command(tmp_path, hello_cache, "dockerfile", wheel).status == 0
    context = tmp_path / "dist/demo-1.0.context"
    name, dockerfile = "hatch-docker/given:written", context.with_suffix(".Dockerfile")
    run(docker, "build", "--quiet", "--tag", name, "--file", str(dockerfile), str(context))
    assert "a = 1" in run(docker, "run", "--rm", "--network=none", name)
    run(docker, "rmi", name)
    assert "hatch-docker.lock: written" in run_command(tmp_path, hello_cache, "lock", wheel).output
    assert run_command(tmp_path, hello_cache, "build", wheel).digest == first.digest
    assert "nothing changes" in run_command(tmp_path, hello_cache, "lock", wheel).output


def test_image_of_a_wheel_from_python_m_build(base: str, tmp_path: Path, cache: Path) -> None:
    """The digest is that of a build of the project. `--config` names the table; `verify` needs the wheel too."""
    project = write_project("hello", tmp_path / "p", base=base)
    build = sys.executable, "-m", "build", "--wheel", "--no-isolation"
    assert run_in(project, cache, *build).status == 0
    elsewhere = tmp_path / "artifacts"
    shutil.move(project / "dist", elsewhere)
    (wheel,) = elsewhere.glob("*.whl")
    options = "build", str(wheel), "--config", str(project / "pyproject.toml"), "-o", "dist"
    given = run_command(project, cache, *options, SOURCE_DATE_EPOCH="1700000000")
    assert given.status == 0, given.output
    built = run_command(project, cache, "build", SOURCE_DATE_EPOCH="1700000000")
    assert given.digest == built.digest
    assert run_command(project, cache, "lock").status == 0
    with (project / "hello.py").open("a") as module:
        module.write("EDITED = 1\n")
    shutil.copy(wheel, project / "dist")
    verify = "verify", "--keep-downloads"
    check_failed(run_command(project, cache, *verify), f"give the wheel, too: hatch-docker verify {project}/dist/")
    same = run_command(project, cache, *verify, f"dist/{wheel.name}")
    assert f"yes, {given.digest}" in same.output


def test_setup_py_docker(tmp_path: Path, cache: Path) -> None:
    """`python setup.py docker` makes the same image and recommends `hatch-docker build` in one line."""
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='old', version='1', py_modules=['old'], "
        "entry_points={'console_scripts': ['old=old:main']})\n",
        "old.py": "def main():\n    print('old')\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\n',
    }
    project = write_files(tmp_path / "p", files)
    outcome = run_in(project, cache, sys.executable, "setup.py", "docker")
    assert outcome.status == 0, outcome.output
    assert outcome.output.count("hatch-docker build") == 1
    digest = outcome.digest
    assert run_command(project, cache, "build").digest == digest
    variables = {"HATCH_DOCKER_BASE": "debian:nowhere"}
    refused = run_in(project, cache, sys.executable, "setup.py", "docker", variables=variables)
    check_failed(refused, "error: base 'debian:nowhere'", last_line=True)
