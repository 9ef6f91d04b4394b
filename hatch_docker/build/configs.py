"""The options of a project's images, read with pydantic or from the cache.

Importing pydantic and the models takes a sixth of a short build. Their result depends on the table, the environment
variables, and the files that may contain options; the cache keeps it under a hash of all of these. If they have changed
and there is a second processor, pydantic runs in a forked process while this one imports other modules. Free-text
options may contain a secret: the cache keeps only their places in the table.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import hatch_docker.config
from hatch_docker import __version__
from hatch_docker.config import variables_of
from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.fork import in_fork

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

Table = TypeVar("Table")
KIND = "config"
_LOGIN = re.compile(r"//[^/]*@")  # in a URL
# Free-text options. The build looks for secrets in them, but only after the options are cached.
_FREE_TEXT = (
    ("env",), ("labels",), ("annotations",), ("entrypoint",), ("cmd",), ("healthcheck",), ("check", "command"),
    ("build", "env"), ("build", "args"), ("steps",),
)  # fmt: skip


def read_configs(
    table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path, store: Store
) -> dict[str, Config]:
    """Return the result of `config.load.load_configs`, with plain objects that have the attributes of the models.

    Options that may contain credentials or another secret are not cached. Raises ConfigError.
    """
    variables = variables_of(environ)
    models = sorted(Path(hatch_docker.config.__file__).parent.glob("*.py"))  # in a checkout, the version stays the same
    files = [pyproject, pyproject.with_name("hatch.toml"), *models]
    texts = [path.read_bytes().hex() if path.is_file() else None for path in files]
    key = key_of(__version__, sys.version, repr(table), variables, texts)
    rows = store.recall(KIND, key)
    if rows is None:
        load = partial(_load, table, environ, pyproject)
        rows = None if "pydantic" in sys.modules else in_fork(load, _import_steps)
        rows = load() if rows is None else rows
        if all(_replace_free_text(config, name, table) for name, config in rows) and not _LOGIN.search(repr(rows)):
            store.remember(KIND, key, rows)
    return {name: cast("Config", _from_json(config, table)) for name, config in rows}


def _load(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path) -> list[Any]:
    """Return name and Config of each image as JSON."""
    from hatch_docker.config.load import load_configs

    return [[name, _as_json(config)] for name, config in load_configs(table, environ, pyproject).items()]


def _import_steps() -> None:
    """Import the modules of the next steps of a build."""
    import hatch_docker.build.checks.shared_libraries
    import hatch_docker.build.inputs
    import hatch_docker.build.pipeline
    import hatch_docker.engines.embedded
    import hatch_docker.release.cache_artifact
    import hatch_docker.release.sbom.formats
    import hatch_docker.wheels.builder.build
    import hatch_docker.wheels.locks.uv
    import hatch_docker.wheels.locks.uv_lock  # noqa: F401


def with_options(table: Table, **options: object) -> Table:
    """Return a Config of `read_configs`, or one of its tables, with other values for `options`."""
    return cast("Table", SimpleNamespace(**{**vars(table), **options}))


def _replace_free_text(config: Any, image: str, table: Mapping[str, Any]) -> bool:
    """Replace free-text options by their places in the table; return False if a value is not the same there."""
    for path in _FREE_TEXT:
        row, value = config, config
        for name in path:
            row = next(row for row in value["options"] if row[0] == name)
            value = row[1]
        if not value or value == {"table": []}:
            continue
        places = [place for place in (["images", image, *path], [*path]) if _as_json(_find(table, place)) == value]
        if not places:
            return False
        row[1] = {"given": places[0]}
    return True


def _find(table: Any, place: Sequence[str]) -> Any:
    """Return the value at a place in a table, None if there is none."""
    for name in place:
        table = table.get(name) if isinstance(table, Mapping) else None
    return table


def _as_json(value: Any) -> Any:
    """Return a value of a Config as JSON that keeps the order of tables."""
    if hasattr(value, "model_fields_set"):
        names = [*type(value).model_fields, "model_fields_set"]
        return {"options": [[name, _as_json(getattr(value, name))] for name in names]}
    if isinstance(value, Mapping):
        return {"table": [[name, _as_json(item)] for name, item in value.items()]}
    if isinstance(value, tuple | set):
        return [_as_json(item) for item in (sorted(value) if isinstance(value, set) else value)]
    return value


def _from_json(value: Any, table: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item, table) for item in value)
    if isinstance(value, dict):
        ((kind, rows),) = value.items()
        if kind == "given":
            return _from_json(_as_json(_find(table, rows)), table)
        found = {name: _from_json(item, table) for name, item in rows}
        return SimpleNamespace(**found) if kind == "options" else found
    return value
