"""Checks of Docker, Podman and the builders of Dockerfiles: address, version, permission."""

import shutil

from hatch_docker.cli.doctor.check import Finding, Report, Setup
from hatch_docker.cli.doctor.machine import TIMEOUT
from hatch_docker.core.errors import DaemonError
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.process import run
from hatch_docker.engines.buildkit.builders import find_builder
from hatch_docker.engines.buildkit.buildx import Buildx
from hatch_docker.oci.daemon import docker_daemon, find_daemons, open_client
from hatch_docker.oci.engine_api import Daemon, connect


def check_docker(setup: Setup) -> Report:
    """Check Docker's daemon, at the address that the program docker would use."""
    daemon = docker_daemon(setup.ctx.environ)
    if setup.offline and not daemon.socket:
        yield Finding("unneeded", "docker", "not asked, since it is on another machine: offline")
        return
    program = shutil.which("docker", path=setup.ctx.environ.get("PATH", ""))
    _check_connection(daemon)
    yield _describe(daemon) + ("" if program else "; the program docker is not in PATH, and not needed to load images")


def check_podman(setup: Setup) -> Report:
    """Check Podman, by its socket or its program."""
    environ = setup.ctx.environ
    daemon = next((daemon for daemon in find_daemons(environ, "podman") if daemon.kind == "podman"), None)
    program = shutil.which("podman", path=environ.get("PATH", ""))
    if daemon and daemon.url:
        yield _describe(daemon)
    elif daemon and program:
        version = run([program, "--version"], env=environ, timeout=TIMEOUT).strip().removeprefix("podman version ")
        yield f"version {version}, by its program {program}"
    else:
        raise DaemonError("neither its socket nor its program was found")


def check_builder(setup: Setup) -> Report:
    """Check the builders of engine = "buildkit"."""
    names = {plan.builder for plan in setup.plans if plan.engine == "buildkit"} or {""}
    for name in sorted(names):
        found = find_builder(name, setup.ctx)
        platforms = ", ".join(found.platforms) or "not started yet"
        if isinstance(found, Buildx):
            version = ".".join(map(str, found.version))
            yield f"buildx {version}, builder {found.name!r} (driver {found.driver}): {platforms}"
        else:
            yield f"podman build: {platforms}"


def _check_connection(daemon: Daemon) -> None:
    """Raise DaemonError if nothing answers, or if this user may not connect."""
    if daemon.by_ssh:  # ssh itself explains best what is wrong
        return
    try:
        connect(daemon).close()
    except PermissionError as error:
        raise DaemonError(
            f"{daemon.socket}: this user may not talk to Docker; join the group docker (and log in again), or use "
            "rootless Docker"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise DaemonError(
            f"nothing answers at {daemon.socket or redact_url(daemon.url)} ({reason}); start Docker, or set DOCKER_HOST"
        ) from error


def _describe(daemon: Daemon) -> str:
    """Return a daemon's version, address, platform and image store."""
    with open_client(daemon) as client:
        info = client.info()
    store = "containerd's store" if "containerd" in str(info.get("DriverStatus")) else str(info.get("Driver", "?"))
    rootless = ", rootless" if "rootless" in str(info.get("SecurityOptions")) else ""
    version, system, machine = (info.get(name, "?") for name in ("ServerVersion", "OSType", "Architecture"))
    return f"version {version} at {daemon.socket or redact_url(daemon.url)}{rootless}, {system}/{machine}, {store}"
