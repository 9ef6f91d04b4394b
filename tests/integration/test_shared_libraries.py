"""A shared library that compiled code needs and the image lacks, with real compilers and Debian's archive."""

from pathlib import Path

import pytest

from tests.conftest import need_docker
from tests.integration.builds import build, check_option, run_build
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.engine]


@pytest.mark.parametrize("engine", ["embedded", "buildkit"])
def test_missing_library_is_reported_with_its_package(engine: str, tmp_path: Path, cache: Path) -> None:
    """No file is written. With the package that the error names the module loads and runs."""
    if engine == "buildkit":
        need_docker()
    project = write_project("c-extension", tmp_path / "p", options=check_option("c-extension"))
    hook = project / "hatch_build.py"
    hook.write_text(hook.read_text().replace('"-o", name]', '"-o", name, "-Wl,--no-as-needed", "-lcrypt"]'))
    variables = {"HATCH_DOCKER_ENGINE": engine, "HATCH_DOCKER_BUILD_NETWORK": "false"}
    failed = run_build(project, cache, variables=variables)
    assert failed.status == 1
    assert failed.output.splitlines()[-4:] == [
        ('  libcrypt.so.1: add "libcrypt1" to runtime.packages; '
        "c_extension/_answer.cpython-313-x86_64-linux-gnu.so of c-extension 1.0.0 needs it"),
        "add to pyproject.toml:", "  [tool.hatch-docker.runtime]", '  packages = ["libcrypt1"]',
    ]  # fmt: skip
    assert not list((project / "dist").glob("*"))
    build(project, cache, variables={**variables, "HATCH_DOCKER_RUNTIME_PACKAGES": "libcrypt1"}).item()
