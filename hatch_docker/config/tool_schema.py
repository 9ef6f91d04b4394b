"""The JSON Schema of [tool.hatch-docker] as it is shipped: `hatch-docker schema > hatch_docker/config/schema.json`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def tool_schema(_tool: str) -> dict[str, Any]:
    """The schema for validate-pyproject, which asks through the entry point `validate_pyproject.tool_schema`."""
    found: dict[str, Any] = json.loads(files("hatch_docker.config").joinpath("schema.json").read_text("utf-8"))
    return found
