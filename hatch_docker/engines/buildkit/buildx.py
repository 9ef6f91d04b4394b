"""`docker buildx build`, by a builder of any driver.

Trees come back by the local exporter, which every driver has: no builder loads or pushes an image.
"""

import contextlib
import re
from dataclasses import dataclass

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, DaemonError, LostError
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.engines.buildkit.build_request import (
    WAY_OUT,
    BuildRequest,
    PreloadedImage,
    daemon_error,
    load_image,
    unload_images,
)
from hatch_docker.engines.buildkit.buildx_log import Log
from hatch_docker.engines.buildkit.cache_options import CACHE_SECRETS, buildx_caches
from hatch_docker.oci.layout import write_layout

OLDEST = (0, 13)  # of buildx: --progress=rawjson
LOST = r"error reading from server|code = Unavailable|transport is closing|connection reset|broken pipe|\bEOF\b"


@dataclass(frozen=True, slots=True)
class Buildx:
    """`docker buildx build`, by a builder of a name."""

    program: str
    name: str
    driver: str                               # docker, docker-container, remote, kubernetes or cloud
    version: tuple[int, int] = OLDEST
    platforms: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """See Builder. A builder of the driver `docker` is a daemon."""
        return self.driver != "docker"

    @property
    def docker(self) -> list[str]:
        """Docker's command for the builder's daemon; a builder of the driver `docker` has the name of its context."""
        return [self.program] if self.remote else [self.program, "--context", self.name]

    def build(self, request: BuildRequest, ctx: Context) -> None:
        """See Builder."""
        command = [
            *self.docker, "buildx", "build", "--progress=rawjson", "--target=export", f"--platform={request.platform}",
            f"--file={request.dockerfile}", f"--output=type=local,dest={request.out.name}", "--provenance=false",
            *([f"--builder={self.name}"] if self.remote else []),
            *(f"--secret=id={name},env={name}" for name in request.secrets),
            *(["--ssh=default"] if request.ssh else []),
            *(f"--build-arg={name}={value}" for name, value in request.proxies.items()),
            *(["--no-cache"] if ctx.no_cache else []),
            *buildx_caches(request.cache, request.root, self.version, ctx),
        ]  # fmt: skip
        for image in request.images:
            command += self._preload(image, ctx)
        secrets = [ctx.environ[name] for name in (*request.secrets, *CACHE_SECRETS) if ctx.environ.get(name)]
        log = Log(ctx.progress, secrets)
        where = "Docker" if self.name == "default" else self.name
        try:
            with ctx.progress.task(f"building in {where}"), contextlib.closing(log):
                # A path may hold a comma, the exporter's none: so it is relative. What is said is in base64 yet.
                run([*command, str(request.context)], env=ctx.environ, cwd=request.out.parent, log=log.feed)
        except ProcessFailed as failure:
            raise self._failure(log, failure.status) from None
        finally:
            unload_images([] if self.remote else self.docker, [] if self.remote else request.images, ctx)

    def _failure(self, log: Log, status: int) -> BuildError | DaemonError:
        """Return the error for a failed build; `status` is the program's exit status."""
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
        silent = "" if said else f"docker exited with status {status} without an error message"
        if (why := lost[1] if lost else silent) and (message := log.lost(why)):
            return LostError(message)
        return BuildError(log.explain()) if log.failed else daemon_error(said or silent, self.name)

    def _preload(self, image: PreloadedImage, ctx: Context) -> list[str]:
        """Return the options by which FROM finds an image: none once a daemon has loaded it, else a layout's path."""
        if not self.remote:
            load_image(self.docker, image, ctx)
            return []
        key = key_of("handed", image.image.digest)
        layout = ctx.store.tree("layout", key, lambda directory: write_layout(image.image, directory))
        return [f"--build-context={image.name}=oci-layout://{layout}@{image.image.digest}"]
