"""Builds without a daemon, a network and root rights, which change only their own files: observed with strace."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.integration.builds import build
from tests.integration.strace import changed_by
from tests.integration.unprivileged import ENGINES
from tests.projects import write_project

pytestmark = pytest.mark.network

PREPARE = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec "$@"'


def programs_without_engines(directory: Path) -> Path:
    """Return a directory with links to all programs of this machine except container engines."""
    directory.mkdir()
    for place in ("/bin", "/usr/bin", "/usr/sbin", "/sbin"):
        for path in Path(place).iterdir():
            if path.name not in ENGINES and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return directory


def edit(project: Path) -> None:
    """Change the C code, so that no cache has the compiled result."""
    (source,) = project.rglob("*.c")
    source.write_text(f'{source.read_text()}\nconst char mark[] = "{project}";\n')


@pytest.mark.engine
def test_build_and_push_without_daemon_and_network(tmp_path: Path, cache: Path) -> None:
    """In a separate network namespace, with the cache of an earlier build. C code is compiled."""
    need("docker-registry")
    project = write_project("c-extension", tmp_path / "p")
    first = build(project, cache).digest
    edit(project)
    own = [need("unshare"), "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    program = [sys.executable, "-m", "tests.integration.unprivileged"]
    done = subprocess.run(
        [*own, "sh", "-c", PREPARE, "sh", *program, project, cache, tmp_path],
        cwd=Path(__file__).parent.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=600, check=False, env={**os.environ, "PATH": str(programs_without_engines(tmp_path / "bin"))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    again = build(project, cache)
    assert again.digest == done.stdout.split()[-1] != first
    assert again.new_layers() == []


def test_build_writes_only_to_cache_dist_and_tmpdir(tmp_path: Path, cache: Path) -> None:
    """Checked for all processes of a build that compiles. The home directory stays empty."""
    project = write_project("c-extension", tmp_path / "p")
    edit(project)
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environ = {
        **os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "HATCH_DOCKER_LOAD": "never",
        "HATCH_DOCKER_CACHE_DIR": str(cache),
    }  # fmt: skip
    environ.pop("XDG_CACHE_HOME", None)
    changed = changed_by(
        [sys.executable, "-m", "hatchling", "build", "-t", "docker"], project, tmp_path / "traces", environ
    )  # fmt: skip
    allowed = [str(cache), str(tmp_path / "tmp"), str(project / "dist")]
    outside = {path for path in changed if not any(path == place or path.startswith(f"{place}/") for place in allowed)}
    assert {path for path in outside if not path.startswith(("/proc/", "/dev/null"))} == set()
    assert any(path.endswith(".oci.tar") for path in changed), "strace reports changes"
    assert any("/v1/blobs/" in path for path in changed)
    assert list((tmp_path / "home").iterdir()) == []


def test_programs_of_the_cache_run_only_in_the_sandbox(tmp_path: Path, cache: Path) -> None:
    """In the sandbox paths belong to another root. The Python that makes .pyc files and the compiler are traced too."""
    project = write_project("c-extension", tmp_path / "p")
    build(project, cache)
    edit(project)
    trace = tmp_path / "trace"
    subprocess.run(
        [need("strace"), "-f", "-qq", "-e", "signal=none", "-e", "trace=execve", "-o", trace,
         sys.executable, "-m", "hatchling", "build", "-t", "docker"],
        cwd=project, env={**os.environ, "HATCH_DOCKER_LOAD": "never", "HATCH_DOCKER_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL, check=True, timeout=600,
    )  # fmt: skip
    programs = re.findall(r'execve\("([^"]+)", .* = 0$', trace.read_text(errors="replace"), re.MULTILINE)
    assert "/env/bin/python" in programs, "the builder was traced"
    assert not [path for path in programs if path.startswith(str(cache))]
