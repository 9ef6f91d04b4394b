"""Fake programs docker and podman, events of BuildKit's log, and a build request."""

import base64
import json
from pathlib import Path

from hatch_docker.core.context import Context, open_context
from hatch_docker.core.progress import Progress, silent
from hatch_docker.engines.buildkit.build_request import BuildRequest
from hatch_docker.engines.buildkit.buildx_log import Log
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import CachePlan
from tests.conftest import script

INSPECT = "Name: default\nDriver: docker\n"
UNPULLED = (
    "the builder cannot pull the base registry.example/py:3@sha256:0 (401); log in for it (docker login, podman "
    "login), have it reach and trust that registry, or take it along: `skopeo copy docker://registry.example/py:3 oci:"
)


def context_with_programs(directory: Path, **programs: str) -> Context:
    """Return a context whose PATH has only these programs: name -> text of a shell script."""
    for name, text in programs.items():
        script(directory / "bin" / name, text)
    return open_context({"PATH": str(directory / "bin"), "HATCH_DOCKER_CACHE_DIR": str(directory / "cache")}, silent())


def docker(version: str = "buildx v0.13.1 0", inspect: str = INSPECT, *, fails: bool = False) -> str:
    ending = ">&2; exit 1" if fails else ""
    return f"case \"$2\" in version) echo '{version}';; inspect) echo '{inspect}' {ending};; esac"


def build_request(path: Path) -> BuildRequest:
    return BuildRequest(path, path, path / "out", Platform("linux", "amd64"), (), CachePlan(), path, ())


def log_of(*values: dict[str, object], indent: int | None = None) -> tuple[Log, list[str]]:
    lines: list[str] = []
    log = Log(Progress(lines.append))
    for value in values:
        for line in json.dumps(value, indent=indent).splitlines():
            log.feed(line)
    return log, lines


STEP = {"digest": "sha256:1", "name": "[install-numpy 2/2] RUN --network=none python"}
DONE = {**STEP, "started": "2026-01-01T00:00:00.5Z", "completed": "2026-01-01T00:00:02.123456789Z"}


def log_event(text: str, vertex: str = "sha256:1") -> dict[str, object]:
    """Return an event with output of a step."""
    return {"logs": [{"vertex": vertex, "stream": 1, "data": base64.b64encode(text.encode()).decode()}]}
