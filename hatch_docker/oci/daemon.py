"""Images in the daemon of this machine: Docker's or Podman's, found cheaply, loaded with as little as it takes.

Docker's library takes a fifth of a second to import, so whether a daemon is there, and has the image already,
is asked over its socket by hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from hatch_docker.errors import DaemonError, ProgramError
from hatch_docker.oci.archive import child_for, docker_names, write_partial
from hatch_docker.oci.documents import parse_manifest
from hatch_docker.oci.model import Image, Index, Platform
from hatch_docker.process import run

if TYPE_CHECKING:
    from docker import APIClient

DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"
ANSWER_LIMIT = 4 << 20  # bytes of an answer over the socket
LOAD_TIMEOUT = 600      # seconds without a byte, while an image is loaded
LOOKED_AT = 20          # images of other names whose layers are compared


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
        return f"{self.kind.capitalize()} at {self.socket or self.url}" if self.url else self.kind.capitalize()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` did: the image's ID there, its names, and the bytes sent, 0 where it was there already."""

    daemon: Daemon
    image_id: str
    references: tuple[str, ...]
    sent: int


def find_daemons(environ: Mapping[str, str]) -> tuple[Daemon, ...]:
    """The daemons that accept a connection: Docker where its own program would look, Podman's socket.

    Looks at DOCKER_HOST, the current Docker context, CONTAINER_HOST and the usual sockets; Podman's program
    counts where no socket answers. Takes a millisecond where nothing is there.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    podman = [environ.get("CONTAINER_HOST", ""), f"unix://{runtime}/podman/podman.sock" if runtime else ""]
    found = [daemon for daemon in [_docker(environ)] if _answers(daemon)]
    for url in (*podman, f"unix://{PODMAN_SOCKET}"):
        if url and not any(daemon.kind == "podman" for daemon in found) and _answers(Daemon("podman", url)):
            found.append(Daemon("podman", url))
    if not found and shutil.which("podman", path=environ.get("PATH", "")):
        found.append(Daemon("podman", ""))
    return tuple(found)


def _docker(environ: Mapping[str, str]) -> Daemon:
    host = environ.get("DOCKER_HOST", "")
    directory = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/nonexistent"), ".docker"))
    if host:
        tls = environ.get("DOCKER_CERT_PATH") or (directory if environ.get("DOCKER_TLS_VERIFY") else None)
        return Daemon("docker", host, Path(tls) if tls else None)
    name = environ.get("DOCKER_CONTEXT") or _json(directory / "config.json").get("currentContext") or "default"
    context = hashlib.sha256(str(name).encode()).hexdigest()
    meta = _json(directory / "contexts/meta" / context / "meta.json") if name != "default" else {}
    try:
        host = str(meta["Endpoints"]["docker"]["Host"])
    except (KeyError, TypeError):
        return Daemon("docker", f"unix://{DOCKER_SOCKET}")
    certificates = directory / "contexts/tls" / context / "docker"
    return Daemon("docker", host, certificates if certificates.is_dir() else None)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # a broken file of Docker's is Docker's to tell of
    return value if isinstance(value, dict) else {}


def _answers(daemon: Daemon) -> bool:
    if daemon.url.startswith("ssh://"):
        return True
    try:
        _connect(daemon).close()
    except (OSError, ValueError):
        return False
    return True


def _connect(daemon: Daemon) -> socket.socket:
    if daemon.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect(daemon.socket)
        except BaseException:
            connection.close()
            raise
        return connection
    parts = urlsplit(daemon.url)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise OSError(f"no socket at {daemon.url}")
    return socket.create_connection((parts.hostname, parts.port or 2375), timeout=1)


def _inspect(daemon: Daemon, name: str) -> dict[str, Any]:
    """What the API says of an image, asked without Docker's library; {} where it has none."""
    with contextlib.closing(_connect(daemon)) as connection:
        connection.sendall(f"GET /images/{name}/json HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with connection.makefile("rb") as stream:
            head, _, body = stream.read(ANSWER_LIMIT).partition(b"\r\n\r\n")
    try:
        value = json.loads(body) if head.split(b" ", 2)[1:2] == [b"200"] else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def load(
    daemon: Daemon,
    item: Image | Index,
    references: Sequence[str],
    archive: Path,
    *,
    host: Platform,
    log: Callable[[str], None],
) -> Loaded:
    """Have the image in a daemon under its names; `archive` is what `write_archive` wrote of it for `host`.

    An image that is there is left alone or named; Docker's own store is sent only the layers it lacks, and
    everything where that fails, which `log` is told. Raises DaemonError.
    """
    names = tuple(docker_names(references))
    ids = _ids(item)
    if not daemon.url:
        return _load_by_program(daemon, ids, names, archive)
    before: list[dict[str, Any]] = []
    if daemon.socket:
        with _reported(daemon):
            before = [_inspect(daemon, name) for name in names]
        if names and all(image.get("Id") in ids for image in before):
            return Loaded(daemon, before[0]["Id"], names, 0)
    with _reported(daemon), _client(daemon) as client:
        found = _named(client, ids, names)
        if found:
            return Loaded(daemon, found, names, 0)
        if daemon.kind == "docker":
            image = item if isinstance(item, Image) else child_for(item, host)
            present = _present(client, image, before or _listed(client, names))
            sent = _load_partial(client, image, references, present, log) if present else 0
            found = _named(client, ids, names) if sent else ""
        if not found:
            with archive.open("rb") as stream:
                sent = _send(client, stream)
            found = _named(client, ids, names)
    if not found:
        raise DaemonError(f"{daemon} took the archive {archive} and does not have the image: look at its log")
    return Loaded(daemon, found, names, sent)


def _ids(item: Image | Index) -> list[str]:
    """What daemons may call the image: the configuration's digest, or with containerd the manifest's."""
    images = item.images if isinstance(item, Index) else (item,)
    configs = [parse_manifest(image.manifest, "the manifest").config.digest for image in images]
    return [item.digest, *configs, *(image.digest for image in images)]


@contextlib.contextmanager
def _reported(daemon: Daemon) -> Iterator[None]:
    """Whatever goes wrong with a daemon is a DaemonError of one line."""
    try:
        yield
    except OSError as error:  # what requests raises, too
        raise DaemonError(f"cannot talk to {daemon}: {error}") from error


@contextlib.contextmanager
def _client(daemon: Daemon) -> Iterator[APIClient]:
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


def _named(client: APIClient, ids: Sequence[str], names: Sequence[str]) -> str:
    """The image's ID where it is there, all of its names given to it; else ""."""
    from docker.errors import ImageNotFound

    for image_id in ids:
        try:
            found = client.inspect_image(image_id)
        except ImageNotFound:
            continue
        for name in names:
            client.tag(found["Id"], *name.rsplit(":", 1), force=True)
        return str(found["Id"])
    return ""


def _listed(client: APIClient, names: Sequence[str]) -> list[dict[str, Any]]:
    from docker.errors import ImageNotFound

    found = []
    for name in names:
        with contextlib.suppress(ImageNotFound):
            found.append(client.inspect_image(name))
    return found


def _present(client: APIClient, image: Image, before: Sequence[Mapping[str, Any]]) -> int:
    """How many of the lowest layers Docker's own store has, seen from other images it has."""
    status = client.info().get("DriverStatus") or []
    if any("containerd" in str(value) for _, value in status):
        return 0  # needs the very blobs, and takes an archive without them for a whole one
    wanted = [layer.diff_id for layer in image.layers]
    most = max((_common(wanted, other) for other in before), default=0)
    if most:
        return most
    newest = [line["Id"] for line in client.images()[:LOOKED_AT]]
    return max((_common(wanted, other) for other in _listed(client, newest)), default=0)


def _common(wanted: Sequence[str], other: Mapping[str, Any]) -> int:
    layers = (other.get("RootFS") or {}).get("Layers") or []
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, layers, strict=False)))


def _load_partial(
    client: APIClient, image: Image, references: Sequence[str], present: int, log: Callable[[str], None]
) -> int:
    """The bytes sent; 0 where Docker refused, as it does when a layer went away in between."""
    from docker.errors import DockerException

    with tempfile.TemporaryFile() as stream:
        write_partial(image, references, present, stream)
        try:
            return _send(client, stream)
        except (DaemonError, DockerException) as error:
            log(f"loading only the new layers failed ({error}): loading all of them")
            return 0


def _send(client: APIClient, stream: BinaryIO) -> int:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    for line in client.load_image(stream, quiet=True) or ():
        if "error" in line:
            raise DaemonError(f"the daemon refused the image: {line['error']}")
    return size


def _load_by_program(daemon: Daemon, ids: Sequence[str], names: tuple[str, ...], archive: Path) -> Loaded:
    known = {image_id.removeprefix("sha256:") for image_id in ids}

    def asked() -> str:
        try:
            lines = run(["podman", "image", "inspect", "--format", "{{.Id}}", *names]).split()
        except ProgramError:
            return ""
        return lines[0] if lines and set(lines) <= known else ""

    found = asked()
    if found:
        return Loaded(daemon, f"sha256:{found}", names, 0)
    try:
        run(["podman", "load", "--quiet", "--input", str(archive)])
    except ProgramError as error:
        raise DaemonError(str(error)) from error
    found = asked()
    if not found:
        raise DaemonError(f"podman took the archive {archive} and does not have the image")
    return Loaded(daemon, f"sha256:{found}", names, archive.stat().st_size)
