"""The Configs of a project: its `[tool.hatch-docker]` table checked, under the variables, for each of its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config.options import PREFIX, Config
from hatch_docker.config.types import Problem, table_check, walk


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """The Config of a `[tool.hatch-docker]` table itself; see `load_configs`."""
    return load_configs(table, environ, pyproject)[""]


def load_configs(
    table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None
) -> Mapping[str, Config]:
    """The Config of each image of a `[tool.hatch-docker]` table by its name, "" for that of the table itself.

    HATCH_DOCKER_* variables come first. Raises ConfigError with one line for every problem; `pyproject` is read for
    their line numbers only.
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
