"""Search for the program that builds a Dockerfile: a builder of `docker buildx`, or Podman.

Something has to answer at a builder's address: Docker's own programs wait up to a minute if nothing does.
"""

import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hatch_docker.core.context import Context
from hatch_docker.core.errors import DaemonError, HatchDockerError, ProgramError
from hatch_docker.core.http.urls import proxy_for, redact_url
from hatch_docker.core.process import run
from hatch_docker.engines.buildkit.build_request import WAY_OUT, Builder, daemon_error
from hatch_docker.engines.buildkit.buildx import OLDEST, Buildx
from hatch_docker.engines.buildkit.podman import Podman
from hatch_docker.oci.find_daemon import docker_daemon, docker_directory, read_json

UNKNOWN = (0, 0)  # the version of a buildx that was compiled without one
PATIENCE = 2.0  # seconds
DOCKER_PORT, SSH_PORT = 2375, 22


def find_builder(name: str, ctx: Context) -> Builder:
    """Return the builder called "podman" or as buildx calls it; for "" one that is here, Docker's first.

    Raises DaemonError where it is missing or too old.
    """
    path = ctx.environ.get("PATH", "")
    docker, podman = (shutil.which(program, path=path) for program in ("docker", "podman"))
    if name == "podman" or (not name and not docker and podman):
        if not podman:
            raise DaemonError(f'builder = "podman", and podman is not in PATH; install it, {WAY_OUT}')
        return Podman(podman)
    if not docker:
        raise DaemonError(
            f'engine = "buildkit" needs Docker with buildx, or Podman, and neither is in PATH; install one, {WAY_OUT}'
        )
    try:
        return _inspect(docker, name, ctx)
    except DaemonError as error:
        if name or not podman:
            raise
        raise DaemonError(f'{error}; or set builder = "podman", which is here') from None


def _inspect(docker: str, name: str, ctx: Context) -> Builder:
    """Return a builder of buildx, or Podman under the name of Docker; raises DaemonError as `find_builder`."""
    try:
        said = run([docker, "buildx", "version"], env=ctx.environ, timeout=20)
    except ProgramError:
        raise DaemonError(
            "docker is installed, but its plugin buildx is not; install it (docker-buildx, docker-buildx-plugin), "
            f"{WAY_OUT}"
        ) from None
    if said.startswith("buildah "):  # the package podman-docker
        return Podman(docker)
    found = re.search(r"\bv?(\d+)\.(\d+)\.", said)
    version = (int(found[1]), int(found[2])) if found else UNKNOWN
    if UNKNOWN < version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise DaemonError(f"docker buildx {version[0]}.{version[1]} is too old; get {oldest} or newer, {WAY_OUT}")
    check_reachable(name, ctx)
    try:
        text = run([docker, "buildx", "inspect", *([name] if name else [])], env=ctx.environ, timeout=30)
    except ProgramError as error:
        raise daemon_error(str(error), name) from None
    if failed := re.search(r"^Error:\s*(.+)$", text, re.MULTILINE):
        raise daemon_error(failed[1], name)
    facts = dict(re.findall(r"^(Name|Driver):[ \t]*(\S+)$", text.partition("\nNodes:")[0], re.MULTILINE))
    name, driver = facts.get("Name", name or "default"), facts.get("Driver", "docker")
    if driver == "remote" and set(re.findall(r"^Status:\s*(\S+)", text, re.MULTILINE)) == {"inactive"}:
        where = ", ".join(re.findall(r"^Endpoint:\s*(\S+)", text, re.MULTILINE))
        raise DaemonError(f"builder {name!r} at {where} does not answer; check that BuildKit runs there, {WAY_OUT}")
    nodes = re.findall(r"^Platforms:\s*(\S.*)$", text, re.MULTILINE)
    known = [platform.strip(" *") for node in nodes for platform in node.split(",")]
    return Buildx(docker, name, driver, version, tuple(known))


def check_reachable(name: str, ctx: Context) -> None:
    """Raise DaemonError where none of a builder's hosts takes a connection; "" is buildx's default builder.

    What cannot be known beforehand, a host behind a proxy say, is buildx's to tell.
    """
    directory = Path(ctx.environ.get("BUILDX_CONFIG") or docker_directory(ctx.environ) / "buildx")
    chosen = read_json(directory / "current")  # by `docker buildx use`, for the present daemon or for all
    current = chosen.get("Global") or chosen.get("Key") == docker_daemon(ctx.environ).url
    name = name or ctx.environ.get("BUILDX_BUILDER", "") or (str(chosen.get("Name") or "") if current else "")
    problems = []
    for url, direct in _endpoints(name, directory, ctx.environ):
        problem = _problem(url, ctx.environ, direct=direct)
        if not problem:
            return
        problems.append(f"{redact_url(url)}: {problem}")
    if problems:
        raise DaemonError(
            f"nothing answers where {f'builder {name!r}' if name else 'Docker'} should be ({'; '.join(problems)}); "
            f"start it, set DOCKER_HOST or builder, {WAY_OUT}"
        )


def _endpoints(name: str, directory: Path, environ: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return the URLs of a builder's nodes, and whether a proxy is never used; buildx names contexts, too.

    `directory` is where buildx keeps its builders.
    """
    instance = read_json(directory / "instances" / name) if name else {}
    if not instance:
        return [(docker_daemon(environ, name).url, False)]
    nodes = [str(node.get("Endpoint", "")) for node in instance.get("Nodes") or () if isinstance(node, dict)]
    remote = instance.get("Driver") == "remote"
    return [(node if "://" in node else docker_daemon(environ, node).url, remote) for node in nodes]


def _problem(url: str, environ: Mapping[str, str], *, direct: bool) -> str:
    """Return the reason why a URL cannot be reached; "" where it can, or where that cannot be known."""
    try:
        if address := _address(urlsplit(url), environ, direct=direct):
            socket.create_connection(address, timeout=PATIENCE).close()
    except ValueError:  # whose text quotes a part that may be a password
        return "this is no address"
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
