"""A mistake in a table, before it is a message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Location = tuple[str | int, ...]


class Problem(NamedTuple):
    """A mistake: pydantic's type of error or one of ours, its path in the file, the value, and what the error tells.

    `file` is None for the pyproject.toml of the project.
    """

    kind: str
    location: Location
    value: Any = None
    context: Mapping[str, Any] = {}
    file: Path | None = None
