"""`hatch-docker schema`: print the JSON Schema of [tool.hatch-docker]."""

import argparse
import json
from typing import Any

from hatch_docker.cli.common import Commands, declare

EXAMPLES = (("hatch-docker schema > schema.json", "for an editor"),)


def add(commands: Commands) -> None:
    """Declare the command."""
    schema = declare(commands, "schema", "print the JSON Schema of [tool.hatch-docker]", run, examples=EXAMPLES)
    schema.add_argument("--pyproject", action="store_true", help="of a whole pyproject.toml, for editors that need one")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.config.schema import schema

    print(json.dumps(pyproject_schema() if options.pyproject else schema(), indent=2, ensure_ascii=False))


def pyproject_schema() -> dict[str, Any]:
    """Return a JSON Schema (draft-07) for pyproject.toml. It describes only the table `[tool.hatch-docker]`."""
    from hatch_docker.config.schema import DRAFT, schema

    table = {name: value for name, value in schema().items() if name not in ("$schema", "$id")}
    tool = {"type": "object", "properties": {"hatch-docker": table}}
    return {"$schema": DRAFT, "title": "pyproject.toml", "type": "object", "properties": {"tool": tool}}
