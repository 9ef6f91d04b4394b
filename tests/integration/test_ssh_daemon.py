"""A daemon on another machine: what Docker's own program reaches by ssh, we do; here by an sshd of the test's own."""

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatch_docker.core.errors import DaemonError
from hatch_docker.core.process import TimedOut
from hatch_docker.oci.daemon import open_client, save
from hatch_docker.oci.engine_api import Daemon
from hatch_docker.oci.run import run_once
from tests.conftest import missing, need, need_docker, script
from tests.integration.builds import build
from tests.projects import KINDS, write_project

pytestmark = pytest.mark.engine

# `far` is where Docker is, `bare` has no program, and what `closed` offers is no key of the server's.
CONFIG = """\
Host far bare closed
HostName 127.0.0.1
IdentitiesOnly yes
UserKnownHostsFile {place}/known
IdentityFile {place}/%n
"""
SERVER = """\
ListenAddress 127.0.0.1
HostKey {place}/host
PidFile none
AuthorizedKeysFile {place}/authorized
PermitRootLogin prohibit-password
PermitUserEnvironment yes
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
"""


@dataclass(frozen=True)
class Far:
    """Where an sshd listens, and a PATH whose `ssh` has the test's configuration: its own reads the user's alone."""

    port: int
    path: str

    def daemon(self, host: str = "far", path: str = "", kind: str = "docker") -> Daemon:
        return Daemon(kind, f"ssh://{getpass.getuser()}@{host}:{self.port}{path}")


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    need_docker(), need("ssh-keygen")
    ssh, place = need("ssh"), tmp_path_factory.mktemp("ssh")
    sshd = Path("/usr/sbin/sshd")
    if not sshd.exists() or os.geteuid() != 0:
        missing("an sshd of one's own needs openssh-server and root")
    Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up
    for name in ("host", "far", "bare", "closed"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
    keys = {name: (place / f"{name}.pub").read_text() for name in ("host", "far", "bare")}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (place / "authorized").write_text(f'{keys["far"]}environment="PATH=/nowhere" {keys["bare"]}')
    (place / "known").write_text(f"[127.0.0.1]:{port} {keys['host']}")
    (place / "config").write_text(CONFIG.format(place=place))
    (place / "sshd_config").write_text(SERVER.format(place=place))
    script(place / "bin/ssh", f'exec {ssh} -F {place}/config "$@"')
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-p", str(port), "-f", place / "sshd_config"], stderr=log)
    try:
        deadline = time.monotonic() + 30
        while "listening" not in (place / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Far(port, f"{place}/bin:{os.environ['PATH']}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.network
def test_a_build_is_loaded_by_ssh(far: Far, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DOCKER_HOST alone; it runs there, is saved from there, is not sent twice, and runs a check there."""
    monkeypatch.setenv("PATH", far.path)
    project = write_project("hello", tmp_path / "p", options='image = "localhost/by-ssh"\ntags = ["by-ssh"]')
    variables = {"DOCKER_HOST": far.daemon().url, "HATCH_DOCKER_LOAD": "auto"}
    name = "localhost/by-ssh:by-ssh"
    try:
        first = build(project, cache, variables=variables)
        assert f"Docker at ssh://far:{far.port}: {name}" in first.output
        done = subprocess.run(["docker", "run", "--rm", name], capture_output=True, text=True, check=True)
        assert done.stdout == KINDS["hello"].output
        again = build(project, cache, variables=variables)
        assert f"Docker at ssh://far:{far.port}: {name}" in again.output
        save(far.daemon(), name, tmp_path / "saved.tar")
        assert (tmp_path / "saved.tar").stat().st_size > first.archive.stat().st_size / 2
        image, command = first.image(), ["python3", "-c", "print('there'); raise SystemExit(3)"]
        assert run_once(far.daemon(), image, command, print, timeout=120) == (3, "there")
        sleep = ["python3", "-c", "import time; time.sleep(600)"]
        with pytest.raises(TimedOut):
            run_once(far.daemon(), image, sleep, print, timeout=2)
        left = ["docker", "ps", "--all", "--quiet", f"--filter=ancestor={name}"]
        assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.mark.parametrize(("host", "path", "said"), [
    ("closed", "", r"Permission denied \(publickey\)\."),
    ("bare", "", r".*docker: (command )?not found"),
    ("far", "/no/such.sock", r".*dial unix /no/such\.sock: connect: no such file or directory"),
])  # fmt: skip
def test_a_refusal_has_ssh_s_words(host: str, path: str, said: str, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one line, where and why, and what to try; nothing is asked, and nothing waits."""
    monkeypatch.setenv("PATH", far.path)
    wanted = rf"^cannot talk to Docker at ssh://{host}:{far.port}{path}: .*{said}; check that ssh connects without"
    with pytest.raises(DaemonError, match=wanted) as error, open_client(far.daemon(host, path)) as client:
        client.info()
    assert "\n" not in str(error.value)


def test_a_socket_of_the_other_machine_can_be_named(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's by a path in the address, as Docker's program has it."""
    monkeypatch.setenv("PATH", far.path)
    with open_client(far.daemon(path="/var/run/docker.sock")) as client, open_client(far.daemon()) as usual:
        assert client.info()["ID"] == usual.info()["ID"] != ""
