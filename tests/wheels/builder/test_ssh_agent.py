"""The forwarded SSH agent: a build can list keys and sign; other messages are rejected."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from hatch_docker.wheels.builder.ssh_agent import forwarded_agent
from tests.conftest import need


def run_client(socket: Path | str, *command: str) -> tuple[int, str]:
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(socket)}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=30, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [["-D"], ["-d", "key"], ["key2"]])
def test_build_cannot_modify_the_agent(options: list[str]) -> None:
    """Otherwise a build could remove keys, lock the agent, or load a library into it."""
    need("ssh-agent")
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has a limit
        place = Path(short)
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", place / "a"], stdout=subprocess.PIPE)
        try:
            assert agent.stdout is not None
            agent.stdout.readline()
            for name in ("key", "key2"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
            assert run_client(place / "a", "ssh-add", str(place / "key"))[0] == 0
            before = run_client(place / "a", "ssh-add", "-L")
            with forwarded_agent({"SSH_AUTH_SOCK": str(place / "a")}, place) as socket:
                assert run_client(socket, "ssh-add", "-L") == before
                words = [str(place / word) if word.startswith("key") else word for word in options]
                assert run_client(socket, "ssh-add", *words)[0] != 0
                assert run_client(socket, "ssh-add", "-T", f"{place}/key.pub")[0] == 0  # it signs
            assert run_client(place / "a", "ssh-add", "-L") == before
        finally:
            agent.terminate()
            agent.wait()
            assert agent.stdout is not None
            agent.stdout.close()
