"""Log of `docker buildx build --progress=rawjson`, read as stages with their times."""

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
from hatch_docker.wheels.builder import failure_hints as missing

FIRST_ERRORS = 3
LONG = 1.0  # seconds that a stage out of a cache may take without a word
_BASE = "[internal] load metadata for "
_IMPORT = "importing cache manifest from "
_STEP = re.compile(r"\[(?:\S+ )?(?P<stage>\S+) +\d+/\d+\] (?P<what>.*)", re.DOTALL)


@dataclass(slots=True)
class Log:
    """Reader of the log, line by line: objects, indented over many lines before buildx 0.14, and plain text.

    What programs say is in base64 there: `secrets` can be hidden only once it is read.
    """

    progress: Progress
    secrets: Sequence[str] = ()
    failed: str = ""                          # the name of the step that failed
    error: str = ""                           # what BuildKit says of it
    other: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    _buffer: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, deque[str]] = field(default_factory=dict)
    _errors: dict[str, list[str]] = field(default_factory=dict)
    _unended: dict[str, bytes] = field(default_factory=dict)  # what a step said since its last line break
    _begun: dict[str, None] = field(default_factory=dict)  # and is not done yet, who spoke last at the end
    _told: set[str] = field(default_factory=set)
    _cached: set[str] = field(default_factory=set)
    _culprit: str = ""
    _running: dict[str, Task] = field(default_factory=dict)

    def feed(self, line: str) -> None:
        """Take one line."""
        if line.startswith("ERROR: "):  # of the other half of Docker's program, whose first ended within an object
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
            self._take(value)

    def explain(self) -> str:
        """Return the message for a failed build: the stage, the step, its last lines."""
        if self.failed.startswith(_BASE):
            return redact(pull_failure(self.failed.removeprefix(_BASE), self.error), self.secrets)
        said = self._said(self._culprit)
        code = re.search(r"exit code: (\d+)", self.error)
        reason = f"exit status {code[1]}" if code else self.error.rpartition("runc run failed: ")[2]
        if "exec format error" in f"{said}{self.error}":
            hint = "; this builder cannot run that platform's programs: name one that can (builder = ...)"
        elif self.failed.startswith("exporting cache"):
            hint = "; with ignore-error=true in cache.to the build goes on"
        else:
            hint = missing.hint(f"{said}\n{self.error}", network=True)
        return redact(f"{_stage(self.failed)} failed ({reason}){hint}", self.secrets) + (f":\n{said}" if said else "")

    def lost(self, why: str) -> str:
        """Return the message for a lost builder, with the step that ran; "" where none ran."""
        running = next(reversed(self._begun), None)
        if running is None:
            return ""
        said = self._said(running)
        line = f"the builder was lost in {_stage(self._names[running])} ({why}); build again"
        return line + (f":\n{said}" if said else "")

    def _said(self, digest: str) -> str:
        self._end(digest)
        last = self._lines.get(digest, ())
        # A compiler's message may stand above a long traceback of who called it.
        told = [line for line in self._errors.get(digest, ()) if line not in last]
        return "\n".join([*told, *last])

    def _take(self, value: dict[str, Any]) -> None:
        for log in _objects(value, "logs"):
            self._hear(str(log.get("vertex")), str(log.get("data") or ""))
        for vertex in _objects(value, "vertexes"):
            digest, name = str(vertex.get("digest")), str(vertex.get("name", ""))
            self._names[digest] = name
            if vertex.get("completed"):
                self._begun.pop(digest, None)
                self._end(digest)
            elif vertex.get("started"):
                self._begun[digest] = None
            if vertex.get("cached"):
                self._cached.add(digest)
            if vertex.get("error") and name.startswith(_IMPORT):
                self._no_cache(name.removeprefix(_IMPORT), str(vertex["error"]))
            elif vertex.get("error") and "context canceled" not in str(vertex["error"]) and not self.failed:
                self.failed, self._culprit, self.error = name, digest, str(vertex["error"])
            elif vertex.get("started") and not vertex.get("completed") and not vertex.get("cached"):
                self._begin(name, digest)
            # What is cached far away is also fetched and unpacked, and each of that completes too.
            elif vertex.get("completed") and not vertex.get("error") and (
                digest not in self._cached or vertex.get("cached")
            ):
                self._tell(name, digest, vertex)

    def _hear(self, digest: str, data: str) -> None:
        try:
            said = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            said = data.encode(errors="replace")  # JSON may hold half a character (a surrogate)
        if digest in self._begun:
            self._begun[digest] = self._begun.pop(digest)
        # A piece may end within a line, and so within a secret or a character.
        lines, end, rest = (self._unended.pop(digest, b"") + said).rpartition(b"\n")
        self._unended[digest] = rest
        self._read(digest, lines + end)

    def _end(self, digest: str) -> None:
        """Take the last line of a step, which may have no line break."""
        self._read(digest, self._unended.pop(digest, b""))

    def _read(self, digest: str, said: bytes) -> None:
        for line in said.decode(errors="replace").splitlines():
            line = redact(line, self.secrets)
            self._lines.setdefault(digest, deque(maxlen=LAST_LINES)).append(line)
            if re.search(r"\berror: ", line) and len(self._errors.setdefault(digest, [])) < FIRST_ERRORS:
                self._errors[digest].append(line)
            self.progress.detail(line)

    def _no_cache(self, name: str, error: str) -> None:
        """Report a cache that cannot be read; the build goes on without it."""
        if error in self._told:
            return
        self._told.add(error)
        if error.endswith("not found"):
            self.progress.info(f"  nothing in the cache {name} yet")
        else:
            self.progress.warn(redact(f"the cache {name} is not used: {error}", self.secrets))

    def _begin(self, name: str, digest: str) -> None:
        step = _STEP.match(name)
        if step is not None and step["what"].startswith("RUN") and digest not in self._running:
            self._running[digest] = self.progress.task(f"stage {step['stage']}", part=True)
            self._running[digest].begin()

    def close(self) -> None:
        """End the display of all running stages."""
        while self._running:
            self._running.popitem()[1].end()

    def _tell(self, name: str, digest: str, vertex: dict[str, Any]) -> None:
        step = _STEP.match(name)
        if step is None or not step["what"].startswith("RUN") or digest in self._told:
            return
        self._told.add(digest)
        if digest in self._running:
            self._running.pop(digest).end()
        if digest not in self._cached:
            self.progress.stage(step["stage"], _seconds(vertex))
        elif _seconds(vertex) < LONG:
            self.progress.detail(f"  {step['stage']}  cached")
        else:
            self.progress.stage(step["stage"], _seconds(vertex), "cached, fetched in ")


def pull_failure(name: str, why: str) -> str:
    """Return the message for an image of FROM that a builder does not have: a registry's, or one that was loaded."""
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
