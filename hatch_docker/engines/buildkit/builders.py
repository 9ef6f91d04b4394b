"""Search for a builder: a builder of `docker buildx`, or Podman.

A builder's address is checked first, because Docker's own programs wait up to a minute for an unresponsive host.
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
from hatch_docker.engines.buildkit.build_request import ADVICE, Builder, daemon_error
from hatch_docker.engines.buildkit.buildx import OLDEST, Buildx
from hatch_docker.engines.buildkit.podman import Podman
from hatch_docker.oci.find_daemon import docker_daemon, docker_directory, read_json

UNKNOWN = (0, 0)  # the version of a buildx that was compiled without a version
TIMEOUT = 2.0  # seconds for a connection
DOCKER_PORT, SSH_PORT = 2375, 22


def find_builder(name: str, ctx: Context) -> Builder:
    """Return a builder. `name`: "podman" or a builder of buildx; "" for Docker's current builder, else Podman.

    Raises DaemonError if it is missing or too old.
    """
    path = ctx.environ.get("PATH", "")
    docker, podman = (shutil.which(program, path=path) for program in ("docker", "podman"))
    if name == "podman" or (not name and not docker and podman):
        if not podman:
            raise DaemonError(f'builder = "podman", and podman is not in PATH; install it, {ADVICE}')
        return Podman(podman)
    if not docker:
        raise DaemonError(
            f'engine = "buildkit" needs Docker with buildx, or Podman, and neither is in PATH; install one, {ADVICE}'
        )
    try:
        return _inspect(docker, name, ctx)
    except DaemonError as error:
        if name or not podman:
            raise
        raise DaemonError(f'{error}; or set builder = "podman", which is here') from None


def _inspect(docker: str, name: str, ctx: Context) -> Builder:
    """Return a builder of buildx, or Podman if the program docker is Podman; raises DaemonError like `find_builder`."""
    try:
        output = run([docker, "buildx", "version"], env=ctx.environ, timeout=20)
    except ProgramError:
        raise DaemonError(
            "docker is installed, but its plugin buildx is not; install it (docker-buildx, docker-buildx-plugin), "
            f"{ADVICE}"
        ) from None
    if output.startswith("buildah "):  # from the package podman-docker
        return Podman(docker)
    found = re.search(r"\bv?(\d+)\.(\d+)\.", output)
    version = (int(found[1]), int(found[2])) if found else UNKNOWN
    if UNKNOWN < version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise DaemonError(f"docker buildx {version[0]}.{version[1]} is too old; get {oldest} or newer, {ADVICE}")
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
        raise DaemonError(f"builder {name!r} at {where} does not answer; check that BuildKit runs there, {ADVICE}")
    nodes = re.findall(r"^Platforms:\s*(\S.*)$", text, re.MULTILINE)
    known = [platform.strip(" *") for node in nodes for platform in node.split(",")]
    return Buildx(docker, name, driver, version, tuple(known))


def check_reachable(name: str, ctx: Context) -> None:
    """Raise DaemonError if none of a builder's hosts accepts a connection. `name`: "" for buildx's default builder.

    Hosts that cannot be checked, for instance behind a proxy, are skipped: buildx reports their errors.
    """
    directory = Path(ctx.environ.get("BUILDX_CONFIG") or docker_directory(ctx.environ) / "buildx")
    chosen = read_json(directory / "current")  # written by `docker buildx use`, for one daemon or for all
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
            f"start it, set DOCKER_HOST or builder, {ADVICE}"
        )


def _endpoints(name: str, directory: Path, environ: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return the URL of each node of a builder, and whether the connection ignores proxies.

    A node may also be a context of Docker. `directory`: the configuration directory of buildx.
    """
    instance = read_json(directory / "instances" / name) if name else {}
    if not instance:
        return [(docker_daemon(environ, name).url, False)]
    nodes = [str(node.get("Endpoint", "")) for node in instance.get("Nodes") or () if isinstance(node, dict)]
    remote = instance.get("Driver") == "remote"
    return [(node if "://" in node else docker_daemon(environ, node).url, remote) for node in nodes]


def _problem(url: str, environ: Mapping[str, str], *, direct: bool) -> str:
    """Return the reason why a URL cannot be reached, "" if it can be reached or cannot be checked."""
    try:
        if address := _address(urlsplit(url), environ, direct=direct):
            socket.create_connection(address, timeout=TIMEOUT).close()
    except ValueError:  # its message is not printed, because it may contain a password
        return "this is no address"
    except OSError as error:
        return error.strerror or f"no answer within {TIMEOUT:g} s"
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
    """Return the host and port that ssh connects to by its configuration; None for a jump host or a proxy command."""
    port = ["-p", str(parts.port)] if parts.port else []
    try:
        found = run(["ssh", "-G", *port, "--", str(parts.hostname)], env=environ, timeout=TIMEOUT)
    except HatchDockerError:
        return None
    settings = dict(re.findall(r"^(\w+) (.+)$", found, re.MULTILINE))
    if {"proxyjump", "proxycommand"} & set(settings):
        return None
    return settings.get("hostname", str(parts.hostname)), int(settings.get("port", SSH_PORT))
