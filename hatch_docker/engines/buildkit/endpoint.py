"""Check that something answers at a builder's address: Docker's programs wait up to a minute if nothing does."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from hatch_docker.core.errors import DaemonError, HatchDockerError
from hatch_docker.core.http.urls import proxy_for, redact_url
from hatch_docker.core.process import run
from hatch_docker.oci.daemon import docker_daemon, docker_directory, read_json

if TYPE_CHECKING:
    from hatch_docker.core.context import Context

WAY_OUT = 'or set engine = "embedded", which needs neither Docker nor Podman'
PATIENCE = 2.0  # seconds
DOCKER_PORT, SSH_PORT = 2375, 22


def check_reachable(name: str, ctx: Context) -> None:
    """Raise DaemonError where none of a builder's hosts takes a connection; "" is buildx's default builder.

    What cannot be known beforehand, a host behind a proxy say, is buildx's to tell.
    """
    name = name or ctx.environ.get("BUILDX_BUILDER", "") or _current(ctx.environ)
    problems = []
    for url, direct in _endpoints(name, ctx.environ):
        problem = _problem(url, ctx.environ, direct=direct)
        if not problem:
            return
        problems.append(f"{redact_url(url)}: {problem}")
    if problems:
        raise DaemonError(
            f"nothing answers where {f'builder {name!r}' if name else 'Docker'} should be ({'; '.join(problems)}); "
            f"start it, set DOCKER_HOST or builder, {WAY_OUT}"
        )


def _directory(environ: Mapping[str, str]) -> Path:
    """Return the directory in which buildx keeps its builders."""
    return Path(environ.get("BUILDX_CONFIG") or docker_directory(environ) / "buildx")


def _current(environ: Mapping[str, str]) -> str:
    """Return the builder that `docker buildx use` chose, for the present daemon or for all; else ""."""
    chosen = read_json(_directory(environ) / "current")
    here = chosen.get("Global") or chosen.get("Key") == docker_daemon(environ).url
    return str(chosen.get("Name") or "") if here else ""


def _endpoints(name: str, environ: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return the URLs of a builder's nodes, and whether a proxy is never used; buildx names contexts, too."""
    instance = read_json(_directory(environ) / "instances" / name) if name else {}
    if not instance:
        return [(docker_daemon(environ, name).url, False)]
    nodes = [str(node.get("Endpoint", "")) for node in instance.get("Nodes") or () if isinstance(node, dict)]
    remote = instance.get("Driver") == "remote"
    return [(node if "://" in node else docker_daemon(environ, node).url, remote) for node in nodes]


def _problem(url: str, environ: Mapping[str, str], *, direct: bool) -> str:
    """Return the reason why a URL cannot be reached; "" where it can, or where that cannot be known."""
    try:
        address = _address(urlsplit(url), environ, direct=direct)
    except ValueError:  # whose text quotes a part that may be a password
        return "this is no address"
    if address is None:
        return ""
    try:
        socket.create_connection(address, timeout=PATIENCE).close()
    except OSError as error:
        return error.strerror or f"no answer within {PATIENCE:g} s"
    return ""


def _address(parts: SplitResult, environ: Mapping[str, str], *, direct: bool) -> tuple[str, int] | None:
    host = parts.hostname
    if not host:
        return None
    if parts.scheme == "ssh":
        return _ssh_address(parts, environ)
    if parts.scheme not in ("tcp", "http", "https"):
        return None
    port = parts.port or DOCKER_PORT
    name = f"[{host}]" if ":" in host else host
    return (host, port) if direct or proxy_for(f"http://{name}:{port}", environ) is None else None


def _ssh_address(parts: SplitResult, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the address that ssh would connect to by its configuration; None for a jump host or a command."""
    port = ["-p", str(parts.port)] if parts.port else []
    try:
        found = run(["ssh", "-G", *port, "--", str(parts.hostname)], env=environ, timeout=PATIENCE)
    except HatchDockerError:
        return None
    settings = dict(re.findall(r"^(\w+) (.+)$", found, re.MULTILINE))
    if {"proxyjump", "proxycommand"} & set(settings):
        return None
    return settings.get("hostname", str(parts.hostname)), int(settings.get("port", SSH_PORT))
