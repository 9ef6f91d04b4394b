"""Finding the daemons of Docker and Podman that accept connections."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import DaemonError
from hatch_docker.oci.engine_api import Daemon, connect

DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"


def find_daemons(environ: Mapping[str, str], kind: str = "") -> tuple[Daemon, ...]:
    """Return the daemons (or those of a `kind`) that accept a connection, Docker before Podman.

    Tried are DOCKER_HOST, the current Docker context, CONTAINER_HOST and the usual sockets. If no socket accepts a
    connection, the `podman` program is returned if it is installed. Without daemons this takes a millisecond.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    podman = [environ.get("CONTAINER_HOST", ""), f"unix://{runtime}/podman/podman.sock" if runtime else ""]
    found = [daemon for daemon in [docker_daemon(environ)] if kind != "podman" and _accepts_connections(daemon)]
    if kind == "docker":
        return tuple(found)
    for url in (*podman, f"unix://{PODMAN_SOCKET}"):
        if url and not any(daemon.kind == "podman" for daemon in found) and _accepts_connections(Daemon("podman", url)):
            found.append(Daemon("podman", url))
    if not found and shutil.which("podman", path=environ.get("PATH", "")):
        found.append(Daemon("podman", ""))
    return tuple(found)


def find_daemon(environ: Mapping[str, str], kind: str = "") -> Daemon:
    """Return the first of `find_daemons`. Raises DaemonError if there is none."""
    found = find_daemons(environ, kind)
    if not found:
        daemons = kind.capitalize() or "Docker or Podman"
        raise DaemonError(f"no {daemons} answers: start it, or set its address (DOCKER_HOST, CONTAINER_HOST)")
    return found[0]


def docker_directory(environ: Mapping[str, str]) -> Path:
    """Return the configuration directory of Docker's CLI."""
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/nonexistent"), ".docker"))


def docker_daemon(environ: Mapping[str, str], context: str = "") -> Daemon:
    """Return the daemon of a Docker context; without `context` the daemon that Docker's CLI uses now."""
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
    """Return the JSON object in one of Docker's files, {} if it is missing or damaged (Docker's CLI reports that)."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _accepts_connections(daemon: Daemon) -> bool:
    if daemon.by_ssh:  # connecting would take too long
        return True
    try:
        connect(daemon).close()
    except OSError:
        return False
    return True
