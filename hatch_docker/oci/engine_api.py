"""What loading takes of Docker's Engine API: spoken by hand over a socket or ssh, else by Docker's library.

The library takes a fifth of a second to import, most of what loading a rebuilt image takes without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote, unquote, urlsplit

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.http.urls import shown
from hatch_docker.core.process import ProcessFailed, talk
from hatch_docker.core.progress import plain

if TYPE_CHECKING:
    from docker import APIClient

ANSWER_LIMIT = 16 << 20  # bytes of an answer over the socket
LOAD_TIMEOUT = 600       # seconds without a byte, while an image is loaded
ANSWER_TIMEOUT = 60      # and while a question is answered
SSH_TIMEOUT = 30         # until ssh is connected, as Docker's own program has it
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Daemon:
    """A place to load images into. `kind` is "docker" or "podman"; `url` is its API's, "" for the program.

    `certificates` is a directory with ca.pem, cert.pem and key.pem where the API wants TLS.
    """

    kind: str
    url: str
    certificates: Path | None = None

    @property
    def socket(self) -> str:
        """The path of its Unix socket, or ""."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def by_ssh(self) -> bool:
        """Whether it is talked to by ssh."""
        return self.url.startswith("ssh://")

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} at {self.socket or shown(self.url)}" if self.url else self.kind.capitalize()


class Api(Protocol):
    """The calls that loading takes; each raises DaemonError, or OSError where nobody is there."""

    def inspect(self, name: str) -> dict[str, Any]:
        """What the daemon says of an image; {} where it has none."""

    def tag(self, image_id: str, name: str) -> None:
        """Give an image a name, repository:tag; another image loses it."""

    def info(self) -> dict[str, Any]:
        """What the daemon says of itself."""

    def newest(self) -> list[str]:
        """The IDs of its images, newest first."""

    def load(self, stream: BinaryIO) -> None:
        """Load an archive that is read from where `stream` stands."""

    def save(self, name: str, out: BinaryIO) -> None:
        """Write the archive of an image, as `docker save` does."""


@contextlib.contextmanager
def open_api(daemon: Daemon) -> Iterator[Api]:
    """A daemon's API; raises DaemonError, of one line, whatever goes wrong with it."""
    with reported(daemon):
        if daemon.socket or daemon.by_ssh:
            yield SocketApi(daemon)
            return
        with open_client(daemon) as client:
            yield LibraryApi(client)


@contextlib.contextmanager
def reported(daemon: Daemon) -> Iterator[None]:
    """Whatever goes wrong with a daemon is a DaemonError of one line."""
    try:
        yield
    except OSError as error:  # what requests raises, too
        raise DaemonError(f"cannot talk to {daemon}: {error}") from error


@contextlib.contextmanager
def open_client(daemon: Daemon) -> Iterator[APIClient]:
    """Docker's library for a daemon; its errors become DaemonErrors."""
    from docker import APIClient
    from docker.errors import DockerException
    from docker.tls import TLSConfig

    tls: Any = False
    try:
        if daemon.certificates is not None:
            path = daemon.certificates
            tls = TLSConfig((path / "cert.pem", path / "key.pem"), path / "ca.pem", verify=True)
        with contextlib.closing(APIClient(daemon.url, "auto", LOAD_TIMEOUT, tls)) as client:
            yield client
    except DockerException as error:
        raise DaemonError(f"{daemon} failed: {str(error).strip()}") from error


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[socket.socket]:
    """A connection for one call; raises OSError where nothing listens, DaemonError where ssh does not get there."""
    if not daemon.by_ssh:
        with contextlib.closing(connect(daemon)) as connection:
            yield connection
        return
    try:
        with talk(ssh_command(daemon)) as connection:
            yield connection
    except ProcessFailed as error:
        raise DaemonError(
            f"cannot talk to {daemon}: {plain(str(error))}; see that ssh gets there without asking, and that "
            f"`{daemon.kind} version` works there"
        ) from error
    except ProgramError as error:
        raise DaemonError(f'cannot talk to {daemon}: {error}; install OpenSSH, or set load = "never"') from error


def ssh_command(daemon: Daemon) -> list[str]:
    """What connects to a daemon by ssh, as Docker's own program does; raises DaemonError for what is no address.

    The address is ssh://[user@]host[:port][/path of the socket]; a password is not for a command line.
    """
    parts = re.fullmatch(
        r"ssh://(?:(?P<user>[^@:/?#-][^@:/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^@:/?#\[\]-][^@:/?#\[\]]*)"
        r"(?::(?P<port>\d{1,5}))?(?P<path>/[^?#]*)?", daemon.url,
    )  # fmt: skip
    if parts is None:
        raise DaemonError(f"{shown(daemon.url)} is not the address of a daemon; write ssh://user@host, or with :port")
    login = ["-l", unquote(parts["user"])] if parts["user"] else []
    port = ["-p", parts["port"]] if parts["port"] else []
    there = [daemon.kind]
    if path := (parts["path"] or "").rstrip("/"):
        there += ["--host" if daemon.kind == "docker" else "--url", shlex.quote(f"unix://{unquote(path)}")]
    return [
        "ssh", *login, *port, "-o", f"ConnectTimeout={SSH_TIMEOUT}", "-T", "--", parts["host"].strip("[]"),
        *there, "system", "dial-stdio",
    ]  # fmt: skip


def connect(daemon: Daemon) -> socket.socket:
    """A connection to a daemon's socket or port; raises OSError where nothing listens."""
    if daemon.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect(daemon.socket)
        except BaseException:
            connection.close()
            raise
        return connection
    try:
        parts = urlsplit(daemon.url)
        host, port = parts.hostname, parts.port or 2375
    except ValueError:  # whose text quotes a part that may be a password
        host = None
    if not host or parts.scheme not in ("tcp", "http", "https"):
        raise OSError(f"{shown(daemon.url)} is not the address of a daemon")
    return socket.create_connection((host, port), timeout=1)


@dataclass(frozen=True, slots=True)
class SocketApi:
    """The API over a Unix socket or ssh, one connection a call (HTTP/1.0: an answer ends with its connection)."""

    daemon: Daemon

    def inspect(self, name: str) -> dict[str, Any]:
        """See Api."""
        status, answer = self._call("GET", f"/images/{quote(name)}/json")
        return {} if status == 404 else self._object(status, answer)

    def tag(self, image_id: str, name: str) -> None:
        """See Api."""
        repository, _, tag = name.rpartition(":")
        self._good(*self._call("POST", f"/images/{image_id}/tag?repo={quote(repository, safe='')}&tag={tag}"))

    def info(self) -> dict[str, Any]:
        """See Api."""
        return self._object(*self._call("GET", "/info"))

    def newest(self) -> list[str]:
        """See Api."""
        found = self._read(*self._call("GET", "/images/json"))
        images = [image for image in found if isinstance(image, dict)] if isinstance(found, list) else []
        return [str(image["Id"]) for image in images if "Id" in image]

    def load(self, stream: BinaryIO) -> None:
        """See Api."""
        status, answer = self._call("POST", "/images/load?quiet=1", stream)
        for line in self._good(status, answer).splitlines():
            with contextlib.suppress(ValueError):
                refused(json.loads(line))

    def save(self, name: str, out: BinaryIO) -> None:
        """See Api."""
        with connected(self.daemon) as connection:
            connection.settimeout(LOAD_TIMEOUT)
            connection.sendall(f"GET /images/{quote(name)}/get HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                status = _status(answer.readline(CHUNK))
                while answer.readline(CHUNK).strip():
                    pass  # the headers
                if status != 200:
                    self._good(status, answer.read(ANSWER_LIMIT))
                shutil.copyfileobj(answer, out, CHUNK)

    def _call(self, method: str, path: str, body: BinaryIO | None = None) -> tuple[int, bytes]:
        size = os.fstat(body.fileno()).st_size - body.tell() if body else 0
        head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"
        with connected(self.daemon) as connection:
            connection.settimeout(LOAD_TIMEOUT if body else ANSWER_TIMEOUT)
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answered before the end
                while body is not None and (chunk := body.read(CHUNK)):
                    connection.sendall(chunk)
            with connection.makefile("rb") as answer:
                first, _, text = answer.read(ANSWER_LIMIT).partition(b"\r\n\r\n")
            return _status(first), text

    def _good(self, status: int, answer: bytes) -> bytes:
        if 200 <= status < 300:
            return answer
        message: Any = None
        with contextlib.suppress(ValueError, AttributeError):
            message = json.loads(answer).get("message")
        raise DaemonError(f"{self.daemon} failed: {message or f'its answer was of status {status}'}")

    def _read(self, status: int, answer: bytes) -> Any:
        try:
            return json.loads(self._good(status, answer))
        except ValueError as error:
            raise DaemonError(f"{self.daemon} gave an answer that is not JSON") from error

    def _object(self, status: int, answer: bytes) -> dict[str, Any]:
        value = self._read(status, answer)
        return value if isinstance(value, dict) else {}


def _status(answer: bytes) -> int:
    """The status of an answer that begins so; raises ConnectionError where there is none."""
    status = answer.split(b" ", 2)[1:2]
    if not status or not status[0].isdigit():
        raise ConnectionError("it gave no answer")
    return int(status[0])


@dataclass(frozen=True, slots=True)
class LibraryApi:
    """The API by Docker's library: over TCP, with TLS or without."""

    client: APIClient

    def inspect(self, name: str) -> dict[str, Any]:
        """See Api."""
        from docker.errors import ImageNotFound

        try:
            return dict(self.client.inspect_image(name))
        except ImageNotFound:
            return {}

    def tag(self, image_id: str, name: str) -> None:
        """See Api."""
        self.client.tag(image_id, *name.rsplit(":", 1), force=True)

    def info(self) -> dict[str, Any]:
        """See Api."""
        return dict(self.client.info())

    def newest(self) -> list[str]:
        """See Api."""
        return [str(image["Id"]) for image in self.client.images()]

    def load(self, stream: BinaryIO) -> None:
        """See Api."""
        for line in self.client.load_image(stream, quiet=True) or ():
            refused(line)

    def save(self, name: str, out: BinaryIO) -> None:
        """See Api."""
        out.writelines(self.client.get_image(name))


def refused(line: Any) -> None:
    """Raise DaemonError where a line of a load's answer tells of an error."""
    if isinstance(line, dict) and "error" in line:
        raise DaemonError(f"the daemon refused the image: {line['error']}")
