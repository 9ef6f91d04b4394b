"""The tables of docs/options.md, made of the options: `python -m tests.options_page docs/options.md` writes them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatch_docker.config import IMAGES
from hatch_docker.config.schema import FURTHER, Option, all_options, file_options
from hatch_docker.core.context import VARIABLES


def options_table() -> str:
    """Return every option as a Markdown table: name, type, default, description."""
    rows = ["| option | type | default | what |", "|---|---|---|---|"]
    for option in all_options():
        if option.name == "files":
            rows += map(_row, file_options())
        elif not option.is_table:
            rows.append(_row(option))
    rows.append(f"| `{IMAGES}.NAME.*` | tables | none | {FURTHER} |")
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
    rows = (f"| `{name}` | {what} |" for name, what in VARIABLES.items())
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


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
