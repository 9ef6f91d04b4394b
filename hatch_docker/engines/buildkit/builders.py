"""Search for the program that builds a Dockerfile: a builder of `docker buildx`, or Podman."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.process import run
from hatch_docker.engines.buildkit.build_request import daemon_error
from hatch_docker.engines.buildkit.buildx import OLDEST, Buildx
from hatch_docker.engines.buildkit.endpoint import WAY_OUT, check_reachable
from hatch_docker.engines.buildkit.podman import Podman

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.engines.buildkit.build_request import Builder

UNKNOWN = (0, 0)  # the version of a buildx that was compiled without one


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
            f"docker is here, but its buildx is not; install it (docker-buildx, docker-buildx-plugin), {WAY_OUT}"
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
    failed = re.search(r"^Error:\s*(.+)$", text, re.MULTILINE)
    if failed:
        raise daemon_error(failed[1], name)
    facts = dict(re.findall(r"^(Name|Driver):[ \t]*(\S+)$", text.partition("\nNodes:")[0], re.MULTILINE))
    name, driver = facts.get("Name", name or "default"), facts.get("Driver", "docker")
    if driver == "remote" and set(re.findall(r"^Status:\s*(\S+)", text, re.MULTILINE)) == {"inactive"}:
        where = ", ".join(re.findall(r"^Endpoint:\s*(\S+)", text, re.MULTILINE))
        raise DaemonError(f"builder {name!r} at {where} does not answer; see that BuildKit runs there, {WAY_OUT}")
    nodes = re.findall(r"^Platforms:\s*(\S.*)$", text, re.MULTILINE)
    known = [platform.strip(" *") for node in nodes for platform in node.split(",")]
    return Buildx(docker, name, driver, version, tuple(known))
