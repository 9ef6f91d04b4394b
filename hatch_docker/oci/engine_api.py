"""Addresses of daemons, and the one question that is asked without the `docker` library: does it have this image?

Importing the library takes 0.2 s, and an unchanged build asks nothing else.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.process import ProcessFailed, listen_stdio
from hatch_docker.core.text import sanitize

ANSWER_LIMIT = 16 << 20  # bytes of an answer
ANSWER_TIMEOUT = 60      # seconds without a byte, while a question is answered
SSH_TIMEOUT = 30         # seconds until ssh is connected, as Docker's own program has it


@dataclass(frozen=True, slots=True)
class Daemon:
    """A place to load images into: `kind` is "docker" or "podman", `url` the URL of its API, "" for Podman's program.

    `certificates` is a directory with ca.pem, cert.pem and key.pem where the API wants TLS.
    """

    kind: str
    url: str
    certificates: Path | None = None

    @property
    def socket(self) -> str:
        """Path of its Unix socket, or ""."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def by_ssh(self) -> bool:
        """True if the connection goes through ssh."""
        return self.url.startswith("ssh://")

    def __str__(self) -> str:
        kind = self.kind.capitalize()
        return f"{kind} at {self.socket or redact_url(self.url)}" if self.url else kind


def connect(daemon: Daemon) -> socket.socket:
    """Connect to a daemon's socket or port; raises OSError where nothing listens."""
    if daemon.socket:
        return _connect(daemon.socket, timeout=5)
    try:
        parts = urlsplit(daemon.url)
        host, port = parts.hostname, parts.port or 2375
    except ValueError:  # whose text quotes a part that may be a password
        host = None
    if not host or parts.scheme not in ("tcp", "http", "https"):
        raise OSError(f"{redact_url(daemon.url)} is not the address of a daemon")
    return socket.create_connection((host, port), timeout=1)


def _connect(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def inspect_image(daemon: Daemon, path: str, name: str) -> dict[str, Any]:
    """Ask a daemon for an image, through the socket of `open_socket`; returns its description, {} if it has none.

    Raises DaemonError for an answer that is an error, OSError if nothing listens. In HTTP/1.0 the end of the
    connection is the end of the answer.
    """
    with _connect(path, ANSWER_TIMEOUT) as connection:
        connection.sendall(f"GET /images/{quote(name)}/json HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, _, body = stream.read(ANSWER_LIMIT).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not status:
        raise ConnectionError("it gave no answer")
    if status == [b"404"]:
        return {}
    try:
        answer = json.loads(body)
        if status == [b"200"]:
            return dict(answer)
        message = answer["message"]
    except (ValueError, TypeError, KeyError):
        message = f"its answer has the status {status[0].decode(errors='replace')} and is not JSON"
    raise DaemonError(f"{daemon} failed: {message}")


@contextlib.contextmanager
def open_socket(daemon: Daemon) -> Iterator[str]:
    """Yield the path of a Unix socket that leads to a daemon: its own, or one whose connections go through ssh.

    Raises DaemonError for an address that is not valid, and if the block raises OSError because ssh had failed.
    """
    if not daemon.by_ssh:
        yield daemon.socket
        return
    command = ssh_command(daemon)
    with temporary_directory() as directory:
        path = str(directory / "daemon.sock")
        try:
            with listen_stdio(command, path):
                yield path
        except ProgramError as error:
            if not isinstance(error.__cause__, OSError):
                raise  # another program than ssh, which the block ran
            advice = (
                f"see that ssh gets there without asking, and that `{daemon.kind} version` works there"
                if isinstance(error, ProcessFailed) else 'install OpenSSH, or set load = "never"'
            )  # fmt: skip
            raise DaemonError(f"cannot talk to {daemon}: {sanitize(str(error))}; {advice}") from error


def ssh_command(daemon: Daemon) -> list[str]:
    """Return the command that connects to a daemon by ssh, as Docker's own program does.

    The address is ssh://[user@]host[:port][/path of the socket]. Raises DaemonError for anything else, a password
    included, which every user of this machine could read in a command line.
    """
    parts = re.fullmatch(
        r"ssh://(?:(?P<user>[^@:/?#-][^@:/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^@:/?#\[\]-][^@:/?#\[\]]*)"
        r"(?::(?P<port>\d{1,5}))?(?P<path>/[^?#]*)?", daemon.url,
    )  # fmt: skip
    if parts is None:
        address = redact_url(daemon.url)
        raise DaemonError(f"{address} is not the address of a daemon; write ssh://user@host, or with :port")
    login = ["-l", unquote(parts["user"])] if parts["user"] else []
    port = ["-p", parts["port"]] if parts["port"] else []
    program = [daemon.kind]
    if path := (parts["path"] or "").rstrip("/"):
        program += ["--host" if daemon.kind == "docker" else "--url", shlex.quote(f"unix://{unquote(path)}")]
    return [
        "ssh", *login, *port, "-o", f"ConnectTimeout={SSH_TIMEOUT}", "-T", "--", parts["host"].strip("[]"),
        *program, "system", "dial-stdio",
    ]  # fmt: skip
