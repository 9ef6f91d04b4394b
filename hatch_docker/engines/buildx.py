"""Who builds a Dockerfile: `docker buildx` by any of its builders, and Podman where it is asked for or alone.

Trees come back by the local exporter, which every driver has: nothing is ever loaded or pushed by a builder. What
one cannot do is one line that says what is missing and how to go on.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hatch_docker.engines.caches import CACHE_SECRETS, buildx_caches
from hatch_docker.engines.reach import WAY_OUT, check_reachable
from hatch_docker.engines.recipe import Handed
from hatch_docker.errors import BuildError, DaemonError, LostError, ProgramError
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Platform
from hatch_docker.outputs import scratch
from hatch_docker.plan import CachePlan
from hatch_docker.process import ProcessFailed, run
from hatch_docker.store import key_of

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.engines.rawjson import Log

OLDEST = (0, 13)  # of buildx: --progress=rawjson
UNKNOWN = (0, 0)  # as one says that nobody told its version when it was compiled
NO_DAEMON = (
    "Cannot connect to the Docker daemon|connection refused|no such host|timeout|is the docker|error during connect"
    "|deadline exceeded"
)
LOST = r"error reading from server|code = Unavailable|transport is closing|connection reset|broken pipe|\bEOF\b"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built: the stage `export` of a Dockerfile, written to the directory `out`."""

    dockerfile: Path
    context: Path
    out: Path
    platform: Platform
    handed: tuple[Handed, ...]                # images that the builder cannot pull
    cache: CachePlan
    root: Path                                # the project's, where paths of caches start
    secrets: tuple[str, ...]                  # names of environment variables
    ssh: bool = False                         # this machine's SSH agent may be asked
    proxies: Mapping[str, str] = field(default_factory=dict)  # variables of stages that use the network


class Builder(Protocol):
    """Carries out an order; raises BuildError with the failed step's last lines, DaemonError where it cannot."""

    @property
    def platforms(self) -> tuple[str, ...]:
        """What it runs, its own first, then what it emulates; empty where it has not started yet."""

    @property
    def far(self) -> bool:
        """Whether an image that it is handed is sent to it, and not loaded into a daemon."""

    def build(self, order: Order, ctx: Context) -> None: ...


def find_builder(name: str, ctx: Context) -> Builder:
    """The builder of a name: "podman", a builder of buildx, or "" for what there is, Docker first.

    Raises DaemonError where it is missing or too old.
    """
    path = ctx.environ.get("PATH", "")
    docker, podman = (shutil.which(program, path=path) for program in ("docker", "podman"))
    if name == "podman" or (not name and not docker and podman):
        if not podman:
            raise DaemonError(f'builder = "podman", and podman is not in PATH; install it, {WAY_OUT}')
        from hatch_docker.engines.podman import Podman

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
    """A builder of buildx; raises DaemonError, also for a buildx that is missing or too old."""
    try:
        said = run([docker, "buildx", "version"], env=ctx.environ, timeout=20)
    except ProgramError:
        raise DaemonError(
            f"docker is here, but its buildx is not; install it (docker-buildx, docker-buildx-plugin), {WAY_OUT}"
        ) from None
    if said.startswith("buildah "):  # the package podman-docker
        from hatch_docker.engines.podman import Podman

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
        raise _refusal(str(error), name) from None
    failed = re.search(r"^Error:\s*(.+)$", text, re.MULTILINE)
    if failed:
        raise _refusal(failed[1], name)
    facts = dict(re.findall(r"^(Name|Driver):[ \t]*(\S+)$", text.partition("\nNodes:")[0], re.MULTILINE))
    name, driver = facts.get("Name", name or "default"), facts.get("Driver", "docker")
    if driver == "remote" and set(re.findall(r"^Status:\s*(\S+)", text, re.MULTILINE)) == {"inactive"}:
        where = ", ".join(re.findall(r"^Endpoint:\s*(\S+)", text, re.MULTILINE))
        raise DaemonError(f"builder {name!r} at {where} does not answer; see that BuildKit runs there, {WAY_OUT}")
    nodes = re.findall(r"^Platforms:\s*(\S.*)$", text, re.MULTILINE)
    known = [platform.strip(" *") for node in nodes for platform in node.split(",")]
    return Buildx(docker, name, driver, version, tuple(known))


def _refusal(said: str, name: str, program: str = "docker buildx") -> DaemonError:
    """What a failure of Docker's means, where it is no step of the build that failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no word of why"]
    line = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ").rstrip(".")
    if "ache export" in line and "not supported" in line:
        return DaemonError(
            f"tool.hatch-docker.cache.to: {line}; name a builder that can (builder = ...), or turn on Docker's "
            "containerd image store"
        )
    if re.search(r"no builder .* found|failed to find driver|context not found", said):
        named = re.search(r'"(.+?)"', said)
        missing = name or (named[1] if named else "")
        return DaemonError(f"buildx has no builder {missing!r}; `docker buildx ls` lists them, {WAY_OUT}")
    if "permission denied" in said and "docker" in said:
        return DaemonError(
            f"this user may not talk to Docker ({line}); join the group docker, use rootless Docker, {WAY_OUT}"
        )
    if "context canceled" in line:
        return LostError(f"{program} was ended before the build was done ({line}); build again")
    if re.search(NO_DAEMON, said):
        line = line.rpartition("stderr=")[2] if "stderr=" in line else line  # of ssh, behind what it was told
        return DaemonError(f"no Docker daemon answers ({line}); start it or set DOCKER_HOST, {WAY_OUT}")
    look = f"look at `docker buildx inspect{f' {name}' if name else ''}`, " if program == "docker buildx" else ""
    return DaemonError(f"{program} cannot build: {line}; {look}{WAY_OUT}")


@dataclass(frozen=True, slots=True)
class Buildx:
    """`docker buildx build`, by a builder of a name."""

    program: str
    name: str
    driver: str                               # docker, docker-container, remote, kubernetes or cloud
    version: tuple[int, int] = OLDEST
    platforms: tuple[str, ...] = ()

    @property
    def far(self) -> bool:
        """See Builder. A builder of the driver `docker` is a daemon."""
        return self.driver != "docker"

    @property
    def docker(self) -> list[str]:
        """Docker's program, for the daemon: a builder of the driver `docker` has the name of the daemon's context."""
        return [self.program] if self.far else [self.program, "--context", self.name]

    def build(self, order: Order, ctx: Context) -> None:
        """See Builder."""
        from hatch_docker.engines.rawjson import Log

        command = [
            *self.docker, "buildx", "build", "--progress=rawjson", "--target=export", f"--platform={order.platform}",
            f"--file={order.dockerfile}", f"--output=type=local,dest={order.out.name}", "--provenance=false",
            *([f"--builder={self.name}"] if self.far else []),
            *(f"--secret=id={name},env={name}" for name in order.secrets), *(["--ssh=default"] if order.ssh else []),
            *(f"--build-arg={name}={value}" for name, value in order.proxies.items()),
            *buildx_caches(order.cache, order.root, self.version, ctx),
        ]  # fmt: skip
        for handed in order.handed:
            command += self._hand_over(handed, ctx)
        secrets = [ctx.environ[name] for name in (*order.secrets, *CACHE_SECRETS) if ctx.environ.get(name)]
        log = Log(ctx.progress, secrets)
        where = "Docker" if self.name == "default" else self.name
        try:
            with ctx.progress.task(f"building in {where}"), contextlib.closing(log):
                # A path may hold a comma, the exporter's none: so it is relative. What is said is in base64 yet.
                run([*command, str(order.context)], env=ctx.environ, cwd=order.out.parent, log=log.feed)
        except ProcessFailed as failure:
            raise self._failure(log, failure.status) from None

    def _failure(self, log: Log, status: int) -> BuildError | DaemonError:
        """What a failure means; `status` is the program's."""
        if log.failed.startswith(("[internal] booting", "[internal] waiting")):
            return DaemonError(
                f"builder {self.name!r} (driver {self.driver}) does not start: {log.error}; "
                f"`docker buildx inspect --bootstrap {self.name}` tells more, {WAY_OUT}"
            )
        # What a step says of its own connections is no word of ours.
        if log.failed and not re.search(LOST, log.error):
            return BuildError(log.explain())
        said = "\n".join(log.other)
        lost = re.search(rf"^(?:ERROR: )?(.*(?:{LOST}).*)$", said, re.MULTILINE)
        silent = "" if said else f"docker ended with status {status} and no word of why"
        if (why := lost[1] if lost else silent) and (message := log.lost(why)):
            return LostError(message)
        return BuildError(log.explain()) if log.failed else _refusal(said or silent, self.name)

    def _hand_over(self, handed: Handed, ctx: Context) -> list[str]:
        """Have an image where FROM finds it: loaded into the daemon, or as a layout beside the context."""
        if not self.far:
            load_handed(self.docker, handed, ctx)
            return []
        key = key_of("handed", handed.image.digest)
        layout = ctx.store.tree("layout", key, lambda directory: write_layout(handed.image, directory))
        return [f"--build-context={handed.name}=oci-layout://{layout}@{handed.image.digest}"]


def load_handed(program: Sequence[str], handed: Handed, ctx: Context) -> None:
    """Load an image under a name that its digest is part of, unless it is there."""
    try:
        run([*program, "image", "inspect", "--format", "{{.Id}}", handed.name], env=ctx.environ, timeout=30)
        return
    except ProgramError:
        ctx.progress.detail(f"handing {handed.name} to {Path(program[0]).name}")
    with scratch() as directory:
        archive = directory / "image.tar"
        with archive.open("wb") as stream:
            write_archive(handed.image, [handed.name], stream, host=handed.image.platform)
        try:
            run([*program, "load", "--quiet", "--input", str(archive)], env=ctx.environ)
        except ProcessFailed as failure:
            raise _refusal(failure.output, "", Path(program[0]).name) from None
