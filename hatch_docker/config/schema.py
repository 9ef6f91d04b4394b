"""The JSON Schema of `[tool.hatch-docker]`, and the list of options derived from it."""

import copy
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.config import IMAGE_NAME, IMAGES, PREFIX
from hatch_docker.config.options import Config

DRAFT = "http://json-schema.org/draft-07/schema#"
LISTS = ("files", "steps")
"""The options whose value is a list of tables."""
IMAGES_DESCRIPTION = (
    "More images of the same project. Each has the options of this table, and its own options override them."
)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its path below the table, and its JSON Schema with the description as Markdown."""

    path: tuple[str, ...]
    schema: Mapping[str, Any]
    required: bool

    @property
    def name(self) -> str:
        """The dotted name below the table: `build.packages`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that overrides the option."""
        return PREFIX + "_".join(self.path).replace("-", "_").upper()

    @property
    def is_table(self) -> bool:
        """True if the option is a table of options."""
        return "properties" in self.schema


def _simplify(node: Any, defs: Mapping[str, Any]) -> Any:
    """Return a schema of pydantic in the form that editors support.

    References are replaced by their definitions, and descriptions are one line. Titles, null (TOML has none) and empty
    defaults are removed. `patternProperties` becomes `propertyNames`, so that other names are errors.
    """
    if isinstance(node, list):
        return [_simplify(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node or "anyOf" in node:
        inner = defs[node["$ref"].rpartition("/")[2]] if "$ref" in node else node["anyOf"][0]
        return _simplify({**inner, **{key: value for key, value in node.items() if key not in ("$ref", "anyOf")}}, defs)
    found = {key: _simplify(value, defs) for key, value in node.items() if key not in ("$defs", "title")}
    if "patternProperties" in found:
        ((pattern, found["additionalProperties"]),) = found.pop("patternProperties").items()
        found["propertyNames"] = {"type": "string", "pattern": pattern}
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    default = found.get("default")
    if not (default is False or (default and isinstance(default, bool | str | list))):
        found.pop("default", None)
    return found


@functools.cache
def _document() -> dict[str, Any]:
    document = Config.model_json_schema()
    found: dict[str, Any] = _simplify(document, document["$defs"])
    return found


def options_of(schema: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Option]:
    """Yield the options of a table, a sub-table before its options; options inside of LISTS are not included."""
    for name, value in schema["properties"].items():
        yield Option((*above, name), value, name in schema.get("required", ()))
        if "properties" in value:
            yield from options_of(value, (*above, name))


@functools.cache
def all_options() -> tuple[Option, ...]:
    """Return all options, a sub-table before its options; options inside of LISTS are not included."""
    return tuple(options_of(_document()))


def shipped_options() -> Iterator[Option]:
    """Yield the options of `all_options`, read from schema.json, which is faster than importing pydantic's models."""
    table = json.loads(Path(__file__).with_name("schema.json").read_bytes())
    del table["properties"][IMAGES]
    return options_of(table)


def item_options(name: str) -> Iterator[Option]:
    """Yield the options of an item of `files` or `steps`."""
    return options_of(_document()["properties"][name]["items"], (f"{name}[]",))


def schema(_tool: str = "") -> dict[str, Any]:
    """Return the JSON Schema (draft-07) of `[tool.hatch-docker]`."""
    table: dict[str, Any] = json.loads(json.dumps(_document()).replace("`", ""))  # editors show Markdown as it is
    image = copy.deepcopy(table)
    for value in image["properties"].values():
        if "properties" in value:  # an image's sub-table may omit required options: the table above sets them
            value.pop("required", None)
    table["properties"][IMAGES] = {
        "description": IMAGES_DESCRIPTION, "type": "object", "propertyNames": {"pattern": f"^{IMAGE_NAME.pattern}$"},
        "additionalProperties": image,
    }  # fmt: skip
    return {"$schema": DRAFT, "$id": "urn:hatch-docker:tool.hatch-docker", "title": "[tool.hatch-docker]"} | table


tool_schema = schema  # the entry point of validate-pyproject, which passes the table's name
