"""Addresses of daemons, and the requests of the Docker Engine API that load an image, without the `docker` library.

Importing that library takes 0.2 s: a build after a change of one line would take 1.4 times as long.
"""

import base64
import contextlib
import json
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.text import sanitize

RESPONSE_LIMIT = 16 << 20  # largest response in bytes
RESPONSE_TIMEOUT = 60      # seconds without a byte of the response
LOAD_TIMEOUT = 600         # the same while an image is loaded
PIECE = 4 << 20            # bytes of an image between two reports of progress
SSH_TIMEOUT = 30           # seconds to connect by ssh; Docker's CLI has the same timeout


class Daemon(NamedTuple):
    """A daemon into which images are loaded. `kind`: "docker" or "podman". `url`: URL of its API, "" for `podman`.

    `certificates`: directory with ca.pem, cert.pem and key.pem, if the API needs TLS with them.
    """

    kind: str
    url: str
    certificates: Path | None = None

    @property
    def socket(self) -> str:
        """Path of the daemon's Unix socket, or ""."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def by_ssh(self) -> bool:
        """True if the connection goes through ssh."""
        return self.url.startswith("ssh://")

    def __str__(self) -> str:
        kind = self.kind.capitalize()
        return f"{kind} at {self.socket or redact_url(self.url)}" if self.url else kind


def connect(daemon: Daemon) -> socket.socket:
    """Connect to a daemon's socket or port. Raises OSError if nothing listens there."""
    if daemon.socket:
        return _connect_socket(daemon.socket)
    try:
        parts = urlsplit(daemon.url)
        host, port = parts.hostname, parts.port or 2375
    except ValueError:  # its message may quote a password
        host = None
    if not host or parts.scheme not in ("tcp", "http", "https"):
        raise OSError(f"{redact_url(daemon.url)} is not the address of a daemon")
    return socket.create_connection((host, port), timeout=1)


def _connect_socket(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


class EngineApi(NamedTuple):
    """The requests of a daemon's API that load images. `path`: a Unix socket, "" to use the daemon's port.

    Each method raises DaemonError for an error response, OSError if the daemon does not listen or respond.
    """

    daemon: Daemon
    path: str

    def info(self) -> dict[str, Any]:
        """Return the daemon's `/info`."""
        return dict(self._get("/info"))

    def image_ids(self) -> list[str]:
        """Return the IDs of all images, newest first."""
        return [str(image["Id"]) for image in self._get("/images/json")]

    def inspect_image(self, name: str) -> dict[str, Any]:
        """Return the description of an image by its name or ID, {} if it does not exist."""
        return dict(self._get(f"/images/{quote(name)}/json") or {})

    def tag(self, image_id: str, name: str) -> None:
        """Tag an image as `name`, repository:tag. If another image has that tag, it loses it."""
        repository, _, tag = name.rpartition(":")
        self._request("POST", f"/images/{image_id}/tag?repo={quote(repository, safe='')}&tag={tag}")

    def load_image(self, archive: BinaryIO, advance: Callable[[int], object] = int) -> None:
        """Load an archive from its start; `advance` gets the bytes sent. Raises DaemonError if it is rejected."""
        _check_lines(self._request("POST", "/images/load?quiet=1", archive, advance))

    def pull(self, reference: str, login: bytes) -> None:
        """Make the daemon pull a tag without TLS. `login`: base64 of user:password. Raises DaemonError."""
        user, _, password = base64.b64decode(login).decode().partition(":")
        value = {"username": user, "password": password, "serveraddress": reference.partition("/")[0]}
        header = f"X-Registry-Auth: {base64.urlsafe_b64encode(json.dumps(value).encode()).decode()}"
        name, _, tag = reference.rpartition(":")
        target = f"/images/create?fromImage={quote(name, safe='')}&tag={tag}"
        if self.daemon.kind == "podman":
            target = f"/v4.0.0/libpod/images/pull?reference={quote(reference, safe='')}&tlsVerify=false&quiet=true"
        _check_lines(self._request("POST", target, header=header))

    def untag(self, name: str) -> None:
        """Remove one tag of an image. The image keeps its other tags."""
        self._request("DELETE", f"/images/{quote(name, safe='')}?noprune=1")

    def _get(self, target: str) -> Any:
        body = self._request("GET", target)
        try:
            return None if body is None else json.loads(body)
        except ValueError as error:
            raise DaemonError(f"{self.daemon} failed: its answer is not JSON") from error

    def _request(
        self, method: str, target: str, body: BinaryIO | None = None, advance: Callable[[int], object] = int,
        header: str = "",
    ) -> bytes | None:
        """Return the body of the response to a request, None for a GET with status 404."""
        size = os.fstat(body.fileno()).st_size if body else 0
        prefix = "" if self.path else urlsplit(self.daemon.url).path.rstrip("/")
        lines = (
            f"{method} {prefix}{target} HTTP/1.0",  # 1.0: the response ends with the connection
            "Host: localhost", "Content-Type: application/x-tar", f"Content-Length: {size}",
            *filter(None, [header]), "", "",
        )  # fmt: skip
        with _connect_socket(self.path) if self.path else _connect_tls(self.daemon) as connection:
            connection.settimeout(LOAD_TIMEOUT if body or header else RESPONSE_TIMEOUT)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a response before the end of the body
                connection.sendall("\r\n".join(lines).encode())
                for start in range(0, size, PIECE):
                    assert body is not None
                    advance(connection.sendfile(body, start, PIECE))
            with connection.makefile("rb") as stream:
                head, _, content = stream.read(RESPONSE_LIMIT).partition(b"\r\n\r\n")
        status = (*head.split(b" ", 2), b"")[1].decode(errors="replace")
        if not status:
            raise ConnectionError("it gave no answer")
        if status == "404" and method == "GET":
            return None
        if status.startswith("2"):
            return content
        try:
            message = json.loads(content)["message"]
        except (ValueError, TypeError, KeyError):
            message = f"its answer has the status {status} and is not JSON"
        raise DaemonError(f"{self.daemon} failed: {message}")


def _check_lines(body: bytes | None) -> None:
    """Raise DaemonError if one of a daemon's progress lines is an error."""
    for line in (body or b"").splitlines():
        try:
            refusal = json.loads(line)["error"]
        except (ValueError, TypeError, KeyError):
            continue
        raise DaemonError(f"the daemon refused the image: {refusal}")


def _connect_tls(daemon: Daemon) -> socket.socket:
    """Connect to a daemon's port, with TLS for an https URL or a daemon with certificates. Raises OSError."""
    connection = connect(daemon)
    if daemon.certificates is None and not daemon.url.startswith("https:"):
        return connection
    import ssl

    directory = daemon.certificates
    context = ssl.create_default_context(cafile=directory / "ca.pem" if directory else None)
    if directory:
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context.wrap_socket(connection, server_hostname=urlsplit(daemon.url).hostname)


@contextlib.contextmanager
def open_socket(daemon: Daemon) -> Iterator[str]:
    """Yield the path of a Unix socket to a daemon, or "". For a daemon by ssh it is a new socket that ssh forwards.

    Raises DaemonError for an invalid address, and if the block raises OSError because ssh has failed.
    """
    if not daemon.by_ssh:
        yield daemon.socket
        return
    from hatch_docker.core.process import ProcessFailed, listen_stdio

    command = ssh_command(daemon)
    with temporary_directory() as directory:
        path = str(directory / "daemon.sock")
        try:
            with listen_stdio(command, path):
                yield path
        except ProgramError as error:
            if not isinstance(error.__cause__, OSError):
                raise  # an error of another program, which the block ran
            advice = (
                f"check that ssh connects without a question, and that `{daemon.kind} version` works there"
                if isinstance(error, ProcessFailed) else 'install OpenSSH, or set load = "never"'
            )  # fmt: skip
            raise DaemonError(f"cannot talk to {daemon}: {sanitize(str(error))}; {advice}") from error


def ssh_command(daemon: Daemon) -> list[str]:
    """Return the command that connects to a daemon by ssh; it is the command of Docker's CLI.

    The address is ssh://[user@]host[:port][/path of the socket]. Raises DaemonError for any other address, also for
    one with a password: every user of this machine can read command lines.
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
