"""The forks in which the tests run builds behave like new processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import RECENT
from tests.integration.builds import build
from tests.integration.forked_python import is_forkable, run_module, write_program
from tests.projects import write_project


@pytest.mark.parametrize("words", [
    ("hatch_docker", "--version"), ("hatch_docker", "no-such-command"), ("hatch_docker", "build", "no-such-directory"),
    ("hatchling", "build", "-t", "docker"),
])  # fmt: skip
def test_fork_has_status_and_output_of_a_process(words: tuple[str, ...], tmp_path: Path) -> None:
    """In the given directory and with the given variables."""
    command, environ = (sys.executable, "-m", *words), {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")}
    assert is_forkable(command, environ)
    process = subprocess.run(
        command, cwd=tmp_path, env=environ, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert run_module(command, tmp_path, environ, 60) == (process.returncode, process.stdout)


def test_program_for_shells_has_its_own_streams(tmp_path: Path) -> None:
    """It also has its own arguments, directory, variables and exit status."""
    number = write_program(tmp_path)
    script = "./hatch-docker build 'no such' 2>&1 >/dev/null | sed s/such/dir/; ./hatch-docker nothing"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, text=True, check=False, capture_output=True, pass_fds=[number]
    )
    assert "no dir" in done.stdout
    assert (done.returncode, "nothing" in done.stderr) == (2, True)


def test_start_up_variables_and_other_code_are_not_forked() -> None:
    command = (sys.executable, "-m", "hatch_docker")
    assert not is_forkable(command, {**os.environ, "PYTHONHASHSEED": "7"})
    assert not is_forkable((sys.executable, "-c", "pass"), os.environ)


def test_fork_is_killed_after_the_timeout(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_module((sys.executable, "-m", "timeit", "-n", "1", "while True: pass"), tmp_path, os.environ, 0.5)


@pytest.mark.network
def test_fork_records_its_own_start(tmp_path: Path, hello_cache: Path) -> None:
    """A build that is older than a file is not remembered, as the file may have changed while the build ran."""
    build(write_project("hello", tmp_path / "other"), hello_cache)  # starts the fork server
    project = write_project("hello", tmp_path / "p")
    time.sleep(2 * RECENT)
    build(project, hello_cache)
    assert list(build(project, hello_cache).receipt["timings"]) == ["build"]  # the remembered build
