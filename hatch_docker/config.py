"""`[tool.hatch-docker]` as the user typed it: every option, its type, its default and what it does.

Each class is one table: a frozen dataclass whose fields say what pydantic's core shall check. All of pydantic,
imported and with models built, would take half the time that an unchanged build has; its core takes a tenth of
that. Nothing but this module knows pydantic. TOML names are the Python names in kebab-case; durations are
nanoseconds and modes integers once loaded.
"""

# ruff: noqa: RUF009 - `option` returns a dataclass field
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as core

from hatch_docker import config_values as values
from hatch_docker.config_values import SECOND

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"


# What a value may be. `metadata` adds what the schema for editors cannot read from the checks.


def _text(must: str, pattern: str) -> core.CoreSchema:
    return core.custom_error_schema(
        core.str_schema(strict=True, pattern=pattern), custom_error_type="option", custom_error_message=must
    )


def _checked(check: Callable[[Any], Any], inner: core.CoreSchema, **json: object) -> core.CoreSchema:
    return core.no_info_after_validator_function(check, inner, metadata={"json": json})


def _list(item: core.CoreSchema, at_least: int | None = None) -> core.CoreSchema:
    return core.tuple_variable_schema(item, min_length=at_least)


def _command(at_least: int | None = None) -> core.CoreSchema:
    return core.no_info_before_validator_function(
        values.arguments, _list(_STRING, at_least), metadata={"words": True}
    )


def _strings(name: core.CoreSchema) -> core.CoreSchema:
    return core.dict_schema(name, core.no_info_before_validator_function(values.string, _STRING), strict=True)


def _one_of(*words: str) -> core.CoreSchema:
    return core.literal_schema(list(words))


def _table(cls: type) -> core.CoreSchema:
    fields = dataclasses.fields(cls)
    return core.dataclass_schema(
        cls,
        core.dataclass_args_schema(cls.__name__, [_field(field) for field in fields]),
        [field.name for field in fields],
        frozen=True,
        slots=True,
        config=core.CoreConfig(extra_fields_behavior="forbid"),
    )


def _field(field: dataclasses.Field[Any]) -> core.DataclassField:
    schema = field.metadata["schema"]
    if field.default_factory is not dataclasses.MISSING:
        schema = core.with_default_schema(schema, default_factory=field.default_factory)
    elif field.default is not dataclasses.MISSING:
        schema = core.with_default_schema(schema, default=field.default)
    return core.dataclass_field(field.name, schema, validation_alias=field.name.replace("_", "-"))


_FILLED = core.str_schema(strict=True, min_length=1)
_STRING = _checked(values.no_nul, core.str_schema(strict=True))
_FLAG = core.bool_schema(strict=True)
_COUNT = core.int_schema(strict=True, ge=0, le=1000)
_DURATION = _checked(values.duration, _FILLED, pattern="^([0-9]+(h|ms|m|s))+$")
_PORT = core.no_info_plain_validator_function(values.port, metadata={"json": values.PORT_SCHEMA})
_VARIABLE = _text(*values.VARIABLE)
_KEY = _text(*values.KEY)
_NAME = _text(*values.NAME)
_PACKAGE = _text(*values.PACKAGE)
_MIRROR = _text(*values.MIRROR)
_TAGS = _checked(values.distinct, _list(_checked(values.tag, _FILLED), 1))
_PLATFORMS = _checked(values.distinct, _list(_one_of("linux/amd64", "linux/arm64")))


def option(schema: core.CoreSchema, what: str, default: Any = dataclasses.MISSING, shown: str = "") -> Any:
    """A field: what it may be, what it does, its default, and what the documentation shows as default."""
    metadata = {"schema": schema, "what": what, "shown": shown}
    if default == {}:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckConfig:
    """How the runtime finds out whether a container is well; 0 leaves a number to the runtime."""

    command: tuple[str, ...] = option(
        _command(1), "The program that ends with status 0 while all is well, and its arguments."
    )
    interval: int = option(_DURATION, "The time between two checks.", 0, '`"30s"`')
    timeout: int = option(_DURATION, "The time after which a check counts as failed.", 0, '`"30s"`')
    start_period: int = option(
        _DURATION, "The time that a container has to start, in which failures do not count.", 0, '`"0s"`'
    )
    retries: int = option(_COUNT, "The failures in a row that make a container unhealthy.", 0, "`3`")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfig:
    """A file or directory of the project copied into the image."""

    source: str = option(
        _checked(values.source, _FILLED), "The file or directory, relative to `pyproject.toml`."
    )
    target: str = option(
        _checked(values.target, _FILLED, pattern="^/"), "Its own absolute path in the image."
    )
    mode: int | None = option(
        _checked(values.octal, _text(*values.MODE)),
        "The permission bits of its files.",
        None,
        '`"0644"`, `"0755"` where executable',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """The builder stage, where the project's wheel is made."""

    packages: tuple[str, ...] = option(
        _list(_PACKAGE),
        "Debian packages that the build needs beside the compiler and Python's headers, such as `libpq-dev`.",
        (),
    )
    env: Mapping[str, str] = option(_strings(_VARIABLE), "Environment variables of the build.", {})
    secrets: tuple[str, ...] = option(
        _list(_VARIABLE),
        "Environment variables that the build may read, by name. Their values reach no layer, log or receipt.",
        (),
    )
    network: bool = option(_FLAG, "Whether the build may use the network.", True)
    isolated: str = option(
        _one_of("auto", "always", "never"),
        "Whether the wheel is made in the builder stage. `auto`: where the project has build hooks, "
        "extension modules or a backend other than hatchling; else hatchling makes it in this process.",
        "auto",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What the image holds beside Python and the project."""

    packages: tuple[str, ...] = option(
        _list(_PACKAGE), "Debian packages that the program needs, such as `libpq5`; for `debian:` bases.", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """A command that proves the finished image."""

    command: tuple[str, ...] = option(
        _command(),
        "A program and its arguments, run in the finished image before the build counts as done.",
        (),
        "no check",
    )
    timeout: int = option(
        _DURATION, "The time after which the check counts as failed.", 60 * SECOND, '`"60s"`'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianConfig:
    """Where Debian's packages come from, for `debian:` bases and the builder stage."""

    mirror: str = option(_MIRROR, "The URL of a mirror of Debian.", "", "the host's apt configuration")
    security_mirror: str = option(
        _MIRROR,
        "The URL of a mirror of Debian's security archive.",
        "",
        "`mirror` with `-security` at its end, without `mirror` the host's apt configuration",
    )
    slim: bool = option(
        _FLAG,
        "Leave out what services do not use: gconv's character sets, OpenSSL's engines, and test, idlelib, "
        "pydoc and turtle of the standard library.",
        True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything about the image that the project's own metadata do not say."""

    image: str = option(
        _text(*values.IMAGE),
        "The repository that the image is named after, with its registry where it has one.",
        "",
        "the project's name",
    )
    tags: tuple[str, ...] = option(
        _TAGS,
        "The image's tags. `{version}`, `{major}`, `{minor}`, `{revision}` (the commit) and `{branch}` are "
        "filled in.",
        ("{version}", "latest"),
    )
    engine: str = option(
        _one_of("embedded"),
        "What makes the image. `embedded` assembles it in this process and needs no Docker.",
        "embedded",
    )
    base: str = option(
        _text(*values.BASE),
        "What the image starts from: a registry reference (`@sha256:...` pins it), `debian:<suite>` (Python "
        "and its libraries straight from Debian's signed packages: no shell, no registry), or `oci:PATH` (an OCI "
        "layout). Debian's own image on a registry is `library/debian:...`.",
        "",
        "`python:X.Y-slim`, X.Y the newest Python that `requires-python` admits",
    )
    python: str = option(
        _text(*values.PYTHON), "The Python that the image must have, such as `\"3.13\"`.", "", "the base's"
    )
    platforms: tuple[str, ...] = option(
        _PLATFORMS,
        "The platforms to build for; several make an index.",
        (),
        "the host's",
    )
    extras: tuple[str, ...] = option(_list(_NAME), "Extras of the project to install.", ())
    dependency_groups: tuple[str, ...] = option(_list(_NAME), "Dependency groups to install.", ())
    lock: str = option(
        _checked(values.no_control, _FILLED),
        "Where the versions of dependencies come from. `auto`: `pylock.toml`, `uv.lock`, requirements with "
        "hashes, or a fresh resolution, the first that can be had. `none`: a fresh resolution. Else a path.",
        "auto",
    )
    entrypoint: tuple[str, ...] | None = option(
        _command(),
        "The program that the container runs and its first arguments; `[]` for none.",
        None,
        "the project's only script, or the one named like the project",
    )
    cmd: tuple[str, ...] = option(_command(), "The arguments that `docker run IMAGE ...` replaces.", ())
    env: Mapping[str, str] = option(
        _strings(_VARIABLE), "Environment variables of the container. Secrets do not belong here.", {}
    )
    labels: Mapping[str, str] = option(
        _strings(_KEY), "Labels, beside those filled in from the project's metadata.", {}
    )
    annotations: Mapping[str, str] = option(
        _strings(_KEY), "Annotations, beside those filled in from the project's metadata.", {}
    )
    user: str = option(
        _checked(values.user, _text(*values.USER)),
        "Who runs the program: a number, `uid:gid`, or a user of the base.",
        "65532",
    )
    workdir: str = option(
        _checked(values.absolute, _FILLED, pattern="^/"),
        "The directory that the program starts in.",
        "",
        "the base's, else `/`",
    )
    ports: tuple[str, ...] = option(
        _list(_PORT), "Ports that the program listens on, such as `8000` or `\"53/udp\"`.", ()
    )
    volumes: tuple[str, ...] = option(
        _list(_checked(values.below_root, _FILLED, pattern="^/")),
        "Directories for data that outlives the container.",
        (),
    )
    stop_signal: str = option(
        _text(*values.SIGNAL), "The signal that ends the program.", "", "the base's, else `\"SIGTERM\"`"
    )
    healthcheck: HealthcheckConfig | None = option(
        _table(HealthcheckConfig), "How the runtime finds out whether a container is well.", None
    )
    files: tuple[FileConfig, ...] = option(
        _list(_table(FileConfig)), "Files and directories of the project to copy into the image.", ()
    )
    compression: str = option(
        _one_of("gzip", "zstd", "none"),
        "How layers are compressed. `zstd` is smaller and faster; on Python before 3.14 it needs the extra "
        "`hatch-docker[zstd]`.",
        "gzip",
    )
    load: str = option(
        _one_of("auto", "always", "never"),
        "Whether the image is loaded into Docker or Podman. `auto`: where one answers.",
        "auto",
    )
    build: BuildConfig = option(_table(BuildConfig), "The builder stage.", BuildConfig())
    runtime: RuntimeConfig = option(
        _table(RuntimeConfig), "What the image holds beside Python and the project.", RuntimeConfig()
    )
    check: CheckConfig = option(_table(CheckConfig), "A command that proves the image.", CheckConfig())
    debian: DebianConfig = option(
        _table(DebianConfig), "Where Debian's packages come from.", DebianConfig()
    )


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """The Config of a `[tool.hatch-docker]` table, HATCH_DOCKER_* variables first.

    Raises ConfigError with one line for every problem; `pyproject` is read for their line numbers only.
    """
    overrides = None
    if any(name.startswith(PREFIX) for name in environ):
        from hatch_docker.config_environ import override

        overrides = override(table, environ)
        table = overrides.table
    problems: Sequence[Any] = ()
    try:
        config: Config = validator().validate_python(table)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    if problems or (overrides is not None and overrides.problems):
        from hatch_docker.config_errors import explain

        raise explain(problems, overrides, pyproject)
    return config


@functools.cache
def validator() -> SchemaValidator:
    """What turns a table into a Config."""
    return SchemaValidator(_table(Config))
