"""Images of wheels that exist: nothing is built, whatever the project's own backend would need."""

import hashlib
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import run
from tests.fakes.wheels import Wheel
from tests.integration.builds import check_failed, command, run_in
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
    """Write a project whose backend exists nowhere, and a wheel of it; return its path from there."""
    write_files(directory, {"pyproject.toml": BROKEN + TABLE, "settings.toml": "a = 1\n", "dist/.keep": ""})
    wheel = Wheel(files={"demo/__init__.py": MAIN}, scripts="[console_scripts]\ndemo = demo:main\n")
    wheel.metadata += "Requires-Python: >=3.10\nRequires-Dist: idna\n"
    return str(wheel.write(directory / "dist/demo-1.0-py3-none-any.whl").relative_to(directory))


@pytest.mark.engine
def test_an_image_of_a_wheel(docker: str, tmp_path: Path, cache: Path) -> None:
    """Both engines make one of the very file, by the table, the files and the check of the project around it."""
    wheel = write(tmp_path)
    time.sleep(0.1)  # a file that was just written leaves no memory of a build
    first = command(tmp_path, cache, "build", wheel)
    assert first.status == 0, first.output
    digest = hashlib.sha256((tmp_path / wheel).read_bytes()).hexdigest()
    assert first.receipt["wheel"] == {"filename": Path(wheel).name, "sha256": digest}
    assert "revision" not in first.image().config_json["config"]["Labels"]
    again = command(tmp_path, cache, "build", wheel, HATCH_VERBOSE="0")
    assert (again.status, again.made(), list(again.receipt["timings"])) == (0, [], ["build"])  # as a memory says
    other = command(tmp_path, cache, "build", wheel, HATCH_DOCKER_ENGINE="buildkit")
    assert (other.status, other.digest) == (0, first.digest), other.output
    assert command(tmp_path, cache, "dockerfile", wheel).status == 0
    context = tmp_path / "dist/demo-1.0.context"
    name, dockerfile = "hatch-docker/given:written", context.with_suffix(".Dockerfile")
    run(docker, "build", "--quiet", "--tag", name, "--file", str(dockerfile), str(context))
    assert "a = 1" in run(docker, "run", "--rm", "--network=none", name)
    run(docker, "rmi", name)
    assert "hatch-docker.lock: written" in command(tmp_path, cache, "lock", wheel).output
    assert command(tmp_path, cache, "build", wheel).digest == first.digest
    assert "nothing changes" in command(tmp_path, cache, "lock", wheel).output


def test_a_wheel_of_python_m_build(base: str, tmp_path: Path, cache: Path) -> None:
    """Its image is the one that the project's own directory gives, but for the commit; --config names the table."""
    project = write_project("hello", tmp_path / "p", base=base)
    build = sys.executable, "-m", "build", "--wheel", "--no-isolation"
    assert run_in(project, cache, *build).status == 0
    elsewhere = tmp_path / "artifacts"
    shutil.move(project / "dist", elsewhere)
    (wheel,) = elsewhere.glob("*.whl")
    options = "build", str(wheel), "--config", str(project / "pyproject.toml"), "-o", "dist"
    given = command(project, cache, *options, SOURCE_DATE_EPOCH="1700000000")
    assert given.status == 0, given.output
    built = command(project, cache, "build", SOURCE_DATE_EPOCH="1700000000")
    assert given.digest == built.digest
    assert command(project, cache, "lock").status == 0
    with (project / "hello.py").open("a") as module:
        module.write("EDITED = 1\n")
    shutil.copy(wheel, project / "dist")
    verify = "verify", "--keep-downloads"
    check_failed(command(project, cache, *verify), f"name that too: hatch-docker verify {project}/dist/")
    same = command(project, cache, *verify, f"dist/{wheel.name}")
    assert f"yes, {given.digest}" in same.output


def test_setup_py_docker(tmp_path: Path, cache: Path) -> None:
    """`python setup.py docker` makes the same image, and names the better command in one line."""
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='old', version='1', py_modules=['old'], "
        "entry_points={'console_scripts': ['old=old:main']})\n",
        "old.py": "def main():\n    print('old')\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\n',
    }
    project = write_files(tmp_path / "p", files)
    made = run_in(project, cache, sys.executable, "setup.py", "docker")
    assert made.status == 0, made.output
    assert made.output.count("hatch-docker build") == 1
    digest = made.digest
    assert command(project, cache, "build").digest == digest
    variables = {"HATCH_DOCKER_BASE": "debian:nowhere"}
    refused = run_in(project, cache, sys.executable, "setup.py", "docker", variables=variables)
    check_failed(refused, "error: base 'debian:nowhere'", last_line=True)
