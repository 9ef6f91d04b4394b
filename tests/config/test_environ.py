"""HATCH_DOCKER_<OPTION> variables, which override the table, and the messages for wrong values."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.config.options import Config
from hatch_docker.config.schema import all_options
from hatch_docker.core.context import VARIABLES
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import config_errors, load


def test_possible_secrets_are_not_in_messages() -> None:
    """These are values of environment tables, and URLs with logins."""
    secret = "hunter2"
    wrong: list[Any] = [
        {"env": {"A": secret + "\0"}},
        {"build": {"env": {"A": [secret]}}},
        {"debian": {"mirror": f"ftp://user:{secret}@mirror.example"}},
        {"base": f"https://user:{secret}@registry.example/x"},
    ]
    for found in wrong:
        assert secret not in "\n".join(config_errors(found))
    assert secret not in "\n".join(config_errors({}, HATCH_DOCKER_BUILD_ENV=secret, HATCH_DOCKER_ENV=f"{{{secret}"))


def test_variables_override_the_table() -> None:
    found = {"tags": ["a"], "env": {"A": "1"}, "build": {"packages": ["gcc"], "network": True}}
    config = load(
        found,
        HATCH_DOCKER_TAGS="{version}, x",
        HATCH_DOCKER_ENV="B=2,C=x=y",
        HATCH_DOCKER_LABELS='{"a": "1,2"}',
        HATCH_DOCKER_BUILD_PACKAGES='["libpq-dev"]',
        HATCH_DOCKER_BUILD_NETWORK="off",
        HATCH_DOCKER_DEBIAN_MIRROR="http://mirror.example/debian",
        HATCH_DOCKER_CHECK_COMMAND="app --say 'two words'",
        HATCH_DOCKER_CMD='["a b", "c"]',
        HATCH_DOCKER_PORTS="80,53/udp",
        HATCH_DOCKER_STOP_SIGNAL="SIGINT",
        HATCH_DOCKER_FILES='[{"source": "a", "target": "/a"}]',
        HATCH_DOCKER_HEALTHCHECK_COMMAND="probe",
        HATCH_DOCKER_HEALTHCHECK_RETRIES="2",
        HATCH_DOCKER_WORKDIR="",
        PATH="/bin",
    )
    assert config.tags == ("{version}", "x")
    assert config.env == {"B": "2", "C": "x=y"}
    assert config.labels == {"a": "1,2"}
    assert config.build.packages == ("libpq-dev",)
    assert config.build.network is False
    assert config.debian.mirror == "http://mirror.example/debian"
    assert config.check.command == ("app", "--say", "two words")
    assert config.cmd == ("a b", "c")
    assert config.ports == ("80/tcp", "53/udp")
    assert config.stop_signal == "SIGINT"
    assert [(item.source, item.target, item.mode) for item in config.files] == [("a", "/a", None)]
    assert config.healthcheck is not None
    assert (config.healthcheck.command, config.healthcheck.retries) == (("probe",), 2)
    assert config.workdir == ""
    assert found == {"tags": ["a"], "env": {"A": "1"}, "build": {"packages": ["gcc"], "network": True}}


@pytest.mark.parametrize("text", ["[::1]:5000", "[2001:db8::1]/team/app, localhost:65535"])
def test_ipv6_address_is_not_parsed_as_json(text: str) -> None:
    """An IPv6 address starts with a bracket, like a JSON list."""
    found = tuple(text.split(", "))
    assert load({}, HATCH_DOCKER_REGISTRIES=text).registries == found
    assert load({}, HATCH_DOCKER_REGISTRIES=json.dumps(found)).registries == found


def test_variables_that_are_not_options_are_accepted() -> None:
    assert load({}, **dict.fromkeys(VARIABLES, "1")) == Config()
    assert not {option.variable for option in all_options()} & set(VARIABLES)


def test_each_option_has_a_different_variable() -> None:
    variables = [option.variable for option in all_options()]
    assert len(variables) == len(set(variables))


@settings(max_examples=100)
@given(st.sampled_from([option.variable for option in all_options()]), st.text())
def test_any_variable_gives_config_or_config_error(name: str, value: str) -> None:
    try:
        assert isinstance(load({}, **{name: value}), Config)
    except ConfigError as error:
        assert str(error).startswith("HATCH_DOCKER_") or "healthcheck" in str(error)
