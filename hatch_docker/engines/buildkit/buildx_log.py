"""Reader of the log of `docker buildx build --progress=rawjson`: it reports stages with their times."""

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hatch_docker.core.process import LAST_LINES, redact
from hatch_docker.core.progress import Progress, Task
from hatch_docker.engines.buildkit.build_request import IMAGES
from hatch_docker.wheels.builder import failure_hints

FIRST_ERRORS = 3  # error lines that are kept for each step, even if many lines follow
LONG = 1.0  # seconds: a cached stage that takes longer is reported
_BASE = "[internal] load metadata for "
_IMPORT = "importing cache manifest from "
_STEP = re.compile(r"\[(?:\S+ )?(?P<stage>\S+) +\d+/\d+\] (?P<what>.*)", re.DOTALL)


@dataclass(slots=True)
class Log:
    """Reader of the log, line by line: JSON objects (indented, on many lines, before buildx 0.14) and plain text.

    Steps are identified by their digests. The output of programs is base64 in the log, so `secrets` are hidden here,
    after decoding.
    """

    progress: Progress
    secrets: Sequence[str] = ()
    failed: str = ""                          # the name of the failed step
    error: str = ""                           # BuildKit's error of this step
    other: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))  # lines of plain text
    _buffer: list[str] = field(default_factory=list)  # lines of an incomplete JSON object
    _names: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, deque[str]] = field(default_factory=dict)
    _errors: dict[str, list[str]] = field(default_factory=dict)
    _partial: dict[str, bytes] = field(default_factory=dict)  # a step's output after its last line break
    _unfinished: dict[str, None] = field(default_factory=dict)  # running steps; the last one printed output last
    _reported: set[str] = field(default_factory=set)
    _cached: set[str] = field(default_factory=set)
    _failed_digest: str = ""
    _tasks: dict[str, Task] = field(default_factory=dict)

    def feed(self, line: str) -> None:
        """Process one line."""
        if line.startswith("ERROR: "):  # the docker program's message; buildx may have ended inside an object
            self._buffer.clear()
        if not self._buffer and not line.startswith("{"):
            line = redact(line, self.secrets)
            if line.startswith("WARNING: "):
                self.progress.warn(line.removeprefix("WARNING: "))
            elif line.strip():
                self.other.append(line)
            return
        self._buffer.append(line)
        if line == "}" or len(self._buffer) == 1:
            try:
                value = json.loads("\n".join(self._buffer))
            except (ValueError, RecursionError):
                return
            self._buffer.clear()
            self._process(value)

    def explain(self) -> str:
        """Return the message for a failed build: the stage, the reason, and the step's last lines."""
        if self.failed.startswith(_BASE):
            return redact(pull_failure(self.failed.removeprefix(_BASE), self.error), self.secrets)
        output = self._last_output(self._failed_digest)
        code = re.search(r"exit code: (\d+)", self.error)
        reason = f"exit status {code[1]}" if code else self.error.rpartition("runc run failed: ")[2]
        if "exec format error" in f"{output}{self.error}":
            hint = "; this builder cannot run that platform's programs: use one that can (builder = ...)"
        elif self.failed.startswith("exporting cache"):
            hint = "; with ignore-error=true in cache.to the build goes on"
        else:
            hint = failure_hints.hint(f"{output}\n{self.error}", network=True)
        text = f":\n{output}" if output else ""
        return redact(f"{_stage(self.failed)} failed ({reason}){hint}", self.secrets) + text

    def explain_lost(self, reason: str) -> str:
        """Return the message for a lost builder, with the running step's last lines; "" if no step was running."""
        running = next(reversed(self._unfinished), None)
        if running is None:
            return ""
        output = self._last_output(running)
        line = f"the builder was lost in {_stage(self._names[running])} ({reason}); build again"
        return line + (f":\n{output}" if output else "")

    def _last_output(self, digest: str) -> str:
        self._flush(digest)
        last = self._lines.get(digest, ())
        # The first errors are added, because a long traceback may follow a compiler's message.
        errors = [line for line in self._errors.get(digest, ()) if line not in last]
        return "\n".join([*errors, *last])

    def _process(self, value: dict[str, Any]) -> None:
        for log in _objects(value, "logs"):
            self._add_output(str(log.get("vertex")), str(log.get("data") or ""))
        for vertex in _objects(value, "vertexes"):
            digest, name = str(vertex.get("digest")), str(vertex.get("name", ""))
            self._names[digest] = name
            if vertex.get("completed"):
                self._unfinished.pop(digest, None)
                self._flush(digest)
            elif vertex.get("started"):
                self._unfinished[digest] = None
            if vertex.get("cached"):
                self._cached.add(digest)
            if vertex.get("error") and name.startswith(_IMPORT):
                self._report_unused_cache(name.removeprefix(_IMPORT), str(vertex["error"]))
            elif vertex.get("error") and "context canceled" not in str(vertex["error"]) and not self.failed:
                self.failed, self._failed_digest, self.error = name, digest, str(vertex["error"])
            elif vertex.get("started") and not vertex.get("completed") and not vertex.get("cached"):
                self._show_stage(name, digest)
            # A step from a remote cache is also fetched and unpacked: these complete before the cached step does.
            elif vertex.get("completed") and not vertex.get("error") and (
                digest not in self._cached or vertex.get("cached")
            ):
                self._report_stage(name, digest, vertex)

    def _add_output(self, digest: str, data: str) -> None:
        try:
            output = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            output = data.encode(errors="replace")  # JSON may contain a lone surrogate
        if digest in self._unfinished:
            self._unfinished[digest] = self._unfinished.pop(digest)
        # The data may end inside of a line, a secret or a character: keep the last line until it is complete.
        lines, end, rest = (self._partial.pop(digest, b"") + output).rpartition(b"\n")
        self._partial[digest] = rest
        self._add_lines(digest, lines + end)

    def _flush(self, digest: str) -> None:
        """Process the last line of a step, which may have no line break."""
        self._add_lines(digest, self._partial.pop(digest, b""))

    def _add_lines(self, digest: str, output: bytes) -> None:
        for line in output.decode(errors="replace").splitlines():
            line = redact(line, self.secrets)
            self._lines.setdefault(digest, deque(maxlen=LAST_LINES)).append(line)
            if re.search(r"\berror: ", line) and len(self._errors.setdefault(digest, [])) < FIRST_ERRORS:
                self._errors[digest].append(line)
            self.progress.detail(line)

    def _report_unused_cache(self, name: str, error: str) -> None:
        """Report a cache that cannot be read, once; the build continues without it."""
        if error in self._reported:
            return
        self._reported.add(error)
        if error.endswith("not found"):
            self.progress.info(f"  nothing in the cache {name} yet")
        else:
            self.progress.warn(redact(f"the cache {name} is not used: {error}", self.secrets))

    def _show_stage(self, name: str, digest: str) -> None:
        step = _STEP.match(name)
        if step is not None and step["what"].startswith("RUN") and digest not in self._tasks:
            self._tasks[digest] = self.progress.task(f"stage {step['stage']}", part=True)
            self._tasks[digest].begin()

    def close(self) -> None:
        """End the progress display of all running stages."""
        while self._tasks:
            self._tasks.popitem()[1].end()

    def _report_stage(self, name: str, digest: str, vertex: dict[str, Any]) -> None:
        step = _STEP.match(name)
        if step is None or not step["what"].startswith("RUN") or digest in self._reported:
            return
        self._reported.add(digest)
        if digest in self._tasks:
            self._tasks.pop(digest).end()
        if digest not in self._cached:
            self.progress.stage(step["stage"], _seconds(vertex))
        elif _seconds(vertex) < LONG:
            self.progress.detail(f"  {step['stage']}  cached")
        else:
            self.progress.stage(step["stage"], _seconds(vertex), "cached, fetched in ")


def pull_failure(name: str, why: str) -> str:
    """Return the message for an image of FROM that the builder cannot pull or, for a loaded image, does not have."""
    if f"{IMAGES}/" in name:
        return f"{name} was loaded into the builder, and is no longer there ({why}); build again"
    return (
        f"the builder cannot pull the base {name} ({why}); log in for it (docker login, podman login), have it reach "
        f"and trust that registry, or take it along: `skopeo copy docker://{name.partition('@')[0]} oci:base`, "
        'base = "oci:base"'
    )


def _stage(name: str) -> str:
    step = _STEP.match(name)
    return f"stage {step['stage']}" if step else name


def _objects(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _seconds(vertex: dict[str, Any]) -> float:
    try:
        started, completed = (datetime.fromisoformat(vertex[key]) for key in ("started", "completed"))
        return (completed - started).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0
