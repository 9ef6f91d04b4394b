"""Request to build the stage `export` of a Dockerfile, and the common code of Docker and Podman for it."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hatch_docker.core.context import Context
from hatch_docker.core.errors import DaemonError, LostError, ProgramError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.model import Image, Platform
from hatch_docker.plan.model import CachePlan

ADVICE = 'or set engine = "embedded", which needs neither Docker nor Podman'
IMAGES = "hatch-docker"  # the first part of the names of images that are loaded into a builder
NO_DAEMON = (
    "Cannot connect to the Docker daemon|connection refused|no such host|timeout|is the docker|error during connect"
    "|deadline exceeded"
)


@dataclass(frozen=True, slots=True)
class PreloadedImage:
    """An image that a builder cannot pull, and its name in the builder. `keep`: later builds use it again."""

    name: str
    image: Image
    keep: bool = True


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Request to build the stage `export` of a Dockerfile into the directory `out`."""

    dockerfile: Path
    context: Path
    out: Path
    platform: Platform
    images: tuple[PreloadedImage, ...]        # loaded first: the builder cannot pull them
    cache: CachePlan
    root: Path                                # the project's directory, to which paths of caches are relative
    secrets: tuple[str, ...]                  # names of environment variables
    ssh: bool = False                         # the build may use this machine's SSH agent
    proxies: Mapping[str, str] = field(default_factory=dict)  # proxy variables for stages that use the network


class Builder(Protocol):
    """Program that executes a request. `build` raises BuildError with a failed step's last lines, else DaemonError."""

    @property
    def platforms(self) -> tuple[str, ...]:
        """The supported platforms, the native one first, then emulated ones; empty if it has not started yet."""

    @property
    def remote(self) -> bool:
        """True if images are sent with the request, and not loaded into a daemon."""

    def build(self, request: BuildRequest, ctx: Context) -> None: ...


def daemon_error(output: str, name: str, program: str = "docker buildx") -> DaemonError:
    """Return the error for a failure outside of the build's steps, from the program's output. `name`: the builder's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it gave no error message"]
    line = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ").rstrip(".")
    if "ache export" in line and "not supported" in line:
        return DaemonError(
            f"tool.hatch-docker.cache.to: {line}; use a builder that can (builder = ...), or turn on Docker's "
            "containerd image store"
        )
    if re.search(r"no builder .* found|failed to find driver|context not found", output):
        named = re.search(r'"(.+?)"', output)
        missing = name or (named[1] if named else "")
        return DaemonError(f"buildx has no builder {missing!r}; `docker buildx ls` lists them, {ADVICE}")
    if "permission denied" in output and "docker" in output:
        return DaemonError(
            f"this user may not talk to Docker ({line}); join the group docker, use rootless Docker, {ADVICE}"
        )
    if "context canceled" in line:
        return LostError(f"{program} was stopped before the build was done ({line}); build again")
    if re.search(NO_DAEMON, output):
        line = line.rpartition("stderr=")[2] if "stderr=" in line else line  # the message of ssh, after its command
        return DaemonError(f"no Docker daemon answers ({line}); start it or set DOCKER_HOST, {ADVICE}")
    look = f"look at `docker buildx inspect{f' {name}' if name else ''}`, " if program == "docker buildx" else ""
    return DaemonError(f"{program} cannot build: {line}; {look}{ADVICE}")


def load_image(program: Sequence[str], image: PreloadedImage, ctx: Context) -> None:
    """Load an image into the daemon, unless it has an image of this name; the name contains the digest."""
    try:
        run([*program, "image", "inspect", "--format", "{{.Id}}", image.name], env=ctx.environ, timeout=30)
        return
    except ProgramError:
        ctx.progress.detail(f"loading {image.name} into {Path(program[0]).name}")
    with temporary_directory() as directory:
        archive = directory / "image.tar"
        with archive.open("wb") as stream:
            write_archive(image.image, [image.name], stream, host=image.image.platform)
        try:
            run([*program, "load", "--quiet", "--input", str(archive)], env=ctx.environ)
        except ProcessFailed as failure:
            raise daemon_error(failure.output, "", Path(program[0]).name) from None


def unload_images(program: Sequence[str], images: Sequence[PreloadedImage], ctx: Context) -> None:
    """Remove the images that were loaded for one build only (`keep` is false); errors are ignored."""
    for image in images:
        if not image.keep:
            with contextlib.suppress(ProgramError):  # another build may use the image
                run([*program, "image", "rm", image.name], env=ctx.environ, timeout=30)
