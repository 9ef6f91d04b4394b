"""Hostile values in every option that is a text: refused in one line, or data in Dockerfile and arguments of buildx."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hatch_docker.config
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.text import sanitize
from hatch_docker.engines.buildkit import buildx
from hatch_docker.engines.buildkit.buildx import Buildx
from hatch_docker.engines.buildkit.dockerfile import Group, Packages, Stages, render, render_export
from hatch_docker.engines.buildkit.write_dockerfile import _head
from hatch_docker.engines.common import image_settings, slim_rules
from hatch_docker.oci.make_image import scratch
from hatch_docker.plan.model import BasePlan
from tests.fakes.context import context
from tests.fakes.docker_programs import build_request
from tests.fakes.images import AMD64
from tests.fakes.plans import plan

VALUES = [
    "x\nRUN evil", "x\r\nRUN evil", 'x"\nRUN evil', "x\u2028RUN evil", "x\\", "x\\\nRUN evil", "$(evil)", "${X:-evil}",
    "`evil`", "x; evil", "--evil", "-evil", "x --evil", "x=y --evil", "<<EOF", "x # evil", "'x", " ", 'x"], "evil',
    "x,type=local,dest=/etc", 'type=local,"dest=x\ny"', "type=registry,ref=--evil", "type=local,dest=a --evil",
]  # fmt: skip
NEEDED: Mapping[str, Any] = {  # what a table must have beside the option
    "healthcheck": {"command": ["x"]}, "files": {"source": "a", "target": "/a"}, "check": {"command": ["x"]},
    "slim": {"leave-out": ["tests"]},
}  # fmt: skip
BASE = Base(
    BasePlan("registry", "x", "x"), "x", "", scratch(AMD64), Interpreter("/usr/bin/python3", "3.13.5"),
    ("glibc", "2.41"), {}, frozenset(),
)  # fmt: skip
INSTRUCTION = r"FROM|COPY|ADD|RUN|ARG|ENV|LABEL|EXPOSE|VOLUME|WORKDIR|STOPSIGNAL|HEALTHCHECK|USER|ENTRYPOINT|CMD"
OPTION = (
    r"--(progress|target|platform|file|output|provenance|builder|secret|build-arg|cache-from|cache-to)=.*|--ssh=default"
)


def options(schema: Mapping[str, Any], *path: str) -> Iterator[tuple[str, Any]]:
    """Yield each option that is a text, or has texts, and the function of a text that gives its value."""
    for name, item in schema["properties"].items():
        where, inner = (*path, name), item.get("items", {})
        if "properties" in item or "properties" in inner:
            yield from options(item if "properties" in item else inner, *where)
        elif inner.get("type") == "string":
            yield ".".join(where), lambda text: [text]
        elif isinstance(item.get("additionalProperties"), dict):
            yield ".".join(where), lambda text: {"X": text}
            yield f"{'.'.join(where)} (a key)", lambda text: {text: "x"}
        elif "string" in item.get("type", ()) and "enum" not in item:
            yield ".".join(where), lambda text: text


OPTIONS = dict(options(json.loads(Path(hatch_docker.config.__file__).with_name("schema.json").read_text())))


def table_of(option: str, value: Any) -> dict[str, Any]:
    """Return `[tool.hatch-docker]` with one option, and what its table needs beside it."""
    *tables, name = option.removesuffix(" (a key)").split(".")
    found = {name: value}
    for table in tables:
        found = {**NEEDED.get(table, {}), **found}
        found = {table: [found] if table == "files" else found}
    return found


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_refused_or_is_data(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[str]] = []
    monkeypatch.setattr(buildx, "run", lambda command, **_: said.append(command))
    for value in VALUES:
        try:
            made = plan(table_of(option, OPTIONS[option](value)), scripts=("serve",))
            groups = (Group("a", "dependencies", ("a 1",), rules=slim_rules(made, "dependencies")),
                      Group("project", "project", ("p 1",), made.build, venv=True))
            stages = Stages(
                base=made.base.name, python="/usr/bin/python3", groups=groups,
                tools=Packages(("gcc", *made.build.packages), given=False),
                system=Packages(("libpq5", *made.base.packages), given=False),
            )  # fmt: skip
            texts = render(stages, image_settings(made, BASE, 0)), render_export(stages)
            request = build_request(tmp_path)
            request = replace(request, secrets=made.build.secrets, ssh=made.build.ssh, cache=made.cache)
            Buildx("docker", made.builder or "b", "remote").build(request, context(tmp_path / "cache"))
        except ConfigError as error:
            assert len(sanitize(str(error)).splitlines()) == 1, repr(value)
            continue
        for text in texts:
            lines = [line for line in re.sub(r" \\\n", " ", text).split("\n") if line and not line.startswith("#")]
            assert all(re.match(rf"({INSTRUCTION}) ", line) for line in lines), repr(value)
            for line in lines:  # words of a program are JSON, which no shell reads
                command, found, words = line.partition(' ["')
                assert not found or json.loads(f'["{words}'), repr(value)
                assert not re.match(r"RUN .*(evil|EOF)", command), repr(value)
        assert all(line.startswith("#") for line in _head(made, made.stem, {}, []).splitlines() if line)
        arguments = said.pop()
        assert arguments[:3] == ["docker", "buildx", "build"]
        assert all(re.fullmatch(OPTION, argument, re.DOTALL) for argument in arguments[3:-1]), repr(value)
