"""No daemon, no network, no root, and no file touched but those of the build: each observed from outside."""

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
    """A directory of all programs of this machine, but those that run containers."""
    directory.mkdir()
    for place in ("/bin", "/usr/bin", "/usr/sbin", "/sbin"):
        for path in Path(place).iterdir():
            if path.name not in ENGINES and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return directory


def edit(project: Path) -> None:
    """Other C code than anybody compiled before."""
    (source,) = project.rglob("*.c")
    source.write_text(f'{source.read_text()}\nconst char mark[] = "{project}";\n')


@pytest.mark.engine
def test_without_daemon_and_network_an_image_is_made_pushed_and_built_upon(tmp_path: Path, cache: Path) -> None:
    """In a network namespace of its own, with the cache of a build before: C code is compiled, too."""
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
    assert again.made() == []


def test_no_file_is_touched_but_in_cache_output_and_temporary_directory(tmp_path: Path, cache: Path) -> None:
    """By any process of a build that compiles, as strace sees them; the home directory stays empty."""
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
    assert any(path.endswith(".oci.tar") for path in changed), "so changes are seen"
    assert any("/v1/blobs/" in path for path in changed)
    assert list((tmp_path / "home").iterdir()) == []


def test_no_program_of_the_cache_runs_outside_of_the_sandbox(tmp_path: Path, cache: Path) -> None:
    """Inside, programs have paths of another root; the Python that makes .pyc, and the compiler, are programs too."""
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
