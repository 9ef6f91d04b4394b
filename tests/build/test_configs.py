"""The cached options of a project's images, which need no pydantic."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hatch_docker.build.configs import KIND, read_configs, with_options
from hatch_docker.config.load import load_configs
from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import EVERYTHING, table
from tests.projects import write_files

SEVERAL = EVERYTHING + '[tool.hatch-docker.images.worker]\nuser = "0"\nlabels = {b = "1", a = "2"}\n'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "cache")


def cache_entries(store: Store) -> list[Path]:
    return list((store.root / "facts" / KIND).glob("*"))


def dump(value: Any) -> Any:
    """Return a plain object of options in the format of pydantic's `model_dump`."""
    if isinstance(value, SimpleNamespace):
        return {name: dump(item) for name, item in vars(value).items() if name != "model_fields_set"}
    return tuple(map(dump, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("secret", [True, False])
def test_cached_options_equal_those_of_the_models(
    secret: bool, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All options in the order of the tables, read for the first time and from the cache."""
    if not secret:
        monkeypatch.setattr("hatch_docker.build.configs._replace_free_text", lambda *_arguments: True)
    text = SEVERAL
    path = write_files(tmp_path, {"pyproject.toml": text}) / "pyproject.toml"
    models = load_configs(table(text), {}, path)
    for _ in range(2):
        found = read_configs(table(text), {}, path, store)
        assert repr([*map(dump, found.values())]) == repr([model.model_dump() for model in models.values()])
        assert [set(config.model_fields_set) for config in found.values()] == [
            model.model_fields_set for model in models.values()
        ]
    assert list(found) == ["", "worker"]
    assert len(cache_entries(store)) == (not secret)
    assert with_options(found[""], load="always").load == "always"


@pytest.mark.parametrize(("name", "text", "environ"), [
    ("pyproject.toml", "[tool.docker]\nbase = 'x'\n", {}), ("hatch.toml", "[docker]\nbase = 'x'\n", {}),
    ("", "", {"HATCH_DOCKER_USER": "1 2"}), ("", "", {"HATCH_DOCKER_BASSE": "x"}),
])  # fmt: skip
def test_changed_files_and_variables_are_read_again(
    name: str, text: str, environ: dict[str, str], store: Store, tmp_path: Path
) -> None:
    """A mistake in a new file or variable raises its error although there is a cache entry."""
    assert read_configs({}, {}, tmp_path / "pyproject.toml", store)[""].user == "65532"
    assert read_configs({}, {"HATCH_DOCKER_USER": "7"}, tmp_path / "pyproject.toml", store)[""].user == "7"
    write_files(tmp_path, {name: text} if name else {})
    for _ in range(2):
        with pytest.raises(ConfigError):
            read_configs({}, environ, tmp_path / "pyproject.toml", store)


@pytest.mark.parametrize(("options", "environ", "kept"), [
    ({}, {"HATCH_DOCKER_DEBIAN_MIRROR": "https://me:planted@mirror.example/debian"}, 0),
    ({"debian": {"security-mirror": "https://planted@mirror.example/debian"}}, {}, 0),
    ({"env": {"TOKEN": "planted", "A": "b"}}, {}, 1), ({"labels": {"a": "planted"}}, {}, 1),
    ({"cmd": ["planted", "x"]}, {}, 1), ({"entrypoint": ["app", "planted"]}, {}, 1),
    ({"check": {"command": ["app", "planted"]}}, {}, 1), ({"build": {"env": {"TOKEN": "planted"}}}, {}, 1),
    ({}, {"HATCH_DOCKER_BUILD_ARGS": "TOKEN=planted"}, 0), ({"cmd": ["a"]}, {"HATCH_DOCKER_CMD": '["planted"]'}, 0),
    ({"env": {"A": "planted"}, "images": {"worker": {"build": {"args": {"TOKEN": "planted"}}}}}, {}, 1),
    ({"steps": [{"command": ["app"], "outputs": ["/srv"], "env": {"TOKEN": "planted"}}]}, {}, 0),
])  # fmt: skip
def test_possible_secrets_are_not_cached(
    options: dict[str, object], environ: dict[str, str], kept: int, store: Store, tmp_path: Path
) -> None:
    """The cache has only their place in the table, from which the same value is read."""
    first, again = (read_configs(options, environ, tmp_path / "pyproject.toml", store) for _ in range(2))
    assert repr([*map(dump, again.values())]) == repr([*map(dump, first.values())])
    assert len(cache_entries(store)) == kept
    assert not any("planted" in path.read_text() for path in cache_entries(store))
