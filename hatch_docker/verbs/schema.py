"""`hatch-docker schema`: the JSON Schema of [tool.hatch-docker]."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hatch_docker.verbs.common import declare

if TYPE_CHECKING:
    from hatch_docker.verbs.common import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    schema = declare(commands, "schema", "print the JSON Schema of [tool.hatch-docker]")
    schema.add_argument("--pyproject", action="store_true", help="of a whole pyproject.toml, for editors that want one")
    schema.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.config_docs import pyproject_schema, schema, schema_text

    print(schema_text(pyproject_schema() if options.pyproject else schema()))
