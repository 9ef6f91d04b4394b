"""What loading takes of Docker's Engine API: spoken by hand over a socket of this machine, else by Docker's library.

The library takes a fifth of a second to import, most of what loading a rebuilt image takes without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote, urlsplit

from hatch_docker.errors import DaemonError
from hatch_docker.urls import shown

if TYPE_CHECKING:
    from docker import APIClient

ANSWER_LIMIT = 16 << 20  # bytes of an answer over the socket
LOAD_TIMEOUT = 600       # seconds without a byte, while an image is loaded
ANSWER_TIMEOUT = 60      # and while a question is answered
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
        if daemon.socket:
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
    import importlib.util

    if daemon.url.startswith("ssh://") and importlib.util.find_spec("paramiko") is None:  # though ssh itself is run
        raise DaemonError(
            f"{daemon}: images are loaded over ssh with the package paramiko; install it beside hatch-docker, or set "
            'load = "never"'
        )
    from docker import APIClient
    from docker.errors import DockerException
    from docker.tls import TLSConfig

    tls: Any = False
    try:
        if daemon.certificates is not None:
            path = daemon.certificates
            tls = TLSConfig((path / "cert.pem", path / "key.pem"), path / "ca.pem", verify=True)
        with contextlib.closing(
            APIClient(daemon.url, "auto", LOAD_TIMEOUT, tls, use_ssh_client=daemon.url.startswith("ssh://"))
        ) as client:
            yield client
    except DockerException as error:
        raise DaemonError(f"{daemon} failed: {str(error).strip()}") from error


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
    """The API over a Unix socket, one connection a call (HTTP/1.0: the end of the answer is the end of the stream)."""

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
        with contextlib.closing(connect(self.daemon)) as connection:
            connection.settimeout(LOAD_TIMEOUT)
            connection.sendall(f"GET /images/{quote(name)}/get HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                status = answer.readline(CHUNK).split(b" ", 2)[1:2]
                while answer.readline(CHUNK).strip():
                    pass  # the headers
                if status != [b"200"]:
                    self._good(int(status[0]) if status and status[0].isdigit() else 0, answer.read(ANSWER_LIMIT))
                shutil.copyfileobj(answer, out, CHUNK)

    def _call(self, method: str, path: str, body: BinaryIO | None = None) -> tuple[int, bytes]:
        size = os.fstat(body.fileno()).st_size - body.tell() if body else 0
        head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"
        with contextlib.closing(connect(self.daemon)) as connection:
            connection.settimeout(LOAD_TIMEOUT if body else ANSWER_TIMEOUT)
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answered before the end
                while body is not None and (chunk := body.read(CHUNK)):
                    connection.sendall(chunk)
            with connection.makefile("rb") as answer:
                first, _, text = answer.read(ANSWER_LIMIT).partition(b"\r\n\r\n")
        status = first.split(b" ", 2)[1:2]
        return (int(status[0]) if status and status[0].isdigit() else 0), text

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


@dataclass(frozen=True, slots=True)
class LibraryApi:
    """The API by Docker's library: over TLS, TCP and SSH."""

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
