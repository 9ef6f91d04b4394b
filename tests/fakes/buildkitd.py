"""A BuildKit far away: a second Docker daemon, empty, in a network of its own, spoken to over TCP.

Debian has no buildkitd, and Docker's daemon is one: a request that it upgrades at /grpc is BuildKit's own
protocol from there on.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@contextlib.contextmanager
def network() -> Iterator[list[str]]:
    """A network with a loopback and nothing else; the words before a command that put it there. Needs root.

    What is mounted there is nobody else's, and gone with it, also where a daemon was killed.
    """
    command = ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield ["nsenter", f"--net=/proc/{process.pid}/ns/net", f"--mount=/proc/{process.pid}/ns/mnt"]
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """A bridge for a daemon in the machine's network: one without a bridge would remove that of the machine's daemon.

    Needs root.
    """
    name = f"hatch{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "172.31.252.1/24", "dev", name], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@contextlib.contextmanager
def buildkitd(directory: Path, inside: Sequence[str], bridge: str = "none") -> Iterator[tuple[str, str]]:
    """Start one with its files in a directory; its address for buildx's remote driver, and the daemon's own.

    It has the containerd store, which can export caches, and the network `inside`, which keeps it from the bridge of
    the machine's own daemon, or a `bridge`. Needs root.
    """
    features = {"features": {"containerd-snapshotter": True}, "bridge": bridge, "iptables": False, "ip6tables": False}
    (directory / "daemon.json").write_text(json.dumps(features))
    path = directory / "docker.sock"
    command = [*inside, "dockerd", f"--config-file={directory / 'daemon.json'}", f"--host=unix://{path}"]
    command += [f"--{name}-root={directory / name}" for name in ("data", "exec")] + [f"--pidfile={directory / 'pid'}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(path, process, directory / "log")
        with relay(path) as (address, _):
            yield address, f"unix://{path}"
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(directory, ignore_errors=True)


def _wait(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), _upgraded(path):
            return
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def _upgraded(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        connection.sendall(UPGRADE)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = connection.recv(1)
            if not piece:
                raise ConnectionError(answer)
            answer += piece
        if b" 101 " not in answer:
            raise ConnectionError(answer)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def relay(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a port that leads to the BuildKit of a daemon's socket, and what cuts all of its connections."""
    open_ends: list[socket.socket] = []

    def cut() -> None:
        server.close()
        for end in open_ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, path, open_ends), daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}", cut


def _serve(server: socket.socket, path: Path, open_ends: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # closed when the test ends
        while True:
            client, _ = server.accept()
            try:
                daemon = _upgraded(path)
            except OSError:  # it was killed
                client.close()
                continue
            open_ends += [client, daemon]
            for one, other in ((client, daemon), (daemon, client)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 20):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
