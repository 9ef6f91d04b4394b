"""Further images of a project, `[tool.hatch-docker.images.NAME]`: the whole table with some options replaced.

An option of an image replaces the whole value of the table's option; the options of a sub-table such as `build` are
replaced one by one. The options that name an image are derived, so that two images never have the same name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hatch_docker.config.environ import IMAGES_VARIABLE, override
from hatch_docker.config.fields import options_of
from hatch_docker.config.options import PREFIX, Config
from hatch_docker.config.types import WRONG, Location, Problem, table_check, walk
from hatch_docker.core.errors import ConfigError

OPTION = "images"
DEFAULT = "default"  # how a variable calls the image of the table itself
NAMES = ("image", "registries")  # what is made from the table's, unless the image says it
NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")


def walk_images(
    table: Mapping[str, Any], top: Config | None, environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, Config]:
    """Return the Config of each image of a table by its name; add what is wrong to `problems`.

    `top` is the table's own Config, None if the table is wrong. Variables override the options of every image.
    """
    images = table[OPTION]
    if not isinstance(images, Mapping):
        problems.append(Problem("dict", (OPTION,), images))
        return {}
    names = [PREFIX + option.upper() for option in NAMES]
    own = {variable: value for variable, value in environ.items() if variable not in names}
    found = {}
    for name, image in images.items():
        location = (OPTION, name)
        if not NAME.fullmatch(name) or name == DEFAULT:
            must = f'must be in lower case, such as "worker", and not "{DEFAULT}"'
            problems.append(Problem("said", location, name, must))
        elif not isinstance(image, Mapping):
            problems.append(Problem("dict", location, image))
        else:
            merged = override(_merged(table, image), own)
            wrong: list[Problem] = []
            config = walk(table_check(Config), merged.table, wrong, location)
            for problem in wrong:
                path = problem.location[2:]
                # The problem of a variable is reported once, not for each image.
                by_variable = any(path[: len(variable)] == variable for variable in merged.variables)
                if not by_variable and _is_own(problem, image):
                    problems.append(problem)
            if config is not WRONG and top is not None:
                found[name] = _named(config, top, image, name)
    return found


def _merged(table: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table with an image's options over it."""
    tables = {option.name for option in options_of(Config) if option.table is not None}
    merged = {key: value for key, value in table.items() if key not in (OPTION, *NAMES)}
    for key, value in image.items():
        both = key in tables and isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _is_own(problem: Problem, image: Mapping[str, Any]) -> bool:
    """Return whether the problem is in the image's own table; a problem of the table above is reported there."""
    at: Any = image
    path: Location = problem.location[2:]
    for part in path[:-1] if problem.kind == "missing" else path:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _named(config: Config, top: Config, image: Mapping[str, Any], name: str) -> Config:
    """Return the Config with its own names: the table's names, then "-" and the image's name."""
    if "image" not in image and top.image:
        config = replace(config, image=f"{top.image}-{name}")
    if "registries" not in image:
        behind = tuple(f"{entry}-{name}" if "/" in entry else entry for entry in top.registries)
        config = replace(config, registries=behind)
    return config


def wanted(configs: Mapping[str, Config], environ: Mapping[str, str]) -> Iterator[tuple[str, Config]]:
    """Yield the images that a build makes: all, or those that the variable names. Raise ConfigError for unknown names.
    """
    names = [name.strip() for name in environ.get(IMAGES_VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if ("" if name == DEFAULT else name) not in configs:
            known = ", ".join([DEFAULT, *sorted(filter(None, configs))])
            raise ConfigError(f"{IMAGES_VARIABLE}: there is no image {name!r}; there are: {known}")
    for name, config in configs.items():
        if not names or (name or DEFAULT) in names:
            yield name, config
