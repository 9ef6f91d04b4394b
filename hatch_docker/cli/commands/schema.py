"""`hatch-docker schema`: the JSON Schema of [tool.hatch-docker]."""

import argparse

from hatch_docker.cli.common import Commands, declare


def add(commands: Commands) -> None:
    """Declare the command."""
    schema = declare(commands, "schema", "print the JSON Schema of [tool.hatch-docker]", run)
    schema.add_argument("--pyproject", action="store_true", help="of a whole pyproject.toml, for editors that need one")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.config.schema import pyproject_schema, schema, schema_text

    print(schema_text(pyproject_schema() if options.pyproject else schema()))
