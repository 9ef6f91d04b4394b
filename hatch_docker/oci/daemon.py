"""Images in the daemon of this machine: Docker's or Podman's, found cheaply, loaded with as little as it takes."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.process import run
from hatch_docker.oci.archive import child_for, docker_names, write_partial
from hatch_docker.oci.engine_api import Api, Daemon, connect, open_api
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Image, Index, Platform, images_of

DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"
LOOKED_AT = 20          # images of other names whose layers are compared
LOOKED_AT_BY_SSH = 3    # where each takes a login


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` did: the image's ID there, its names, and the bytes sent, 0 where it was there already."""

    daemon: Daemon
    image_id: str
    references: tuple[str, ...]
    sent: int


def find_daemons(environ: Mapping[str, str], kind: str = "") -> tuple[Daemon, ...]:
    """The daemons that accept a connection, or those of a `kind`, Docker's before Podman's.

    Looks at DOCKER_HOST, the current Docker context, CONTAINER_HOST and the usual sockets; Podman's program
    counts where no socket answers. Takes a millisecond where nothing is there.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    podman = [environ.get("CONTAINER_HOST", ""), f"unix://{runtime}/podman/podman.sock" if runtime else ""]
    found = [daemon for daemon in [docker_daemon(environ)] if kind != "podman" and _answers(daemon)]
    if kind == "docker":
        return tuple(found)
    for url in (*podman, f"unix://{PODMAN_SOCKET}"):
        if url and not any(daemon.kind == "podman" for daemon in found) and _answers(Daemon("podman", url)):
            found.append(Daemon("podman", url))
    if not found and shutil.which("podman", path=environ.get("PATH", "")):
        found.append(Daemon("podman", ""))
    return tuple(found)


def find_daemon(environ: Mapping[str, str], kind: str = "") -> Daemon:
    """The first of `find_daemons`; raises DaemonError where none answers."""
    found = find_daemons(environ, kind)
    if not found:
        who = kind.capitalize() or "Docker or Podman"
        raise DaemonError(f"no {who} answers: start it, or say where it is (DOCKER_HOST, CONTAINER_HOST)")
    return found[0]


def docker_directory(environ: Mapping[str, str]) -> Path:
    """Where Docker's program keeps its configuration."""
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/nonexistent"), ".docker"))


def docker_daemon(environ: Mapping[str, str], context: str = "") -> Daemon:
    """Where Docker's program would look for its daemon, or does when it is told a context."""
    host = environ.get("DOCKER_HOST", "") if context in ("", "default") else ""
    directory = docker_directory(environ)
    if host:
        tls = environ.get("DOCKER_CERT_PATH") or (directory if environ.get("DOCKER_TLS_VERIFY") else None)
        return Daemon("docker", host, Path(tls) if tls else None)
    known = environ.get("DOCKER_CONTEXT") or read_json(directory / "config.json").get("currentContext")
    name = context or known or "default"
    identity = hashlib.sha256(str(name).encode()).hexdigest()
    meta = read_json(directory / "contexts/meta" / identity / "meta.json") if name != "default" else {}
    try:
        host = str(meta["Endpoints"]["docker"]["Host"])
    except (KeyError, TypeError):
        return Daemon("docker", f"unix://{DOCKER_SOCKET}")
    certificates = directory / "contexts/tls" / identity / "docker"
    return Daemon("docker", host, certificates if certificates.is_dir() else None)


def read_json(path: Path) -> dict[str, Any]:
    """An object in one of Docker's files; {} where it is not there, or broken: that is Docker's to tell of."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _answers(daemon: Daemon) -> bool:
    if daemon.by_ssh:  # which takes too long to ask
        return True
    try:
        connect(daemon).close()
    except OSError:
        return False
    return True


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
    with open_api(daemon) as api:
        before = [api.inspect(name) for name in names]
        if names and all(image.get("Id") in ids for image in before):
            return Loaded(daemon, before[0]["Id"], names, 0)
        found, sent = _named(api, ids, names), 0
        if not found and daemon.kind == "docker":
            image = item if isinstance(item, Image) else child_for(item, host)
            present = _present(api, image, before, LOOKED_AT_BY_SSH if daemon.by_ssh else LOOKED_AT)
            sent = _load_partial(api, image, references, present, log) if present else 0
            found = _named(api, ids, names) if sent else ""
        if not found:
            with archive.open("rb") as stream:
                api.load(stream)
            sent = archive.stat().st_size
            found = _named(api, ids, names)
    if not found:
        raise DaemonError(f"{daemon} took the archive {archive} and does not have the image: look at its log")
    return Loaded(daemon, found, names, sent)


def save(daemon: Daemon, name: str, path: Path) -> None:
    """Write an image of a daemon as an OCI archive. Raises DaemonError, also where it has no image of that name."""
    if daemon.kind == "podman":  # whose API gives an archive of Docker's old kind
        remote = ["--url", daemon.url] if daemon.url else []
        try:
            run(["podman", *remote, "save", "--quiet", "--format", "oci-archive", "--output", str(path), "--", name])
        except ProgramError as error:
            last = str(error).strip().splitlines()[-1].removeprefix("Error: ")
            raise DaemonError(f"podman cannot save {name}: {last}; look at `podman image ls`, or pull it") from error
        return
    with open_api(daemon) as api:
        if not api.inspect(name):
            raise DaemonError(f"{daemon} has no image {name}: look at `docker image ls`, or pull it")
        with path.open("wb") as out:
            api.save(name, out)


def _ids(item: Image | Index) -> list[str]:
    """What daemons may call the image: the configuration's digest, or with containerd the manifest's."""
    images = images_of(item)
    configs = [parse_manifest(image.manifest, "the manifest").config.digest for image in images]
    return [item.digest, *configs, *(image.digest for image in images)]


def _named(api: Api, ids: Sequence[str], names: Sequence[str]) -> str:
    """The image's ID where it is there, all of its names given to it; else ""."""
    for image_id in ids:
        found = api.inspect(image_id)
        if found:
            for name in names:
                api.tag(found["Id"], name)
            return str(found["Id"])
    return ""


def _present(api: Api, image: Image, before: Sequence[Mapping[str, Any]], most_others: int) -> int:
    """How many of the lowest layers Docker's own store has, seen from other images it has, the newest ones."""
    status = api.info().get("DriverStatus") or []
    if any("containerd" in str(value) for _, value in status):
        return 0  # needs the very blobs, and takes an archive without them for a whole one
    wanted = [layer.diff_id for layer in image.layers]
    most = max((_common(wanted, other) for other in before), default=0)
    if most:
        return most
    return max((_common(wanted, api.inspect(one)) for one in api.newest()[:most_others]), default=0)


def _common(wanted: Sequence[str], other: Mapping[str, Any]) -> int:
    layers = (other.get("RootFS") or {}).get("Layers") or []
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, layers, strict=False)))


def _load_partial(
    api: Api, image: Image, references: Sequence[str], present: int, log: Callable[[str], None]
) -> int:
    """The bytes sent; 0 where Docker refused, as it does when a layer went away in between."""
    with tempfile.TemporaryFile() as stream:
        write_partial(image, references, present, stream)
        size = stream.tell()
        stream.seek(0)
        try:
            api.load(stream)
        except DaemonError as error:
            log(f"loading only the new layers failed ({error}): loading all of them")
            return 0
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
        raise DaemonError(f"podman took the archive {archive} and does not have the image: look at `podman image ls`")
    return Loaded(daemon, f"sha256:{found}", names, archive.stat().st_size)
