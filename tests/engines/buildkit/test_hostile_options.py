"""Hostile values of all text options: an error of one line, or plain data in the Dockerfile and in buildx options."""

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
from hatch_docker.engines.buildkit.write_dockerfile import _header
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
REQUIRED: Mapping[str, Any] = {  # required options of the tables
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
    """Yield each option whose value contains strings, and a function that returns its value for a string."""
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
    """Return `[tool.hatch-docker]` with one option and the required options of its table."""
    *tables, name = option.removesuffix(" (a key)").split(".")
    found = {name: value}
    for table in tables:
        found = {**REQUIRED.get(table, {}), **found}
        found = {table: [found] if table == "files" else found}
    return found


@pytest.mark.parametrize("option", OPTIONS)
def test_hostile_value_is_rejected_or_data(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(buildx, "run", lambda command, **_: commands.append(command))
    for value in VALUES:
        try:
            made = plan(table_of(option, OPTIONS[option](value)), scripts=("serve",))
            groups = (Group("a", "dependencies", ("a 1",), rules=slim_rules(made, "dependencies")),
                      Group("project", "project", ("p 1",), made.build, venv=True))
            stages = Stages(
                base=made.base.name, python="/usr/bin/python3", groups=groups,
                tools=Packages(("gcc", *made.build.packages), in_context=False),
                system=Packages(("libpq5", *made.base.packages), in_context=False),
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
            for line in lines:  # the arguments of a program are JSON and not read by a shell
                command, found, words = line.partition(' ["')
                assert not found or json.loads(f'["{words}'), repr(value)
                assert not re.match(r"RUN .*(evil|EOF)", command), repr(value)
        assert all(line.startswith("#") for line in _header(made, made.stem, {}, []).splitlines() if line)
        arguments = commands.pop()
        assert arguments[:3] == ["docker", "buildx", "build"]
        assert all(re.fullmatch(OPTION, argument, re.DOTALL) for argument in arguments[3:-1]), repr(value)
