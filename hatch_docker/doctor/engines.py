"""Docker, Podman, and who builds Dockerfiles: how they are reached, which they are, whether we may."""

from __future__ import annotations

import shutil

from hatch_docker.doctor.check import Finding, Look, Said
from hatch_docker.doctor.machine import PATIENCE
from hatch_docker.errors import DaemonError
from hatch_docker.oci.daemon import docker_daemon, find_daemons
from hatch_docker.oci.docker_api import Daemon, connect, open_api
from hatch_docker.process import run
from hatch_docker.urls import shown


def docker(look: Look) -> Said:
    """Docker's daemon, where its own program would look for it."""
    daemon = docker_daemon(look.ctx.environ)
    if look.offline and not daemon.socket:
        yield Finding("unneeded", "docker", "not asked, as it is elsewhere: offline")
        return
    program = shutil.which("docker", path=look.ctx.environ.get("PATH", ""))
    _check_connection(daemon)
    yield _told(daemon) + ("" if program else "; the program docker is not in PATH, and not needed to load")


def podman(look: Look) -> Said:
    """Podman, by its socket or its program."""
    environ = look.ctx.environ
    found = next((one for one in find_daemons(environ, "podman") if one.kind == "podman"), None)
    program = shutil.which("podman", path=environ.get("PATH", ""))
    if found is None or (not found.url and not program):
        raise DaemonError("neither its socket nor its program is here")
    if found.url:
        yield _told(found)
    else:
        assert program is not None
        said = run([program, "--version"], env=environ, timeout=PATIENCE).strip().removeprefix("podman version ")
        yield f"version {said}, by its program {program}"


def needs_daemon(look: Look) -> bool:
    """Whether a build fails without a daemon to load into."""
    return look.some(lambda plan: plan.load == "always" and plan.archive, else_=False)


def builder(look: Look) -> Said:
    """Who carries out what engine = "buildkit" says."""
    from hatch_docker.engines.builders import find_builder
    from hatch_docker.engines.buildx import Buildx

    names = {plan.builder for plan in look.plans if plan.engine == "buildkit"} or {""}
    for name in sorted(names):
        found = find_builder(name, look.ctx)
        runs = ", ".join(found.platforms) or "not started yet"
        if isinstance(found, Buildx):
            yield f"buildx {'.'.join(map(str, found.version))}, builder {found.name!r} (driver {found.driver}): {runs}"
        else:
            yield f"podman build: {runs}"


def needs_builder(look: Look) -> bool:
    """Whether stages of a Dockerfile are built."""
    return look.some(lambda plan: plan.engine == "buildkit", else_=False)


def _check_connection(daemon: Daemon) -> None:
    """Raise DaemonError where nobody can be connected to, or we may not."""
    if daemon.by_ssh:  # who says best what is wrong
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
            f"nothing answers at {daemon.socket or shown(daemon.url)} ({reason}); start Docker, or set DOCKER_HOST"
        ) from error


def _told(daemon: Daemon) -> str:
    """What a daemon says of itself."""
    with open_api(daemon) as api:
        info = api.info()
    store = "containerd's store" if "containerd" in str(info.get("DriverStatus")) else str(info.get("Driver", "?"))
    rootless = ", rootless" if "rootless" in str(info.get("SecurityOptions")) else ""
    version, system, machine = (info.get(name, "?") for name in ("ServerVersion", "OSType", "Architecture"))
    return f"version {version} at {daemon.socket or shown(daemon.url)}{rootless}, {system}/{machine}, {store}"
