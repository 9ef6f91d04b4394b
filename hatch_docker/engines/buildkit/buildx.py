"""`docker buildx build` with a builder of any driver.

The result is exported to a local directory, which every driver supports: the builder neither loads nor pushes an image.
"""

import contextlib
import re
from dataclasses import dataclass

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, DaemonError, LostError
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.engines.buildkit.build_request import (
    ADVICE,
    BuildRequest,
    PreloadedImage,
    daemon_error,
    load_image,
    unload_images,
)
from hatch_docker.engines.buildkit.buildx_log import Log
from hatch_docker.engines.buildkit.cache_options import CACHE_SECRETS, buildx_caches
from hatch_docker.oci.layout import write_layout

OLDEST = (0, 13)  # the first version of buildx with --progress=rawjson
LOST = r"error reading from server|code = Unavailable|transport is closing|connection reset|broken pipe|\bEOF\b"


@dataclass(frozen=True, slots=True)
class Buildx:
    """A builder of `docker buildx`. `name`: its name."""

    program: str
    name: str
    driver: str                               # docker, docker-container, remote, kubernetes or cloud
    version: tuple[int, int] = OLDEST
    platforms: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """See Builder. With the driver `docker`, the builder is the daemon."""
        return self.driver != "docker"

    @property
    def docker(self) -> list[str]:
        """The docker command for the builder's daemon; with the driver `docker`, its context has the builder's name."""
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
                # `dest` is relative, because it cannot contain a comma, and a path may. The output is redacted by
                # `log`, because it is base64 here.
                run([*command, str(request.context)], env=ctx.environ, cwd=request.out.parent, log=log.feed)
        except ProcessFailed as failure:
            raise self._failure(log, failure.status) from None
        finally:
            unload_images([] if self.remote else self.docker, [] if self.remote else request.images, ctx)

    def _failure(self, log: Log, status: int) -> BuildError | DaemonError:
        """Return the error for a failed build. `status`: the program's exit status."""
        if log.failed.startswith(("[internal] booting", "[internal] waiting")):
            return DaemonError(
                f"builder {self.name!r} (driver {self.driver}) does not start: {log.error}; "
                f"`docker buildx inspect --bootstrap {self.name}` tells more, {ADVICE}"
            )
        # Only BuildKit's error is searched for LOST: the output of a step may contain such a message too.
        if log.failed and not re.search(LOST, log.error):
            return BuildError(log.explain())
        output = "\n".join(log.other)
        lost = re.search(rf"^(?:ERROR: )?(.*(?:{LOST}).*)$", output, re.MULTILINE)
        silent = "" if output else f"docker exited with status {status} without an error message"
        if (reason := lost[1] if lost else silent) and (message := log.explain_lost(reason)):
            return LostError(message)
        return BuildError(log.explain()) if log.failed else daemon_error(output or silent, self.name)

    def _preload(self, image: PreloadedImage, ctx: Context) -> list[str]:
        """Make an image available to FROM; return the necessary options: none for a daemon, else an OCI layout."""
        if not self.remote:
            load_image(self.docker, image, ctx)
            return []
        key = key_of("handed", image.image.digest)
        layout = ctx.store.tree("layout", key, lambda directory: write_layout(image.image, directory))
        return [f"--build-context={image.name}=oci-layout://{layout}@{image.image.digest}"]
