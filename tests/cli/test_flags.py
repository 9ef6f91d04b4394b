"""Command line options for options of the table."""

import json
from pathlib import Path

import pytest

from hatch_docker.cli.flags import flag_variables, flag_words
from hatch_docker.cli.main import main, parse
from hatch_docker.config.load import load_configs
from hatch_docker.core.errors import ConfigError
from tests.projects import write_project

TABLE = {"image": "shop", "tags": ["{version}"], "build": {"args": {"A": "0", "B": "0"}}}


def plan_of(words: str, table: dict[str, object] = TABLE) -> dict[str, object]:
    """Return the options of a table that change with `words` after `hatch-docker build`."""
    variables, _ = flag_variables(parse(["build", *words.split()]), {"C": "3"})
    before, after = (load_configs(table, environ, None)[""].model_dump() for environ in ({}, variables))
    return {name: value for name, value in after.items() if value != before[name]}


@pytest.mark.parametrize(("words", "expected"), [
    ("", {}),
    ("-t app", {"image": "app"}),
    ("-t app:1.2", {"image": "app", "tags": ("1.2",)}),
    ("-t :nightly", {"tags": ("nightly",)}),
    ("-t 1.2 -t latest", {"tags": ("1.2", "latest")}),
    ("--tag v7", {"tags": ("v7",)}),
    ("--tag {branch}", {"tags": ("{branch}",)}),
    ("-t app -t app:1", {"image": "app", "tags": ("1", "latest")}),
    ("--image app -t :1", {"image": "app", "tags": ("1",)}),
    ("-t team/app:1", {"image": "team/app", "tags": ("1",)}),
    ("-t r.example/app:1", {"image": "r.example/app", "tags": ("1",), "registries": ("r.example/app",)}),
    ("-t localhost:5000/app", {"image": "localhost:5000/app", "registries": ("localhost:5000/app",)}),
    ("--image localhost/a/b", {"image": "localhost/a/b", "registries": ("localhost/a/b",)}),
    ("--base debian:trixie", {"base": "debian:trixie"}),
    ("--platform linux/amd64,linux/arm64", {"platforms": ("linux/amd64", "linux/arm64")}),
    ("--platform linux/amd64 --platform linux/arm64", {"platforms": ("linux/amd64", "linux/arm64")}),
    ("--load", {"load": "always"}),
    ("--no-load", {"load": "never"}),
    ("--progress=plain --no-cache", {}),
])  # fmt: skip
def test_command_line_option_sets_option_of_the_table(words: str, expected: dict[str, object]) -> None:
    assert plan_of(words) == expected
    again = parse(["build", *flag_words(parse(["build", *words.split()]))])
    assert flag_variables(again, {}) == flag_variables(parse(["build", *words.split()]), {})


def test_build_arguments_are_added_to_those_of_the_table() -> None:
    """An argument without value has the value of the environment variable of that name."""
    changed = plan_of("--build-arg B=1,2 --build-arg C")["build"]
    assert isinstance(changed, dict)
    assert changed["args"] == {"A": "0", "B": "1,2", "C": "3"}
    assert load_configs({}, {"HATCH_DOCKER_ENV": "+A=1"}, None)[""].env == {"A": "1"}


def test_no_cache_and_plain_progress_set_variables() -> None:
    variables, typed = flag_variables(parse(["build", "--progress=plain", "--no-cache"]), {})
    assert (variables, typed) == ({"NO_COLOR": "1", "HATCH_DOCKER_NO_CACHE": "1"}, {})


@pytest.mark.parametrize(("words", "message"), [
    ("build -t docker", "--tag docker: this is a target of hatch; here -t names the image: type `hatch-docker build`"),
    ("build -t docker:plan", "type `hatch-docker plan`, or `hatch build -t docker:plan`"),
    ("plan -t a:1 -t b:1", "--tag: an image has one name, and there are two: a and b"),
    ("build --build-arg NOT_SET", "--build-arg NOT_SET: it has no value: type NOT_SET=VALUE, or set the variable"),
    ("build -t App:1", "--tag: must be a repository in lower case"),
    ("build --image app:1", "--image: must be a repository in lower case, without a tag"),
    ("plan -t app:a/b:1", "--tag: must be"),
    ("plan -t :-x", "--tag[0]: must be a tag such as"),
    ("dockerfile --base NO", "--base: must be a reference such as"),
    ("build --platform linux/s390x", '--platform[0]: must be "linux/amd64" or "linux/arm64"'),
    ("build --build-arg 1=2", "--build-arg.1: must be a name made of letters"),
])  # fmt: skip
def test_error_names_the_command_line_option(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write_project("hello", tmp_path / "project", base="debian:trixie"))
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_command_line_overrides_variables_and_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_project("hello", tmp_path / "project", base="debian:bookworm")
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HATCH_DOCKER_BASE", "debian:sid")
    words = ["-t", "shop:7", "--base", "debian:trixie", "--platform", "linux/arm64", "--build-arg", "A=1"]
    assert main(["plan", *words, str(root)]) == 0
    plan = json.loads(Path(capsys.readouterr().out.strip()).read_text())
    assert (plan["image"], plan["tags"], plan["platforms"]) == ("shop", ["7"], ["linux/arm64"])
    assert plan["base"]["location"] == "trixie"
    assert plan["build"]["args"] == {"A": "1"}


def test_two_image_names_are_rejected() -> None:
    with pytest.raises(ConfigError, match="there are two: a and b"):
        flag_variables(parse(["build", "-t", "a:1", "--image", "b"]), {})
