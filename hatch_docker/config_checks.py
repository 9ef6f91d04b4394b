"""What a value of [tool.hatch-docker] may be, as pydantic's core checks it.

`metadata` adds what the schema for editors cannot read from the checks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pydantic_core import core_schema as core

from hatch_docker import config_values as values


def text(must: str, pattern: str) -> core.CoreSchema:
    """A string of a pattern; `must` says what it must be."""
    return core.custom_error_schema(
        core.str_schema(strict=True, pattern=pattern), custom_error_type="option", custom_error_message=must
    )


def checked(check: Callable[[Any], Any], inner: core.CoreSchema, **json: object) -> core.CoreSchema:
    """A value that a function of config_values checks or turns into another."""
    return core.no_info_after_validator_function(check, inner, metadata={"json": json})


def list_of(item: core.CoreSchema, at_least: int | None = None) -> core.CoreSchema:
    """A list, kept as a tuple."""
    return core.tuple_variable_schema(item, min_length=at_least)


def command_of(at_least: int | None = None) -> core.CoreSchema:
    """A list of arguments."""
    return core.no_info_before_validator_function(
        values.arguments, list_of(STRING, at_least), metadata={"words": True}
    )


def strings(name: core.CoreSchema) -> core.CoreSchema:
    """A table of strings."""
    return core.dict_schema(name, core.no_info_before_validator_function(values.string, STRING), strict=True)


def one_of(*words: str) -> core.CoreSchema:
    """One of some words."""
    return core.literal_schema(list(words))


def table_check(cls: type) -> core.CoreSchema:
    """A table: the fields of a class, and no others."""
    fields = dataclasses.fields(cls)
    return core.dataclass_schema(
        cls,
        core.dataclass_args_schema(cls.__name__, [_field(field) for field in fields]),
        [field.name for field in fields],
        frozen=True,
        slots=True,
        config=core.CoreConfig(extra_fields_behavior="forbid"),
    )


def toml_name(name: str) -> str:
    """How TOML writes the name of a field; `from_` is not a Python name without its underscore."""
    return name.rstrip("_").replace("_", "-")


def _field(field: dataclasses.Field[Any]) -> core.DataclassField:
    schema = field.metadata["schema"]
    if field.default_factory is not dataclasses.MISSING:
        schema = core.with_default_schema(schema, default_factory=field.default_factory)
    elif field.default is not dataclasses.MISSING:
        schema = core.with_default_schema(schema, default=field.default)
    return core.dataclass_field(field.name, schema, validation_alias=toml_name(field.name))


FILLED = core.str_schema(strict=True, min_length=1)
STRING = checked(values.no_nul, core.str_schema(strict=True))
FLAG = core.bool_schema(strict=True)
COUNT = core.int_schema(strict=True, ge=0, le=1000)
DURATION = checked(values.duration, FILLED, pattern="^([0-9]+(h|ms|m|s))+$")
PORT = core.no_info_plain_validator_function(values.port, metadata={"json": values.PORT_SCHEMA})
VARIABLE = text(*values.VARIABLE)
KEY = text(*values.KEY)
NAME = text(*values.NAME)
PACKAGE = text(*values.PACKAGE)
MIRROR = text(*values.MIRROR)
TAGS = checked(values.distinct, list_of(checked(values.tag, FILLED), 1))
PLATFORMS = checked(values.distinct, list_of(one_of("linux/amd64", "linux/arm64")))
