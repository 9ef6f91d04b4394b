"""Parsers of options, of variables, and of BuildKit's log."""

import json
import tomllib
from pathlib import Path
from typing import Any

from hatch_docker.config.load import load_config
from hatch_docker.core.progress import silent
from hatch_docker.engines.buildkit.buildx_log import Log
from tests.fakes.damaged_documents import damaged, damaged_text, mapped, one_of, tuple_of, wrong_values
from tests.fakes.every_option import EVERYTHING
from tests.parsers.parser import parses

OPTIONS = tomllib.loads(EVERYTHING)["tool"]["hatch-docker"]


@parses((wrong_values([OPTIONS]), OPTIONS))
def config(value: Any, _directory: Path) -> None:
    load_config(value, {}, None)


NAMES = [
    f"HATCH_DOCKER_{name}" for name in ("TAGS", "ENTRYPOINT", "ENV", "FILES", "CHECK_TIMEOUT", "PORTS", "IMAGE")
]
VALUES = ('["a", "b"]', "a,b", "A=1,B=2", '{"a": {"b": 1}}', "serve --port '80'", "1m")


@parses((tuple_of(lambda dice: dice.choice(NAMES), damaged_text(VALUES)), ("HATCH_DOCKER_TAGS", "a,b")))
def variables(item: tuple[str, str], _directory: Path) -> None:
    load_config({}, dict([item]), None)


STEP = {"digest": "sha256:1", "name": "[wheel 1/2] RUN x", "started": "2024-01-01T00:00:00Z"}
LOG = [
    {"vertexes": [STEP], "logs": [{"vertex": "sha256:1", "data": "ZXJyb3I6IHg="}]},
    {"vertexes": [{**STEP, "completed": "2024-01-01T00:00:01Z", "cached": True}]},
    {"vertexes": [{**STEP, "completed": "2024-01-01T00:00:01Z", "error": "exit code: 1"}]},
]  # fmt: skip


@parses((
    one_of(
        mapped(wrong_values([LOG]), lambda value: b"\n".join(json.dumps(step).encode() for step in value or ())),
        damaged([b"".join(json.dumps(step, indent=1).encode() + b"\n" for step in LOG) + b"text\n"]),
    ),
    b"\n".join(json.dumps(step).encode() for step in LOG),
))  # fmt: skip
def buildkit_log(data: bytes, _directory: Path) -> None:
    log = Log(silent())
    for line in data.decode(errors="replace").split("\n"):
        log.feed(line)
    log.explain()
