"""`hatch-docker build --watch --run`: after an edit a new image is built and a new container runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import need_docker
from tests.integration.builds import edit, write_program

pytestmark = [pytest.mark.network, pytest.mark.engine]

NAME = "hatch-docker-tested/watched"
MODULE = """
import time
def main():
    while True:
        print("it says one", flush=True)
        time.sleep(0.2)
"""


def wait_until(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_watch_runs_edits_and_continues_after_an_error(tmp_path: Path, cache: Path) -> None:
    docker = need_docker()
    options = f'image = "{NAME}"\n[tool.hatch.build]\ndirectory = "out"\n'
    project, log = write_program(tmp_path / "p", "watched", MODULE, options), tmp_path / "log"
    command = [sys.executable, "-m", "hatch_docker", "build", "--watch", "--run", str(project)]
    environment = {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_LOAD": "always"}
    with log.open("wb") as stream, subprocess.Popen(
        command, stdout=stream, stderr=stream, env=environment, start_new_session=True
    ) as process:
        try:
            wait_until(lambda: "it says one" in log.read_text(), log)
            first = image(docker)
            (project / "watched.py").write_text(MODULE.replace("one", "two"))
            wait_until(lambda: "it says two" in log.read_text(), log)
            assert image(docker) != first
            edit(project, 'version = "1.0"', "version =")
            wait_until(lambda: "not built; watching 2 files" in log.read_text(), log)
            edit(project, "version =\n", 'version = "1.0"\n')
            wait_until(lambda: log.read_text().rstrip().rpartition("changed: ")[2].count("watching 2 files"), log)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
            assert process.wait(60) == 130
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()
    wait_until(lambda: not containers(docker), log)
    subprocess.run([docker, "rmi", f"{NAME}:1.0", f"{NAME}:latest"], capture_output=True, check=True)


def image(docker: str) -> str:
    command = [docker, "image", "inspect", "--format", "{{.Id}}", f"{NAME}:1.0"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def containers(docker: str) -> str:
    command = [docker, "ps", "--all", "--quiet", "--filter", "name=watched-1.0-watch"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
