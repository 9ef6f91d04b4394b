"""`podman build` as a builder, for the same Dockerfile as buildx."""

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, LostError
from hatch_docker.core.process import LAST_LINES, ProcessFailed, run
from hatch_docker.core.progress import Progress, Task
from hatch_docker.engines.buildkit.build_request import BuildRequest, load_image, unload_images
from hatch_docker.engines.buildkit.buildx_log import pull_failure
from hatch_docker.engines.buildkit.cache_options import CACHE_SECRETS, podman_caches
from hatch_docker.oci.model import host_platform
from hatch_docker.wheels.builder import failure_hints

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (?P<what>.*)")
_FROM = re.compile(r"FROM \S+ AS (?P<stage>\S+)")
_DONE = re.compile(r"--> [0-9a-f]{12}$")  # a step's output may precede it on the same line


@dataclass(frozen=True, slots=True)
class Podman:
    """Builder that uses Podman; images are loaded into Podman's storage."""

    program: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """See Builder."""
        return (str(host_platform()),)

    @property
    def remote(self) -> bool:
        """See Builder."""
        return False

    def build(self, request: BuildRequest, ctx: Context) -> None:
        """See Builder."""
        options = podman_caches(request.cache)
        for image in request.images:
            load_image([self.program], image, ctx)
        command = [
            self.program, "build", "--target=export", f"--platform={request.platform}", f"--file={request.dockerfile}",
            f"--output=type=local,dest={request.out.name}", "--layers", "--pull=missing", *options,
            *(["--no-cache"] if ctx.no_cache else []),
            *(f"--secret=id={name},env={name}" for name in request.secrets),
            *(["--ssh=default"] if request.ssh else []),
        ]  # fmt: skip
        secrets = [ctx.environ[name] for name in (*request.secrets, *CACHE_SECRETS) if ctx.environ.get(name)]
        log = PodmanLog(ctx.progress)
        try:
            with ctx.progress.task("building in Podman"), contextlib.closing(log):
                run(
                    [*command, str(request.context)], env=ctx.environ, cwd=request.out.parent, log=log.feed,
                    secrets=secrets, merged=True,
                )
        except ProcessFailed as failure:
            kind = LostError if failure.status < 0 else BuildError  # a negative status: podman was killed
            raise kind(log.explain(failure.output, failure.status)) from None
        finally:
            unload_images([self.program], request.images, ctx)


@dataclass(slots=True)
class PodmanLog:
    """Reader of Podman's output, line by line; it reports stages with their times."""

    progress: Progress
    clock: Callable[[], float] = time.monotonic
    _stage: str = ""
    _step: str = ""
    _began: float = 0.0
    _cached: bool = False
    _running: Task | None = None
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    def feed(self, line: str) -> None:
        """Process one line."""
        if step := _STEP.match(line):
            self._step, self._began, self._cached = step["what"], self.clock(), False
            self._lines.clear()
            started = _FROM.match(self._step)
            self._stage = started["stage"] if started else self._stage
            self.close()
            if self._step.startswith("RUN"):
                self._running = self.progress.task(f"stage {self._stage}", part=True)
                self._running.begin()
        elif line.startswith("--> Using cache"):
            self._cached = True
        elif _DONE.search(line):
            if self._step.startswith("RUN") and self._cached:
                self.progress.detail(f"  {self._stage}  cached")
            elif self._step.startswith("RUN"):
                self.progress.stage(self._stage, self.clock() - self._began)
            self._step = ""
        else:
            self._lines.append(line)
            self.progress.detail(line)

    def close(self) -> None:
        """End the progress display of the running stage."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def explain(self, last: str, status: int) -> str:
        """Return the message for a failed build. `last`: Podman's last lines, used if no stage has failed."""
        if not self._step:
            return f"podman build failed (status {status}):\n{last}"
        base = re.match(r"FROM (\S+)", self._step)
        if base is not None and self._lines:
            return pull_failure(base[1], self._lines[-1].removeprefix("Error: "))
        code = re.search(r"exit status (\d+)", last)
        reason = f"exit status {code[1]}" if code else f"podman ended with status {status}"
        lines = [line for line in self._lines if not (code and line.startswith("Error: building at STEP"))]
        hint = failure_hints.hint("\n".join([*lines, reason]), network=True)
        return f"stage {self._stage} failed ({reason}){hint}" + (":\n" + "\n".join(lines) if lines else "")
