"""Containers of any user with a read-only root and a tmpfs on /tmp: home directory, user name, libraries' caches."""

import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.registry import Remote
from tests.conftest import run
from tests.fakes.registry import push
from tests.integration.builds import Outcome, build
from tests.integration.compare_engines import PLAIN, written_dockerfile
from tests.integration.docker_registry import Server
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.engine]

USERS = ("65532", "12345", "1000710000:0", "0")
CHECK = "import getpass, pathlib; (pathlib.Path.home() / 'x').write_text('x'); print('user', getpass.getuser());"
# Libraries that write to a cache directory.
LIBRARIES = {
    "matplotlib": "import matplotlib, os; assert os.access(matplotlib.get_cachedir(), os.W_OK); "
    "assert not matplotlib.get_cachedir().startswith('/tmp/matplotlib-')",
    "numba": "import numba, pathlib, hello; assert numba.njit(cache=True)(hello.add)(1) == 2; "
    "assert list(pathlib.Path.home().rglob('*.nbc'))",
    "huggingface_hub": "from huggingface_hub import constants; import os; os.makedirs(constants.HF_HUB_CACHE)",
    "platformdirs": "import platformdirs, os; "
    "assert os.path.isdir(platformdirs.user_cache_dir('x', ensure_exists=True))",
    "pooch": "import pooch; pooch.utils.make_local_storage(pooch.os_cache('x'))",
    "IPython": "import IPython.paths, os; assert os.access(IPython.paths.get_ipython_dir(), os.W_OK)",
}
WHEELS = ("matplotlib", "numba", "huggingface-hub", "platformdirs", "pooch", "ipython")


@pytest.fixture
def image_name(docker: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a name for an image; after the test it is removed from the daemon."""
    name = f"hatch-docker-tests/user-{secrets.token_hex(4)}"
    yield name
    subprocess.run([docker, "rmi", "--force", f"{name}:user"], capture_output=True, check=False)


def outputs(docker: str, outcome: Outcome, name: str, codes: Sequence[str]) -> list[str]:
    """Run each piece of code as each user, in a container of its own; return the outputs."""
    run(docker, "load", "--quiet", "--input", outcome.archive)
    options = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--tmpfs=/tmp"]
    return [
        run(docker, "run", *options, f"--user={user}", "--entrypoint=python", f"{name}:user", "-c", CHECK + code)
        for user in USERS for code in codes
    ]  # fmt: skip


def check_modes(outcome: Outcome) -> None:
    """Check that others may write to no file of the image, except in sticky directories such as /tmp."""
    entries = [entry for layer in outcome.image().layers for entry, _ in layer_entries(layer)]
    assert [entry.path for entry in entries if entry.kind != "symlink" and entry.mode & 0o1002 == 0o002] == []


def test_any_user_has_a_home_and_a_name(docker: str, image_name: str, tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p", options=f'image = "{image_name}"\ntags = ["user"]')
    outcome = build(project, cache, variables=PLAIN)
    check_modes(outcome)
    assert outputs(docker, outcome, image_name, [""]) == ["user nonroot\n"] * len(USERS)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["debian", "registry"])
def test_libraries_write_to_their_caches(
    kind: str, docker: str, image_name: str, server: Server, remote: Remote, tmp_path: Path, cache: Path
) -> None:
    """Six libraries, four users, a base of each kind."""
    project = write_project("hello", tmp_path / "p", options=f'image = "{image_name}"\ntags = ["user"]')
    pyproject = project / "pyproject.toml"
    dependencies = ", ".join(f'"{name}"' for name in WHEELS)
    table = f"[project]\ndependencies = [{dependencies}]\n"
    pyproject.write_text(pyproject.read_text().replace("[project]\n", table, 1))
    module = next(project.rglob("hello.py"), project / "hello/__init__.py")
    module.write_text(f"{module.read_text()}\n\ndef add(x):\n    return x + 1\n")
    base = {}
    if kind == "registry":
        _, dockerfile = written_dockerfile(write_project("hello", tmp_path / "base"), cache)
        image = read_archive(dockerfile.with_suffix(".context") / "images" / "base.tar", foreign=True)
        push(remote, image, [server.name("python:3.13-slim")])
        base = {"HATCH_DOCKER_BASE": f"{server.host}/python:3.13-slim"}
    outcome = build(project, cache, variables={**PLAIN, **base})
    check_modes(outcome)
    assert set(outputs(docker, outcome, image_name, list(LIBRARIES.values()))) == {"user nonroot\n"}
