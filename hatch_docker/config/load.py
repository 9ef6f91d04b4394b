"""Check a project's `[tool.hatch-docker]` table, with the variables over it, and return the Config of each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config.options import PREFIX, Config
from hatch_docker.config.types import Problem, table_check, walk


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """Return the Config of the `[tool.hatch-docker]` table itself; see `load_configs`."""
    return load_configs(table, environ, pyproject)[""]


def load_configs(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Mapping[str, Config]:
    """Return the Config of each image of a `[tool.hatch-docker]` table by its name; "" is the table's own image.

    HATCH_DOCKER_* variables override the table. Raises ConfigError with one line for each problem; `pyproject` is read
    only for the line numbers in it.
    """
    overrides, own = None, table
    several = isinstance(table, Mapping) and "images" in table
    if several:
        own = {name: value for name, value in table.items() if name != "images"}
    if any(name.startswith(PREFIX) for name in environ):
        from hatch_docker.config.environ import override

        overrides = override(own, environ)
        own = overrides.table
    problems: list[Problem] = []
    config = walk(table_check(Config), own, problems)
    configs = {"": config}
    if several:
        from hatch_docker.config.images import walk_images

        configs |= walk_images(table, None if problems else config, environ, problems)
    if problems or (overrides is not None and overrides.problems):
        from hatch_docker.config.messages import explain

        raise explain(problems, overrides, pyproject)
    return configs
