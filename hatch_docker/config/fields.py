"""The options of `[tool.hatch-docker]` as a list, read from the fields of Config: for variables, messages and docs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config.options import PREFIX, Config
from hatch_docker.config.types import toml_name


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its path below the table, its check, its words, and its value when left out."""

    path: tuple[str, ...]
    check: Mapping[str, Any]
    what: str
    default: Any
    shown: str

    @property
    def name(self) -> str:
        """The dotted name below the table: `build.packages`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return PREFIX + "_".join(self.path).replace("-", "_").upper()

    @property
    def table(self) -> type | None:
        """The class of the option's table, None for a plain value."""
        return table_of(self.check)

    @property
    def required(self) -> bool:
        """True if its table is incomplete without it."""
        return self.default is dataclasses.MISSING


def bare(check: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the innermost check, without the functions around it."""
    while check["type"] in ("after", "before"):
        check = check["inner"]
    return check


def table_of(check: Mapping[str, Any]) -> type | None:
    """Return the class that a check makes, None if it makes a plain value."""
    inner = bare(check)
    cls: type | None = inner["cls"] if inner["type"] == "table" else None
    return cls


def options_of(cls: type, above: tuple[str, ...] = ()) -> Iterator[Option]:
    """Yield the options of one table, in the order of its fields."""
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        path = (*above, toml_name(field.name))
        yield Option(path, field.metadata["schema"], field.metadata["what"], default, field.metadata["shown"])


@functools.cache
def all_options() -> tuple[Option, ...]:
    """Return every option except those of `files`; a table comes before its options."""
    found: list[Option] = []
    for option in options_of(Config):
        found.append(option)
        if option.table is not None:
            found.extend(options_of(option.table, option.path))
    return tuple(found)
