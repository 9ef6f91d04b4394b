"""Loading [tool.hatch-docker] into a Config, and the modules that this imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.config.load import load_config
from hatch_docker.config.options import Config
from hatch_docker.config.schema import all_options
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import EVERYTHING, JUNK, load, table


def test_empty_table_gives_the_defaults() -> None:
    assert load({}) == Config()
    assert load({}).tags == ("{version}", "latest")
    assert load({}).user == "65532"


def test_every_option_is_read_and_converted() -> None:
    config = load(table(EVERYTHING))
    for name in Config.model_fields:
        assert getattr(config, name) != getattr(Config(), name), name
    assert config.ports == ("8000/tcp", "53/udp", "443/tcp")
    second = 1_000_000_000
    assert config.healthcheck is not None
    assert config.healthcheck.model_dump() == {
        "command": ("probe",), "interval": 90 * second, "timeout": second // 2, "start_period": 3600 * second,
        "retries": 3, "start_interval": 2 * second,
    }
    assert [(item.source, item.target, item.mode) for item in config.files] == [
        ("static", "/srv/static", None), ("run.sh", "/usr/local/bin/run", 0o755),
    ]
    assert config.build.packages == ("libpq-dev", "g++")
    assert config.check.timeout == 120 * second


def test_config_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).user = "0"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["gone.toml", "broken.toml", "other.toml"])
def test_unreadable_file_only_removes_the_line_number(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.toml").write_text("[[[")
    (tmp_path / "other.toml").write_text("[tool]\n")
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.user"):
        load_config({"user": 3}, {}, tmp_path / name)


@pytest.mark.parametrize("user", ["root", "0", "0:0", "nonroot", "www-data:www-data", "65532"])
def test_user_names_and_numbers_are_accepted(user: str) -> None:
    """This includes root."""
    assert load({"user": user}).user == user


def test_empty_entrypoint_differs_from_the_default() -> None:
    """`entrypoint = []` means no entry point; without the option, the project's script is used."""
    assert load({"entrypoint": []}).entrypoint == ()
    assert load({}).entrypoint is None


NAMES = st.sampled_from([option.path[-1] for option in all_options()] + ["source", "target", "mode"])


@settings(max_examples=200)
@given(st.dictionaries(NAMES | st.text(), JUNK | st.dictionaries(NAMES, JUNK, max_size=3), max_size=4) | JUNK)
def test_any_value_gives_config_or_config_error(found: Any) -> None:
    """Each line of the error starts with the table's name."""
    try:
        assert isinstance(load(found), Config)
    except ConfigError as error:
        assert all(line.startswith("tool.hatch-docker") for line in str(error).split("\n"))


@pytest.mark.parametrize(("code", "absent"), [
    ("import hatch_docker.config", {"pydantic", "tomlkit"}),
    (
        "import hatch_docker.config.load as load; load.load_config({'user': '0'}, {'HATCH_DOCKER_OFFLINE': ''}, None)",
        {"tomlkit", "hatch_docker.config.messages", "hatch_docker.config.schema"},
    ),
])  # fmt: skip
def test_modules_that_are_not_imported(code: str, absent: set[str]) -> None:
    """`hatch_docker.config` imports no library; a valid table needs neither tomlkit nor the modules for messages."""
    program = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
