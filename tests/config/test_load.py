"""[tool.hatch-docker]: what is read from it, and what that imports."""

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


def test_an_empty_table_is_all_defaults() -> None:
    """An empty table gives the defaults of the class."""
    assert load({}) == Config()
    assert load({}).tags == ("{version}", "latest")
    assert load({}).user == "65532"


def test_every_option_is_read() -> None:
    """One table that sets every option: values as the Plan needs them."""
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


def test_a_config_is_frozen() -> None:
    """Nothing changes a Config after it was read."""
    with pytest.raises(ValueError, match="frozen"):
        load({}).user = "0"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["gone.toml", "broken.toml", "other.toml"])
def test_without_a_readable_file_only_the_line_is_missing(tmp_path: Path, name: str) -> None:
    """Line numbers are a service: a file that cannot be read or says something else costs nothing more."""
    (tmp_path / "broken.toml").write_text("[[[")
    (tmp_path / "other.toml").write_text("[tool]\n")
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.user"):
        load_config({"user": 3}, {}, tmp_path / name)


@pytest.mark.parametrize("user", ["root", "0", "0:0", "nonroot", "www-data:www-data", "65532"])
def test_users(user: str) -> None:
    """Root is allowed to who spells it out."""
    assert load({"user": user}).user == user


def test_no_entrypoint_is_not_the_default_entrypoint() -> None:
    """`entrypoint = []` asks for none, leaving it out asks for the guess."""
    assert load({"entrypoint": []}).entrypoint == ()
    assert load({}).entrypoint is None


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


@pytest.mark.parametrize(("code", "absent"), [
    ("import hatch_docker.config", {"pydantic", "tomlkit"}),
    (
        "import hatch_docker.config.load as load; load.load_config({'user': '0'}, {'HATCH_DOCKER_OFFLINE': ''}, None)",
        {"tomlkit", "hatch_docker.config.messages", "hatch_docker.config.schema"},
    ),
])  # fmt: skip
def test_little_is_imported(code: str, absent: set[str]) -> None:
    """The names need no library, and a table without mistakes neither tomlkit nor the modules for messages."""
    program = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
