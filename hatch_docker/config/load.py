"""Validation of a project's `[tool.hatch-docker]` table and variables into one Config for each image.

An option of an image replaces the whole value of the table's option; options of a sub-table such as `build` are
replaced one by one. The names of an image (NAME_OPTIONS) are derived from the table's, so that no two are equal.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hatch_docker.config import DEFAULT, IMAGE_NAME, IMAGES, PREFIX, TABLE, Location, Problem, variables_of
from hatch_docker.config.options import Config
from hatch_docker.core.tables import read_tables, table_at

NAME_OPTIONS = ("image", "registries")  # derived from the table's value, unless the image sets them
# hatchling's own keys of a target: those of its BuilderConfig.
TARGET_KEYS = frozenset((
    "artifacts", "dependencies", "dev-mode-dirs", "dev-mode-exact", "directory", "exclude", "force-include", "hooks",
    "ignore-vcs", "include", "only-include", "only-packages", "packages", "reproducible",
    "require-runtime-dependencies", "require-runtime-features", "skip-excluded-dirs", "sources", "versions",
))  # fmt: skip


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """Return the Config of the `[tool.hatch-docker]` table itself; see `load_configs`."""
    return load_configs(table, environ, pyproject)[""]


def load_configs(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Mapping[str, Config]:
    """Return the Config of each image of a `[tool.hatch-docker]` table by its name; "" is the table's own image.

    HATCH_DOCKER_* variables override the table. Raises ConfigError with one line for each problem. `pyproject` and the
    hatch.toml beside it are read for line numbers, and for options in wrong tables.
    """
    variables = variables_of(environ)
    several = isinstance(table, Mapping) and IMAGES in table
    own = {name: value for name, value in table.items() if name != IMAGES} if several else table
    top, problems = _check(own, variables)
    configs = {"": top, **(_load_images(table, top, variables, problems) if several else {})}
    misplaced = _find_misplaced(pyproject)
    if problems or misplaced:
        from hatch_docker.config.messages import explain

        raise explain([*problems, *misplaced], pyproject)
    return configs


def _check(table: Any, variables: Mapping[str, str]) -> tuple[Config, list[Problem]]:
    """Return the Config of a table overridden by the variables, and its problems; with problems, a default Config."""
    problems: list[Problem] = []
    set_by: Mapping[Location, str] = {}
    if variables and isinstance(table, Mapping):
        from hatch_docker.config.environ import override

        table, set_by, problems = override(table, variables)
    try:
        return Config.model_validate(table), problems
    except ValidationError as error:
        found = error.errors(include_url=False)
    for item in found:
        path, value = item["loc"], item["input"]
        if item["type"] == "too_short" and value:
            continue  # a list of wrong items only, each of which is reported
        path = path[:-1] if path[1:] and path[-1] == "[key]" else path
        option = next((option for option in set_by if path[: len(option)] == option), None)
        path, variable = (path[len(option) :], set_by[option]) if option else (path, "")
        problems.append(Problem(item["type"], path, value, item.get("ctx", {}), variable))
    return Config(), problems


def _load_images(
    table: Mapping[str, Any], top: Config, variables: Mapping[str, str], problems: list[Problem]
) -> dict[str, Config]:
    """Return the Config of each further image by its name; append to `problems`.

    `top`: the table's own Config. Variables override the options of every image except its names.
    """
    images = table[IMAGES]
    if not isinstance(images, Mapping):
        problems.append(Problem("dict_type", (IMAGES,), images))
        return {}
    names = [PREFIX + option.upper() for option in NAME_OPTIONS]
    variables = {name: value for name, value in variables.items() if name not in names}
    found = {}
    for name, image in images.items():
        if not IMAGE_NAME.fullmatch(name) or name == DEFAULT:
            error = ValueError(f'must be in lower case, such as "worker", and not "{DEFAULT}"')
            problems.append(Problem("value_error", (IMAGES, name), {}, {"error": error}))
        elif not isinstance(image, Mapping):
            problems.append(Problem("dict_type", (IMAGES, name), image))
        else:
            config, wrong = _check(_merge(table, image), variables)
            # A problem of a variable or of the table itself is reported once, without the image's name.
            own = [problem for problem in wrong if problem[:3] not in [other[:3] for other in problems]]
            problems += [problem._replace(location=(IMAGES, name, *problem.location)) for problem in own]
            found[name] = _set_names(config, top, image, name)
    return found


def _merge(table: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table's options overridden by an image's options."""
    from hatch_docker.config.schema import all_options

    merged = {key: value for key, value in table.items() if key not in (IMAGES, *NAME_OPTIONS)}
    for key, value in image.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        is_table = any(option.path == (key,) and option.is_table for option in all_options())
        merged[key] = {**merged[key], **value} if both and is_table else value
    return merged


def _set_names(config: Config, top: Config, image: Mapping[str, Any], name: str) -> Config:
    """Return the Config with derived names: the table's name, "-" and the image's name."""
    names: dict[str, Any] = {}
    if "image" not in image and top.image:
        names["image"] = f"{top.image}-{name}"
    if "registries" not in image:
        names["registries"] = tuple(f"{entry}-{name}" if "/" in entry else entry for entry in top.registries)
    return config.model_copy(update=names)


def _find_misplaced(pyproject: Path | None) -> list[Problem]:
    """Return problems for options in wrong tables of pyproject.toml and of the hatch.toml beside it."""
    found: list[Problem] = []
    files = ((pyproject, ("tool", "hatch")), (pyproject.with_name("hatch.toml"), ())) if pyproject else ()
    for file, hatch in files:
        tables = read_tables(file)
        context = {"table": "[tool.hatch-docker]" + ("" if hatch else " of pyproject.toml")}
        target = (*hatch, "build", "targets", "docker")
        misplaced = sorted(table_at(tables, *target).keys() - TARGET_KEYS)
        found += [Problem("misplaced_option", (*target, name), None, context, "", file) for name in misplaced]
        for path in sorted({(), ("tool",), hatch}):
            for name, value in table_at(tables, *path).items():
                where = (*path, name)
                ours = name.lower().replace("-", "").replace("_", "") == "hatchdocker" and (where != TABLE or not hatch)
                if where in (("tool", "docker"), (*hatch, "docker")):  # may belong to another program
                    from hatch_docker.config.suggest import is_option

                    ours = any(map(is_option, table_at(value)))
                if ours:
                    found.append(Problem("misplaced_table", where, None, context, "", file))
    return found
