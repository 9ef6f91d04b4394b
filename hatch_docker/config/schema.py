"""The JSON Schema of `[tool.hatch-docker]`, and everything that is read from it: the list of options, docs/options.md.
"""

import copy
import functools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from hatch_docker.config import OTHER_VARIABLES, PREFIX
from hatch_docker.config.images import NAME, OPTION
from hatch_docker.config.options import Config

DRAFT = "http://json-schema.org/draft-07/schema#"
IMAGES = "Further images of the project, each with the options of this table and its own over them."


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
        """The environment variable that overrides it."""
        return PREFIX + "_".join(self.path).replace("-", "_").upper()

    @property
    def is_table(self) -> bool:
        """True if it is a table of options."""
        return "properties" in self.schema


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without titles, nulls, and defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> dict[str, Any]:
        default, found = schema.get("default"), self.generate_inner(schema["schema"])
        says = default is False or (default and isinstance(default, str | bool | tuple))
        return found | ({"default": list(default) if isinstance(default, tuple) else default} if says else {})

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        names, values = (self.generate_inner(schema[part]) for part in ("keys_schema", "values_schema"))
        return {"type": "object", "propertyNames": names, "additionalProperties": values}


def _whole(node: Any, defs: Mapping[str, Any]) -> Any:
    """Return a schema with its definitions where they are referred to, and its descriptions in one line."""
    if isinstance(node, list):
        return [_whole(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    node = {**defs[node["$ref"].rpartition("/")[2]], **node} if "$ref" in node else node
    found = {key: _whole(value, defs) for key, value in node.items() if key not in ("$ref", "$defs", "title")}
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    return found


@functools.cache
def _document() -> dict[str, Any]:
    document = Config.model_json_schema(schema_generator=_Generator)
    found: dict[str, Any] = _whole(document, document["$defs"])
    return found


def options_of(schema: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Option]:
    """Yield the options of a table, a table before its own options; not those of `files`."""
    for name, value in schema["properties"].items():
        yield Option((*above, name), value, name in schema.get("required", ()))
        if "properties" in value:
            yield from options_of(value, (*above, name))


@functools.cache
def all_options() -> tuple[Option, ...]:
    """Return every option except those of `files`; a table comes before its options."""
    return tuple(options_of(_document()))


def file_options() -> Iterator[Option]:
    """Yield the options of an item of `files`."""
    return options_of(_document()["properties"]["files"]["items"], ("files[]",))


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft-07) of `[tool.hatch-docker]`."""
    table: dict[str, Any] = json.loads(json.dumps(_document()).replace("`", ""))  # editors show Markdown as it is
    image = copy.deepcopy(table)
    for value in image["properties"].values():
        if "properties" in value:  # a sub-table may be incomplete: that of the table above has the rest
            value.pop("required", None)
    table["properties"][OPTION] = {
        "description": IMAGES, "type": "object", "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": image,
    }  # fmt: skip
    return {"$schema": DRAFT, "$id": "urn:hatch-docker:tool.hatch-docker", "title": "[tool.hatch-docker]"} | table


def tool_schema(_tool: str) -> dict[str, Any]:
    """Return the schema for validate-pyproject, which asks by the entry point `validate_pyproject.tool_schema`."""
    return schema()


def pyproject_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft-07) of a whole pyproject.toml, which describes only `[tool.hatch-docker]`."""
    table = {name: value for name, value in schema().items() if name not in ("$schema", "$id")}
    tool = {"type": "object", "properties": {"hatch-docker": table}}
    return {"$schema": DRAFT, "title": "pyproject.toml", "type": "object", "properties": {"tool": tool}}


def schema_text(value: Mapping[str, Any]) -> str:
    """Return a schema as printed and shipped."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def options_table() -> str:
    """Return every option as a Markdown table: name, type, default, description."""
    rows = ["| option | type | default | what |", "|---|---|---|---|"]
    for option in all_options():
        if option.name == "files":
            rows += map(_row, file_options())
        elif not option.is_table:
            rows.append(_row(option))
    rows.append(f"| `{OPTION}.NAME.*` | tables | none | {IMAGES} |")
    return "\n".join(rows)


def _row(option: Option) -> str:
    what, _, default = option.schema["description"].partition(" Default: ")
    value = option.schema.get("default")
    default = "required" if option.required else default.removesuffix(".") or "none"
    cells = (f"`{option.name}`", _type(option.schema), default if value is None else f"`{json.dumps(value)}`", what)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return " or ".join(f'`"{word}"`' for word in value["enum"])
    names = {"string": "string", "boolean": "boolean", "integer": "number", "object": "table of strings"}
    if "items" in value:
        names["array"] = "list of strings or numbers" if "integer" in value["items"]["type"] else "list of strings"
    kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
    return " or ".join(names[kind] for kind in kinds)


def variables_table() -> str:
    """Return the variables that are not options as a Markdown table."""
    rows = (f"| `{name}` | {what} |" for name, what in OTHER_VARIABLES.items())
    return "\n".join(["| variable | what |", "|---|---|", *rows])


def with_tables(text: str) -> str:
    """Return a page with current tables between its markers, `<!-- options -->` and `<!-- variables -->`."""
    for name, table in (("options", options_table), ("variables", variables_table)):
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(start)
        after = rest.partition(end)[2]
        if not found or not after:
            raise ValueError(f"the page has no place for the table of {name}")
        text = f"{before}{start}{table()}{end}{after}"
    return text


if __name__ == "__main__":  # python -m hatch_docker.config.schema docs/options.md
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
