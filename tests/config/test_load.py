"""[tool.hatch-docker]: what is accepted, what is refused and in which words, and what an editor shows of it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.config.fields import all_options
from hatch_docker.config.load import load_config
from hatch_docker.config.options import Config, FileConfig, HealthcheckConfig
from hatch_docker.config.schema import schema
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import EVERYTHING, load, refusal, table


def test_an_empty_table_is_all_defaults() -> None:
    """An empty table gives the defaults of the class."""
    assert load({}) == Config()
    assert load({}).tags == ("{version}", "latest")
    assert load({}).user == "65532"


def test_every_option_is_read() -> None:
    """One table that sets every option: values as the Plan wants them."""
    config = load(table(EVERYTHING))
    for field in dataclasses.fields(Config):
        assert getattr(config, field.name) != getattr(Config(), field.name), field.name
    assert config.ports == ("8000/tcp", "53/udp", "443/tcp")
    second = 1_000_000_000
    assert config.healthcheck == HealthcheckConfig(
        command=("probe",), interval=90 * second, timeout=second // 2, start_period=3600 * second, retries=3
    )
    assert config.files == (
        FileConfig(source="static", target="/srv/static"),
        FileConfig(source="run.sh", target="/usr/local/bin/run", mode=0o755),
    )
    assert config.build.packages == ("libpq-dev", "g++")
    assert config.check.timeout == 120 * second


def test_a_config_is_frozen() -> None:
    """Nobody changes a Config after it was read."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        load({}).user = "0"  # type: ignore[misc]


def test_all_problems_at_once_with_their_lines(tmp_path: Path) -> None:
    """One run shows every mistake, each with file, line, path and what to write instead."""
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\nname = "x"\n\n[tool.hatch-docker]\nentrypiont = ["a"]\ntags = [\n  "{version}",\n'
        '  "bad tag",\n]\nenv.PORT = 8000\nlabels.org.example = "x"\nmax-size = "1 mb"\n\n[tool.other]\n\n'
        '[tool.hatch-docker.build]\ncompiler = "gcc"\n\n[[tool.hatch-docker.files]]\nsource = "a"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(table(pyproject.read_text()), {"HATCH_DOCKER_PORTS": "1,x"}, pyproject)
    assert str(caught.value).splitlines() == [
        'pyproject.toml:5: tool.hatch-docker.entrypiont: unknown option; did you mean "entrypoint"?',
        'pyproject.toml:8: tool.hatch-docker.tags[1]: must be a tag such as "{version}" or "stable-1"',
        'pyproject.toml:10: tool.hatch-docker.env.PORT: must be a string: "8000"',
        "pyproject.toml:11: tool.hatch-docker.labels.org: must be a string; a name that contains dots needs quotes",
        'pyproject.toml:12: tool.hatch-docker.max-size: must be a size such as "50MB" or "1.5GiB", not "1 mb"',
        "pyproject.toml:17: tool.hatch-docker.build.compiler: unknown option",
        "pyproject.toml:19: tool.hatch-docker.files[0].target: is missing",
        'HATCH_DOCKER_PORTS[1]: must be a port from 1 to 65535, such as 8000 or "53/udp"',
    ]


@pytest.mark.parametrize("name", ["gone.toml", "broken.toml", "other.toml"])
def test_without_a_readable_file_only_the_line_is_missing(tmp_path: Path, name: str) -> None:
    """Line numbers are a service: a file that cannot be read or says something else costs nothing more."""
    (tmp_path / "broken.toml").write_text("[[[")
    (tmp_path / "other.toml").write_text("[tool]\n")
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.user"):
        load_config({"user": 3}, {}, tmp_path / name)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("x", "tool.hatch-docker: must be a table"),
        ({"entrypoint": "serve --port '8 0'"}, 'must be a list of arguments: ["serve", "--port", "8 0"]'),
        ({"cmd": [1]}, "tool.hatch-docker.cmd[0]: must be a string, not 1"),
        ({"cmd": ["a\0"]}, "tool.hatch-docker.cmd[0]: must not contain a NUL character"),
        ({"tags": []}, "tool.hatch-docker.tags: must not be empty"),
        ({"tags": "x"}, 'tool.hatch-docker.tags: must be a list, not "x"'),
        ({"tags": ["{sha}"]}, "unknown field {sha}; there are {version}, {major}, {minor}, {revision}, {branch}"),
        ({"registries": ["app"]}, "registries[0]: must be a registry such as registry.example"),
        ({"registries": ["team/app"]}, "registries[0]: must be a registry"),
        ({"registries": ["registry.example/app:1"]}, "registries[0]: must be a registry"),
        ({"registries": ["localhost:65536"]}, "registries[0]: must be a registry"),
        ({"tags": ["{version"]}, "tool.hatch-docker.tags[0]: must be a tag"),
        ({"tags": ["a\n"]}, "tool.hatch-docker.tags[0]: must be a tag"),
        ({"tags": ["a", "a"]}, 'tool.hatch-docker.tags: names "a" twice'),
        ({"image": "Team/App"}, 'tool.hatch-docker.image: must be a repository in lower case'),
        ({"image": "app:1"}, 'tags go into "tags", not "app:1"'),
        ({"engine": "kaniko"}, 'tool.hatch-docker.engine: must be "embedded" or "buildkit", not "kaniko"'),
        ({"builder": "a b"}, "tool.hatch-docker.builder: must be the name of a builder"),
        ({"cache": {"from": ["a\n"]}}, "tool.hatch-docker.cache.from[0]: must be one line"),
        ({"base": "python 3"}, 'tool.hatch-docker.base: must be a reference such as "python:3.13-slim"'),
        ({"base": "python@sha256:12"}, "tool.hatch-docker.base: must be a reference"),
        ({"base": "debian:trixie\n"}, "tool.hatch-docker.base: must be a reference"),
        ({"python": 3.13}, 'tool.hatch-docker.python: must be a string such as "3.13", not 3.13'),
        ({"platforms": ["arm64"]}, 'platforms[0]: must be "linux/amd64" or "linux/arm64", not "arm64"'),
        ({"extras": ["a b"]}, "tool.hatch-docker.extras[0]: must be a name"),
        ({"lock": ""}, "tool.hatch-docker.lock: must not be empty"),
        ({"lock": "a\nb"}, "tool.hatch-docker.lock: must be one line"),
        ({"env": {"A=B": "x"}}, 'tool.hatch-docker.env."A=B": must be the name of an environment variable'),
        ({"env": {"A": "\0"}}, "tool.hatch-docker.env.A: must not contain a NUL character"),
        ({"env": {"A": True}}, 'tool.hatch-docker.env.A: must be a string: "true"'),
        ({"env": ["A=1"]}, "tool.hatch-docker.env: must be a table"),
        ({"labels": {"a b": "x"}}, 'tool.hatch-docker.labels."a b": must be a name'),
        ({"user": 1000}, 'tool.hatch-docker.user: must be a number such as "65532"'),
        ({"user": "4294967296"}, "tool.hatch-docker.user: must be at most 2147483647"),
        ({"user": "a:b:c"}, "tool.hatch-docker.user: must be a number such as"),
        ({"workdir": "srv"}, "tool.hatch-docker.workdir: must be an absolute path"),
        ({"workdir": "/a/../b"}, 'tool.hatch-docker.workdir: must not contain ".."'),
        ({"volumes": ["/"]}, "tool.hatch-docker.volumes[0]: must be below /"),
        ({"ports": [0]}, "tool.hatch-docker.ports[0]: must be a port from 1 to 65535"),
        ({"ports": [True]}, "tool.hatch-docker.ports[0]: must be a port"),
        ({"ports": ["80/http"]}, "tool.hatch-docker.ports[0]: must be a port"),
        ({"ports": 8000}, "tool.hatch-docker.ports: must be a list, not 8000"),
        ({"stop-signal": "TERM"}, "tool.hatch-docker.stop-signal: must be a signal"),
        ({"stop-signal": "SIGTREM"}, "tool.hatch-docker.stop-signal: must be a signal"),
        ({"stop-signal": "65"}, "tool.hatch-docker.stop-signal: must be a signal"),
        ({"healthcheck": {"command": []}}, "tool.hatch-docker.healthcheck.command: must not be empty"),
        ({"healthcheck": {}}, "tool.hatch-docker.healthcheck.command: is missing"),
        ({"healthcheck": {"command": ["a"], "interval": 30}}, "interval: must be a string, not 30"),
        ({"healthcheck": {"command": ["a"], "interval": "30"}}, "interval: must be a duration"),
        ({"healthcheck": {"command": ["a"], "retries": -1}}, "retries: must be at least 0, not -1"),
        ({"files": [{"source": "../a", "target": "/a"}]}, "files[0].source: must be a path inside the project"),
        ({"files": [{"source": "a", "target": "a"}]}, "files[0].target: must be an absolute path"),
        ({"files": [{"source": "a", "target": "/a/"}]}, "files[0].target: must name the file or directory"),
        ({"files": [{"source": "a", "target": "/a", "mode": 420}]}, 'mode: must be a string of octal digits'),
        ({"files": [{"source": "a", "target": "/a", "mode": "4755"}]}, 'mode: must be a string of octal digits'),
        ({"files": [{"source": "a", "target": "/a", "mdoe": "0644"}]}, 'unknown option; did you mean "mode"?'),
        ({"compression": "xz"}, 'tool.hatch-docker.compression: must be "gzip", "zstd" or "none", not "xz"'),
        ({"load": True}, 'tool.hatch-docker.load: must be "auto", "always" or "never", not true'),
        ({"build": {"packages": ["Foo Bar"]}}, "build.packages[0]: must be the name of a Debian package"),
        ({"build": {"network": "no"}}, 'tool.hatch-docker.build.network: must be true or false, not "no"'),
        ({"build": "x"}, "tool.hatch-docker.build: must be a table"),
        ({"build": {"args": {"a b": "c"}}}, 'build.args."a b": must be a name made of letters, digits and _'),
        ({"build": {"secrets": ["A,target=/x"]}}, "build.secrets[0]: must be a name made of letters, digits and _"),
        ({"debian": {"mirror": "mirror.example"}}, "debian.mirror: must be the http, https or file URL"),
        ({"packages": ["x"]}, 'unknown option; did you mean "build.packages" or "runtime.packages"?'),
        ({"dependency_groups": []}, 'unknown option; did you mean "dependency-groups"?'),
        ({"max-size": 50}, 'tool.hatch-docker.max-size: must be a size such as "50MB" or "1.5GiB", not 50'),
    ],
)
def test_a_mistake_has_one_line_that_says_what_to_write(found: Any, message: str) -> None:
    """Every kind of mistake is one line with the option's path and what it must be."""
    lines = refusal(found)
    assert len(lines) == 1
    assert message in lines[0]
    assert lines[0].startswith("tool.hatch-docker")


@pytest.mark.parametrize("user", ["root", "0", "0:0", "nonroot", "www-data:www-data", "65532"])
def test_users(user: str) -> None:
    """Root is allowed to who spells it out."""
    assert load({"user": user}).user == user


def test_no_entrypoint_is_not_the_default_entrypoint() -> None:
    """`entrypoint = []` asks for none, leaving it out asks for the guess."""
    assert load({"entrypoint": []}).entrypoint == ()
    assert load({}).entrypoint is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([option.path[-1] for option in all_options()] + ["source", "target", "mode"])


@settings(max_examples=200)
@given(st.dictionaries(NAMES | st.text(), JUNK | st.dictionaries(NAMES, JUNK, max_size=3), max_size=4) | JUNK)
def test_junk_is_a_config_or_a_config_error(found: Any) -> None:
    """Whatever stands in the table's place, the answer is a Config, or one error whose lines all begin with its name.
    """
    try:
        assert isinstance(load(found), Config)
    except ConfigError as error:
        assert all(line.startswith("tool.hatch-docker") for line in str(error).split("\n"))


EDITOR = jsonschema.Draft7Validator(schema())


@settings(max_examples=100)
@given(st.dictionaries(NAMES, JUNK, max_size=2))
def test_what_loads_also_fits_the_schema(found: dict[str, Any]) -> None:
    """An editor marks nothing that a build accepts."""
    try:
        load(found)
    except ConfigError:
        return
    EDITOR.validate(found)


def test_the_schema_is_a_draft_7_schema_that_explains() -> None:
    """Editors and validate-pyproject get a valid schema with a description of every option."""
    jsonschema.Draft7Validator.check_schema(schema())
    EDITOR.validate(table(EVERYTHING))
    assert schema() == json.loads(json.dumps(schema()))
    for wrong in ({"tags": "x"}, {"typo": 1}, {"files": [{}]}, {"ports": [0]}, {"load": True}):
        with pytest.raises(jsonschema.ValidationError):
            EDITOR.validate(wrong)


def test_loading_imports_little() -> None:
    """A good table needs neither tomlkit nor the modules for messages."""
    code = (
        "import sys; from hatch_docker.config.load import load_config; load_config({'user': '0'}, {}, None);"
        "print(*sorted({'tomlkit', 'difflib', 'json', 'hatch_docker.config.messages', "
        "'hatch_docker.config.schema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
