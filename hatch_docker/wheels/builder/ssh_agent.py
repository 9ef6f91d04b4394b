"""This machine's SSH agent, forwarded to a build: a socket that leads to it for as long as the build runs.

An agent talks to its owner only, and the sandbox's user is another one. No key leaves the agent.
"""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from hatch_docker.core.errors import ConfigError

VARIABLE = "SSH_AUTH_SOCK"
SOCKET = "/run/ssh-agent.sock"  # in the sandbox
PIECE = 1 << 16


def check_agent(environ: Mapping[str, str]) -> str:
    """Return the path of the agent's socket; raise ConfigError if none answers."""
    path = environ.get(VARIABLE, "")
    try:
        if path:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
            return path
        reason = f"{VARIABLE} is not set"
    except OSError as error:
        reason = f"{VARIABLE} is {path}, where none answers ({error.strerror or error})"
    raise ConfigError(
        f"[tool.hatch-docker.build] ssh needs an SSH agent, and {reason}; start one (ssh-agent), add a key (ssh-add)"
    )


@contextlib.contextmanager
def forwarded_agent(environ: Mapping[str, str], directory: Path) -> Iterator[Path]:
    """Yield a socket in `directory`, which only we can enter, that every user may talk to; remove it at the end."""
    agent = check_agent(environ)
    path = directory / "ssh-agent"
    with socket.socket(socket.AF_UNIX) as server:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            server.bind(f"/proc/self/fd/{descriptor}/{path.name}")  # a socket's path may have 107 bytes
        finally:
            os.close(descriptor)
        path.chmod(0o666)
        server.listen()
        thread = threading.Thread(target=_serve, args=(server, agent), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown(socket.SHUT_RDWR)  # ends accept()
            thread.join()
            path.unlink()


def _serve(server: socket.socket, agent: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_forward, args=(client, agent), daemon=True).start()


def _forward(client: socket.socket, agent: str) -> None:
    """Copy everything from each side to the other, until one of them ends."""
    with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect(agent)
        other = {client: upstream, upstream: client}
        while True:
            for ready in select.select([client, upstream], [], [])[0]:
                data = ready.recv(PIECE)
                if not data:
                    return
                other[ready].sendall(data)
