"""`hatch-docker doctor` on this machine: as root, as an ordinary user, and without namespaces."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need, need_docker
from tests.integration.builds import install_in_new_venv, other_python
from tests.projects import write_project


def doctor(
    project: Path, cache: Path, *options: str, python: str = sys.executable, prefix: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None, **run: Any,
) -> tuple[int, dict[str, list[str]]]:
    """Run the command; return its exit status and its lines by topic."""
    environment = {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), **(variables or {})}
    done = subprocess.run(
        [*prefix, python, "-m", "hatch_docker", "doctor", str(project), *options], env=environment, text=True,
        capture_output=True, timeout=120, check=False, **run,
    )  # fmt: skip
    assert done.stderr == ""
    lines: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        lines.setdefault(line[4:16].strip(), []).append(f"{line[:2]} {line[18:]}")
    return done.returncode, lines


@pytest.mark.network
@pytest.mark.engine
def test_doctor_on_a_working_machine(tmp_path: Path, cache: Path) -> None:
    """It checks namespaces, Docker, buildx, Debian's mirror and the package index."""
    need_docker()
    project = write_project("c-extension", tmp_path / "p")
    status, lines = doctor(project, cache)
    assert status == 0, lines
    for topic in ("project", "sandbox", "docker", "buildkit", "cache", "debian", "index", "uv"):
        assert all(line.startswith("ok ") for line in lines[topic]), lines[topic]
    assert lines["debian"][0].endswith("trixie, trixie-updates, trixie-security signed by Debian")


def test_doctor_without_namespaces(tmp_path: Path) -> None:
    """Compiled code cannot be built: exit status 1, and the line names the sysctl. For pure code it is a note."""
    need("unshare")
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\""
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    status, lines = doctor(write_project("c-extension", tmp_path / "p"), tmp_path / "cache", "--offline", prefix=prefix)
    assert status == 1
    (line,) = lines["sandbox"]
    assert line.startswith("!! the sandbox cannot be entered (unshare: No space left on device); ")
    assert "sysctl user.max_user_namespaces is too low" in line
    status, lines = doctor(write_project("hello", tmp_path / "q"), tmp_path / "cache", "--offline", prefix=prefix)
    assert (status, lines["sandbox"][0][:2]) == (0, "--")


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are those of an ordinary user")
def test_doctor_as_ordinary_user(tmp_path: Path, public_dir: Path) -> None:
    """Without access to Docker the line names the group; without a writable cache, the variable."""
    need_docker()
    install_in_new_venv(other_python(), public_dir / "venv")
    project = write_project("hello", public_dir / "p")
    cache = public_dir / "cache"
    cache.mkdir()
    os.chown(project, 65534, 65534)  # builds of this user write to it
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    variables = {"HOME": str(cache), "TMPDIR": "/tmp", "DOCKER_HOST": "unix:///var/run/docker.sock"}
    python = str(public_dir / "venv/bin/python")
    status, lines = doctor(project, cache, "--offline", python=python, variables=variables, cwd=public_dir, **user)
    assert status == 1
    assert lines["cache"][0].startswith(f"!! cannot use the cache {cache}: Permission denied; set HATCH_DOCKER_CACHE")
    assert "join the group docker" in lines["docker"][0]
    os.chown(cache, 65534, 65534)
    status, lines = doctor(project, cache, "--offline", python=python, variables=variables, cwd=public_dir, **user)
    assert (status, lines["cache"][0][:2]) == (0, "ok"), lines
    assert lines["sandbox"][0].startswith("ok namespaces can be entered by ")
    assert lines["docker"][0].startswith("-- ")
