"""Check a project's `[tool.hatch-docker]` table, with the variables over it, and return the Config of each image.

An option of an image replaces the whole value of the table's option; the options of a sub-table such as `build` are
replaced one by one. The options that name an image are derived, so that two images never have the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hatch_docker.config import OTHER_VARIABLES, PREFIX, TABLE
from hatch_docker.config.images import DEFAULT, NAME, OPTION
from hatch_docker.config.misplaced import find_misplaced
from hatch_docker.config.options import Config
from hatch_docker.config.problem import Location, Problem

NAMES = ("image", "registries")  # what is made from the table's, unless the image says it


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """Return the Config of the `[tool.hatch-docker]` table itself; see `load_configs`."""
    return load_configs(table, environ, pyproject)[""]


def load_configs(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Mapping[str, Config]:
    """Return the Config of each image of a `[tool.hatch-docker]` table by its name; "" is the table's own image.

    HATCH_DOCKER_* variables override the table. Raises ConfigError with one line for each problem. `pyproject`, and
    hatch.toml beside it, are read for the line numbers in them, and for options that stand in another table.
    """
    overrides = None
    own: Any = table
    if isinstance(table, Mapping):
        own = {name: value for name, value in table.items() if name != OPTION}
    if isinstance(own, dict) and any(name.startswith(PREFIX) and name not in OTHER_VARIABLES for name in environ):
        from hatch_docker.config.environ import override

        overrides = override(own, environ)
        own = overrides.table
    config, problems = _check(own)
    configs = {"": config}
    if isinstance(table, Mapping) and OPTION in table:
        configs |= _load_images(table, config, environ, problems)
    problems += find_misplaced(pyproject)
    if problems or (overrides is not None and overrides.problems):
        from hatch_docker.config.messages import explain

        raise explain(problems, overrides, pyproject)
    return {name: config for name, config in configs.items() if config is not None}


def _check(table: Any, location: Location = TABLE) -> tuple[Config | None, list[Problem]]:
    """Return the Config of a table, None if it has problems, and these."""
    try:
        return Config.model_validate(table), []
    except ValidationError as error:
        found = error.errors(include_url=False)
    problems = []
    for item in found:
        path, context = item["loc"], item.get("ctx", {})
        if item["type"] == "too_short" and item["input"]:
            continue  # a list whose items are all wrong, and are told
        path = path[:-1] if path[1:] and path[-1] == "[key]" else path
        problems.append(Problem(item["type"], (*location, *path), item["input"], context))
    return None, problems


def _load_images(
    table: Mapping[str, Any], top: Config | None, environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, Config | None]:
    """Return the Config of each image of a table by its name; add what is wrong to `problems`.

    `top` is the table's own Config, None if the table is wrong. Variables override the options of every image.
    """
    from hatch_docker.config.environ import override
    from hatch_docker.config.schema import all_options

    images = table[OPTION]
    if not isinstance(images, Mapping):
        problems.append(Problem("dict_type", (*TABLE, OPTION), images))
        return {}
    names = [PREFIX + option.upper() for option in NAMES]
    own = {variable: value for variable, value in environ.items() if variable not in names}
    tables = {option.name for option in all_options() if option.is_table}
    found: dict[str, Config | None] = {}
    for name, image in images.items():
        location = (*TABLE, OPTION, name)
        if not NAME.fullmatch(name) or name == DEFAULT:
            error = ValueError(f'must be in lower case, such as "worker", and not "{DEFAULT}"')
            problems.append(Problem("value_error", location, {}, {"error": error}))
        elif not isinstance(image, Mapping):
            problems.append(Problem("dict_type", location, image))
        else:
            merged = override(_merged(table, image, tables), own)
            config, wrong = _check(merged.table, location)
            # The problem of a variable, or of the table above, is reported once and there.
            problems += [problem for problem in wrong if _is_own(problem, image, tuple(merged.variables))]
            found[name] = _named(config, top, image, name) if config and top else None
    return found


def _merged(table: Mapping[str, Any], image: Mapping[str, Any], tables: set[str]) -> dict[str, Any]:
    """Return the table with an image's options over it."""
    merged = {key: value for key, value in table.items() if key not in (OPTION, *NAMES)}
    for key, value in image.items():
        both = all(isinstance(options, Mapping) for options in (value, merged.get(key)))
        merged[key] = {**merged[key], **value} if both and key in tables else value
    return merged


def _is_own(problem: Problem, image: Mapping[str, Any], variables: Sequence[Location]) -> bool:
    """Return whether the problem is in the image's own table."""
    path = problem.location[4:]
    if any(path[: len(variable)] == variable for variable in variables):
        return False
    at: Any = image
    for part in path[:-1] if problem.kind == "missing" else path:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _named(config: Config, top: Config, image: Mapping[str, Any], name: str) -> Config:
    """Return the Config with its own names: the table's names, then "-" and the image's name."""
    names: dict[str, Any] = {}
    if "image" not in image and top.image:
        names["image"] = f"{top.image}-{name}"
    if "registries" not in image:
        names["registries"] = tuple(f"{entry}-{name}" if "/" in entry else entry for entry in top.registries)
    return config.model_copy(update=names)
