"""A Docker daemon that is reached by ssh (`DOCKER_HOST=ssh://...`), with an sshd that the tests start."""

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

# Host names: `far` has Docker, `bare` has no docker program on its PATH, `closed` offers a key that is not authorized.
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
class Sshd:
    """The port of an sshd, and a PATH with a program `ssh` that uses the test's configuration, not the user's."""

    port: int
    path: str

    def daemon(self, host: str = "far", path: str = "", kind: str = "docker") -> Daemon:
        return Daemon(kind, f"ssh://{getpass.getuser()}@{host}:{self.port}{path}")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    need_docker(), need("ssh-keygen")
    ssh, place = need("ssh"), tmp_path_factory.mktemp("ssh")
    program = Path("/usr/sbin/sshd")
    if not program.exists() or os.geteuid() != 0:
        missing("starting sshd needs openssh-server and root")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's directory for privilege separation
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
        process = subprocess.Popen([program, "-D", "-e", "-p", str(port), "-f", place / "sshd_config"], stderr=log)
    try:
        deadline = time.monotonic() + 30
        while "listening" not in (place / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield Sshd(port, f"{place}/bin:{os.environ['PATH']}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.network
def test_image_is_loaded_over_ssh(sshd: Sshd, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only DOCKER_HOST is set. The image is loaded once; `save` and `run_once` also use the connection."""
    monkeypatch.setenv("PATH", sshd.path)
    project = write_project("hello", tmp_path / "p", options='image = "localhost/by-ssh"\ntags = ["by-ssh"]')
    variables = {"DOCKER_HOST": sshd.daemon().url, "HATCH_DOCKER_LOAD": "auto"}
    name = "localhost/by-ssh:by-ssh"
    try:
        first = build(project, cache, variables=variables)
        assert f"Docker at ssh://far:{sshd.port}: {name}" in first.output
        done = subprocess.run(["docker", "run", "--rm", name], capture_output=True, text=True, check=True)
        assert done.stdout == KINDS["hello"].output
        again = build(project, cache, variables=variables)
        assert f"Docker at ssh://far:{sshd.port}: {name}" in again.output
        save(sshd.daemon(), name, tmp_path / "saved.tar")
        assert (tmp_path / "saved.tar").stat().st_size > first.archive.stat().st_size / 2
        image, command = first.image(), ["python3", "-c", "print('there'); raise SystemExit(3)"]
        assert run_once(sshd.daemon(), image, command, print, timeout=120) == (3, "there")
        sleep = ["python3", "-c", "import time; time.sleep(600)"]
        with pytest.raises(TimedOut):
            run_once(sshd.daemon(), image, sleep, print, timeout=2)
        left = ["docker", "ps", "--all", "--quiet", f"--filter=ancestor={name}"]
        assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.mark.parametrize(("host", "path", "words"), [
    ("closed", "", r"Permission denied \(publickey\)\."),
    ("bare", "", r".*docker: (command )?not found"),
    ("far", "/no/such.sock", r".*dial unix /no/such\.sock: connect: no such file or directory"),
])  # fmt: skip
def test_failed_connection(host: str, path: str, words: str, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line with address, ssh's message and advice; ssh does not prompt."""
    monkeypatch.setenv("PATH", sshd.path)
    pattern = rf"^cannot talk to Docker at ssh://{host}:{sshd.port}{path}: .*{words}; check that ssh connects without"
    with pytest.raises(DaemonError, match=pattern) as error, open_client(sshd.daemon(host, path)) as client:
        client.info()
    assert "\n" not in str(error.value)


def test_path_of_the_remote_socket(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address can contain the path of the socket, as Docker's command allows."""
    monkeypatch.setenv("PATH", sshd.path)
    with open_client(sshd.daemon(path="/var/run/docker.sock")) as client, open_client(sshd.daemon()) as default:
        assert client.info()["ID"] == default.info()["ID"] != ""
