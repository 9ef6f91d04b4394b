"""A remote BuildKit: a second Docker daemon with an empty store, in a separate network, reached over TCP.

Debian has no package of buildkitd, but Docker's daemon contains BuildKit: after an HTTP upgrade at /grpc, the
connection uses BuildKit's protocol.
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
    """Make a network namespace with only a loopback. Yield the start of a command line that runs in it. Needs root.

    It has its own mount namespace, so mounts disappear with it, even if a daemon was killed.
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
    """Make a bridge in the machine's network for a daemon, and yield its name. Needs root.

    A daemon without a bridge of its own would remove the bridge of the machine's daemon.
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
    """Start a daemon. Yield its address for buildx's remote driver, and its Docker address. Needs root.

    `directory`: for the daemon's files. `inside`: the start of the command line from `network`, so that the daemon
    does not change the bridge of the machine's daemon; else `bridge`. The daemon has the containerd store, which is
    needed to export caches.
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
    """Forward a TCP port to the BuildKit of a daemon's socket. Yield its address, and a function that cuts connections.
    """
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
            except OSError:  # the daemon was killed
                client.close()
                continue
            open_ends += [client, daemon]
            for source, target in ((client, daemon), (daemon, client)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 20):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
