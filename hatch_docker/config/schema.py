"""Documentation generated from the options: a JSON Schema for editors and validate-pyproject, tables for
docs/options.md.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config.environ import OTHER_VARIABLES
from hatch_docker.config.fields import Option, all_options, options_of, table_of
from hatch_docker.config.images import NAME, OPTION
from hatch_docker.config.options import Config, FileConfig

SCHEMA_ID = "urn:hatch-docker:tool.hatch-docker"
IMAGES = "Further images of the project, each with the options of this table and its own over them."
UNSET: tuple[object, ...] = (None, (), "", {})  # defaults that say nothing


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft-07) of `[tool.hatch-docker]`."""
    table = _table(Config)
    image = _table(Config)
    for value in image["properties"].values():
        if "properties" in value:  # a sub-table may be incomplete: that of the table above has the rest
            value.pop("required", None)
    table["properties"][OPTION] = {
        "description": IMAGES, "type": "object", "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": image,
    }  # fmt: skip
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": SCHEMA_ID,
        "title": "[tool.hatch-docker]",
    } | table


def tool_schema(_tool: str) -> dict[str, Any]:
    """Return the schema for validate-pyproject, which asks by the entry point `validate_pyproject.tool_schema`."""
    return schema()


def pyproject_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft-07) of a whole pyproject.toml, which describes only `[tool.hatch-docker]`."""
    table = schema()
    draft = table.pop("$schema")
    del table["$id"]
    tool = {"type": "object", "properties": {"hatch-docker": table}}
    return {"$schema": draft, "title": "pyproject.toml", "type": "object", "properties": {"tool": tool}}


def schema_text(value: Mapping[str, Any]) -> str:
    """Return a schema as printed and shipped."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _table(cls: type) -> dict[str, Any]:
    properties = {}
    for option in options_of(cls):
        what = option.what + (f" Default: {option.shown}." if option.shown else "")
        properties[option.name] = value = _value(option.check) | {"description": what.replace("`", "")}
        if not (option.required or option.shown or option.table or option.default in UNSET):
            value["default"] = list(option.default) if isinstance(option.default, tuple) else option.default
    required = [option.name for option in options_of(cls) if option.required]
    return {
        "description": (cls.__doc__ or "").strip(), "type": "object", "additionalProperties": False,
        "properties": properties,
    } | ({"required": required} if required else {})  # fmt: skip


def _value(check: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one value; an outer check overrides what an inner one says."""
    kind = check["type"]
    said: dict[str, Any] = check.get("json", {})
    if kind in ("after", "before"):
        return _value(check["inner"]) | said
    cls = table_of(check)
    if cls is not None:
        return _table(cls)
    if kind == "list":
        length = {"minItems": check["min_length"]} if check["min_length"] else {}
        return {"type": "array", "items": _value(check["item"])} | length
    if kind == "dict":
        names = {"propertyNames": _value(check["name"])}
        return {"type": "object", "additionalProperties": _value(check["value"])} | names
    if kind == "word":
        return {"type": "string", "enum": list(check["words"])}
    if kind == "int":
        return {"type": "integer", "minimum": check["least"], "maximum": check["most"]}
    if kind == "str":
        words = {"pattern": "pattern", "min_length": "minLength"}
        return {"type": "string"} | {words[key]: check[key] for key in words if check.get(key) is not None}
    return {"bool": {"type": "boolean"}}.get(kind, {}) | said


def options_table() -> str:
    """Return every option as a Markdown table: name, type, default, description."""
    rows = ["| option | type | default | what |", "|---|---|---|---|"]
    for option in all_options():
        if option.name == "files":
            rows += [_row(item, "files[].") for item in options_of(FileConfig)]
        elif option.table is None:
            rows.append(_row(option, ""))
    rows.append(f"| `{OPTION}.NAME.*` | tables | none | {IMAGES} |")
    return "\n".join(rows)


def variables_table() -> str:
    """Return the variables that are not options as a Markdown table."""
    rows = [f"| `{name}` | {what} |" for name, what in OTHER_VARIABLES.items()]
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


def _row(option: Option, prefix: str) -> str:
    cells = (f"`{prefix}{option.name}`", _type(option.check), _default(option), option.what)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(check: Mapping[str, Any]) -> str:
    value = _value(check)
    if "enum" in value:
        return " or ".join(f'`"{word}"`' for word in value["enum"])
    if value["type"] == "array":
        return "list of " + {"string": "strings"}.get(str(value["items"]["type"]), "strings or numbers")
    if value["type"] == "object":
        return "table of strings"
    return {"boolean": "boolean", "integer": "number"}.get(str(value["type"]), "string")


def _default(option: Option) -> str:
    if option.required:
        return "required"
    if option.shown:
        return option.shown
    if option.default in UNSET:
        return "none"
    value = list(option.default) if isinstance(option.default, tuple) else option.default
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":  # python -m hatch_docker.config.schema docs/options.md
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
