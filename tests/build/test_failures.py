"""Error messages: the commands in them work in the user's shell."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.build.failures import shell_command, terminal_text
from hatch_docker.core.errors import ConfigError

OWN = Path(sys.executable).parent
MODULE = shlex.join([sys.executable, "-m", "hatch_docker"])


@pytest.mark.parametrize(("path", "prefix", "hatch", "expected"), [
    (str(OWN), "", False, "hatch-docker"),
    (str(OWN), "", True, MODULE),
    ("/nowhere", "", False, MODULE),
    (f"{OWN}:{{elsewhere}}", "", True, "hatch-docker"),
    (str(OWN), "/home/u/.cache/uv/archive-v0/x1", False, "uvx hatch-docker"),
    ("/nowhere", "/tmp/build-env-1x", True, "hatch-docker"),
])  # fmt: skip
def test_command_in_errors_is_on_the_path_of_the_user(
    path: str, prefix: str, hatch: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs in an environment of hatch, uvx or a build tool are not on the user's PATH."""
    (tmp_path / "hatch-docker").touch(0o755)
    monkeypatch.setenv("PATH", path.format(elsewhere=tmp_path))
    if prefix:
        monkeypatch.setattr(sys, "prefix", prefix)
    assert shell_command(hatch=hatch) == expected
    assert terminal_text(ConfigError("run `hatch-docker lock`\x1b"), hatch=hatch) == f"run `{expected} lock`\\x1b"


def test_command_in_error_of_hatch_build_can_be_executed(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\nversion = '1'\n[tool.hatch-docker]\n")
    environ = {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "hatchling", "build", "-t", "docker:plan"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    command = done.stderr.partition("`")[2].partition("`")[0]
    assert command == f"{MODULE} init"
    environ["PATH"] = "/usr/bin:/bin"
    again = subprocess.run(f"{command} --dry-run", shell=True, cwd=tmp_path, env=environ, check=False)
    assert again.returncode == 0
