"""What tests share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import NoReturn

import pytest

# A shell ignores SIGINT for what it starts in the background: for us, perhaps, and then for all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests' own uv trusts whom the system trusts, as pip does.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long is left out, unless `-m` asks for it."""
    if "long" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


def missing(what: str) -> NoReturn:
    """The test cannot be run here: it is skipped, and fails where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and nothing is skipped in CI")
    pytest.skip(what)


def need(program: str) -> str:
    """The path of a program that the test needs."""
    return shutil.which(program) or missing(f"{program} is missing")


def need_docker() -> str:
    """The path of docker, whose daemon answers this user."""
    program = need("docker")
    if subprocess.run([program, "info"], capture_output=True, check=False).returncode:
        missing("no Docker daemon answers")
    return program
