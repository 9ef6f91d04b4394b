"""`hatch-docker schema`: the JSON Schema of [tool.hatch-docker]."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.verbs import Verbs


def add(commands: Verbs) -> None:
    """Declare the command."""
    schema = commands.add_parser("schema", help="print the JSON Schema of [tool.hatch-docker]")
    schema.set_defaults(run=run)


def run(_options: argparse.Namespace) -> None:
    """Run the command."""
    from hatch_docker.config_docs import schema

    print(json.dumps(schema(), indent=2))  # noqa: T201
