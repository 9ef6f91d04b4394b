"""This machine's SSH agent, forwarded to a build: a socket that leads to it for as long as the build runs.

An agent talks to its owner only, and the sandbox's user is another one. No key leaves the agent, and none is added or
removed: a build may list the keys and have them sign, as with BuildKit.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from hatch_docker.core.errors import ConfigError

VARIABLE = "SSH_AUTH_SOCK"
SOCKET = "/run/ssh-agent.sock"  # in the sandbox
# draft-miller-ssh-agent: a message is its length in four bytes, its type in one, and contents.
ALLOWED = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
REFUSED = b"\0\0\0\1\5"  # SSH_AGENT_FAILURE
LONGEST = 1 << 18  # bytes of a message, as OpenSSH's agent has it


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
    """Have the agent answer each message of a client that is allowed, until one of them ends."""
    with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect(agent)
        while message := _message(client):
            answer = REFUSED
            if message[4] in ALLOWED:
                upstream.sendall(message)
                answer = _message(upstream)
            if not answer:
                return
            client.sendall(answer)


def _message(connection: socket.socket) -> bytes:
    """Return the next message with its length, b"" at the end of a connection and for one that is none."""
    head = connection.recv(4, socket.MSG_WAITALL)
    size = int.from_bytes(head)
    body = connection.recv(size, socket.MSG_WAITALL) if len(head) == 4 and 0 < size <= LONGEST else b""
    return head + body if body and len(body) == size else b""
