"""The machine's SSH agent, forwarded to a build through a socket that exists while the build runs.

The forwarding is needed because an agent accepts only its owner, and the sandbox has another user. A build may list the
keys and request signatures, as with BuildKit. It cannot read, add or remove keys.
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
# draft-miller-ssh-agent: a message has its length (4 bytes), its type (1 byte) and contents.
ALLOWED = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
REFUSED = b"\0\0\0\1\5"  # SSH_AGENT_FAILURE
LONGEST = 1 << 18  # bytes of a message, as in OpenSSH's agent


def check_agent(environ: Mapping[str, str]) -> str:
    """Return the path of the agent's socket. Raise ConfigError if no agent responds."""
    path = environ.get(VARIABLE, "")
    try:
        if path:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
            return path
        reason = f"{VARIABLE} is not set"
    except OSError as error:
        reason = f"{VARIABLE} is {path}, where no agent answers ({error.strerror or error})"
    raise ConfigError(
        f"[tool.hatch-docker.build] ssh needs an SSH agent, and {reason}; start one (ssh-agent), add a key (ssh-add)"
    )


@contextlib.contextmanager
def forwarded_agent(environ: Mapping[str, str], directory: Path) -> Iterator[Path]:
    """Yield a socket in `directory` that all users can connect to; remove it at the end.

    `directory` must be accessible to this user only.
    """
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
    """Forward the allowed messages of a client to the agent, until one of them closes the connection."""
    with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect(agent)
        while message := _message(client):
            reply = REFUSED
            if message[4] in ALLOWED:
                upstream.sendall(message)
                reply = _message(upstream)
            if not reply:
                return
            client.sendall(reply)


def _message(connection: socket.socket) -> bytes:
    """Return the next message with its length, b"" at the end of the connection and for an invalid message."""
    head = connection.recv(4, socket.MSG_WAITALL)
    size = int.from_bytes(head)
    body = connection.recv(size, socket.MSG_WAITALL) if len(head) == 4 and 0 < size <= LONGEST else b""
    return head + body if body and len(body) == size else b""
