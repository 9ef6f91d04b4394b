"""The stages of a build in BuildKit: what they are lent, what of them runs again, what a failed one says."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.oci.layer import layer_entries
from tests.conftest import need
from tests.integration.builds import Outcome, build, run_build
from tests.integration.test_engines_agree import docker, project, run  # noqa: F401 - a fixture

pytestmark = [pytest.mark.network, pytest.mark.engine]

# What a build finds in its variables, written into the package.
LENT = '''
import os, pathlib, socket, struct

def identities():
    """How many keys the agent has: SSH_AGENTC_REQUEST_IDENTITIES of its protocol."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(os.environ["SSH_AUTH_SOCK"])
        agent.sendall(struct.pack(">IB", 1, 11))
        answer = agent.recv(9, socket.MSG_WAITALL)
        return struct.unpack(">IBI", answer)[2]

found = [identities(), os.environ["EDITION"], os.environ["LINES"], os.environ["MORE"]]
pathlib.Path("c_extension/found.py").write_text(f"FOUND = {found!r}\\n")
'''
OPTIONS = """
[tool.hatch-docker.build]
ssh = true
args = { EDITION = "$a \\"b\\"", LINES = "1\\n2" }
env = { MORE = "3\\n4" }
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A real agent with one key; the variables that lead to it."""
    need("ssh-agent"), need("ssh-add"), need("ssh-keygen")
    where = Path(f"/tmp/hatch-docker-agent-{secrets.token_hex(4)}")  # a socket's path is short
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
    variables = {"SSH_AUTH_SOCK": str(where)}
    try:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
        for _ in range(100):
            done = subprocess.run(
                ["ssh-add", tmp_path / "key"], capture_output=True, check=False, env={**os.environ, **variables}
            )
            if done.returncode == 0:
                break
        yield variables
    finally:
        process.terminate()
        process.wait(10)
        where.unlink(missing_ok=True)


def found_by(outcome: Outcome) -> str:
    """What the build wrote down."""
    for entry, stream in layer_entries(outcome.image().layers[-1]):
        if entry.path.endswith("/found.py") and stream is not None:
            return stream.read().decode()
    raise AssertionError("found.py is in no layer")


def test_both_engines_lend_the_ssh_agent_and_pass_arguments(
    docker: str, agent: dict[str, str], tmp_path: Path, cache: Path  # noqa: F811
) -> None:
    """Whatever the values hold; the image has neither key nor socket, and without an agent the error says so."""
    made = project("c-extension", tmp_path / "p", options=OPTIONS)
    hook = made / "hatch_build.py"
    hook.write_text(LENT + hook.read_text())
    one = build(made, cache, variables=agent)
    expected = [1, '$a "b"', "1\n2", "3\n4"]
    assert found_by(one) == f"FOUND = {expected!r}\n"
    digest = one.digest
    # BuildKit's own network is not on every machine; the agent needs none.
    other = build(made, cache, variables={**agent, "HATCH_DOCKER_ENGINE": "buildkit"})
    assert other.digest == digest
    other_edition = {**agent, "HATCH_DOCKER_BUILD_ARGS": "EDITION=small,LINES=1", "HATCH_DOCKER_ENGINE": "buildkit"}
    assert "'small'" in found_by(build(made, cache, variables=other_edition))
    hook.write_text(hook.read_text() + "# edited\n")
    for engine in ("embedded", "buildkit"):
        failed = run_build(made, cache, variables={"SSH_AUTH_SOCK": "", "HATCH_DOCKER_ENGINE": engine})
        assert failed.status == 1
        assert "ssh needs an SSH agent, and SSH_AUTH_SOCK is not set" in failed.output


def test_the_written_dockerfile_takes_what_was_lent(
    docker: str, agent: dict[str, str], tmp_path: Path, cache: Path  # noqa: F811
) -> None:
    """As its first lines say, with an argument set anew."""
    made = project("c-extension", tmp_path / "p", options=OPTIONS + 'secrets = ["TOKEN"]\n')
    hook = made / "hatch_build.py"
    hook.write_text(LENT + 'assert os.environ["TOKEN"] == "s3"\n' + hook.read_text())
    outcome = build(made, cache, verb="docker:dockerfile")
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    lines = [line.removeprefix("# ") for line in dockerfile.read_text().splitlines() if line.startswith("# docker")]
    assert "--secret id=TOKEN,env=TOKEN --ssh default" in lines[-1]
    name = "hatch-docker/tested:lent"
    lines[-1] = lines[-1].replace("c-extension:1.0.0", name).replace(" --file", " --build-arg EDITION=x --file")
    for line in lines:
        run(*line.split(), cwd=outcome.directory, variables={**agent, "TOKEN": "s3"})
    try:
        program = "from c_extension.found import FOUND; print(FOUND)"
        command = [docker, "run", "--rm", "--network=none", "--entrypoint=python", name, "-c", program]
        assert run(*command) == f"{[1, 'x', chr(10).join('12'), chr(10).join('34')]!r}\n"
    finally:
        run(docker, "rmi", "--force", name)
