"""`[tool.hatch-docker]` as the user typed it: every option, its type, its default and what it does.

Each class is one table: a frozen dataclass whose fields say how they are checked. TOML names are the Python names in
kebab-case; durations are nanoseconds and modes integers once loaded.
"""

# ruff: noqa: RUF009 - `option` returns a dataclass field
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker import config_values as values
from hatch_docker.config_checks import (
    COUNT,
    DURATION,
    FILLED,
    FLAG,
    KEY,
    MIRROR,
    NAME,
    PACKAGE,
    PLATFORMS,
    PORT,
    TAGS,
    VARIABLE,
    Check,
    Problem,
    checked,
    command_of,
    list_of,
    one_of,
    strings,
    table_check,
    text,
    walk,
)
from hatch_docker.config_values import SECOND

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"


def option(schema: Check, what: str, default: Any = dataclasses.MISSING, shown: str = "") -> Any:
    """A field: what it may be, what it does, its default, and what the documentation shows as default."""
    metadata = {"schema": schema, "what": what, "shown": shown}
    if default == {}:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckConfig:
    """How the runtime finds out whether a container is well; 0 leaves a number to the runtime."""

    command: tuple[str, ...] = option(
        command_of(1), "The program that ends with status 0 while all is well, and its arguments."
    )
    interval: int = option(DURATION, "The time between two checks.", 0, '`"30s"`')
    timeout: int = option(DURATION, "The time after which a check counts as failed.", 0, '`"30s"`')
    start_period: int = option(
        DURATION, "The time that a container has to start, in which failures do not count.", 0, '`"0s"`'
    )
    retries: int = option(COUNT, "The failures in a row that make a container unhealthy.", 0, "`3`")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfig:
    """A file or directory of the project copied into the image."""

    source: str = option(
        checked(values.source, FILLED), "The file or directory, relative to `pyproject.toml`."
    )
    target: str = option(
        checked(values.target, FILLED, pattern="^/"), "Its own absolute path in the image."
    )
    mode: int | None = option(
        checked(values.octal, text(*values.MODE)),
        "The permission bits of its files.",
        None,
        '`"0644"`, `"0755"` where executable',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """The builder stage, where the project's wheel is made."""

    packages: tuple[str, ...] = option(
        list_of(PACKAGE),
        "Debian packages that the build needs beside the compiler and Python's headers, such as `libpq-dev`.",
        (),
    )
    env: Mapping[str, str] = option(strings(VARIABLE), "Environment variables of the build.", {})
    secrets: tuple[str, ...] = option(
        list_of(VARIABLE),
        "Environment variables that the build may read, by name. Their values reach no layer, log or receipt.",
        (),
    )
    network: bool = option(FLAG, "Whether the build may use the network.", True)
    isolated: str = option(
        one_of("auto", "always", "never"),
        "Whether the wheel is made in the builder stage. `auto`: where the project has build hooks, "
        "extension modules or a backend other than hatchling; else hatchling makes it in this process.",
        "auto",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What the image holds beside Python and the project."""

    packages: tuple[str, ...] = option(
        list_of(PACKAGE), "Debian packages that the program needs, such as `libpq5`; for `debian:` bases.", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """A cache of BuildKit's that machines share, of every stage."""

    from_: tuple[str, ...] = option(
        list_of(checked(values.no_control, FILLED)),
        "Where `buildkit` looks for stages that were built before, as `--cache-from` of `docker buildx build` "
        "takes it: `type=registry,ref=registry.example/app:cache`, `type=local,src=...`, `type=gha`.",
        (),
    )
    to: tuple[str, ...] = option(
        list_of(checked(values.no_control, FILLED)),
        "Where it keeps them, as `--cache-to` takes it; `mode=max` keeps the builder stage too. Docker's default "
        "store cannot: name a `builder` that can.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """A command that proves the finished image."""

    command: tuple[str, ...] = option(
        command_of(),
        "A program and its arguments, run in the finished image before the build counts as done.",
        (),
        "no check",
    )
    timeout: int = option(
        DURATION, "The time after which the check counts as failed.", 60 * SECOND, '`"60s"`'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianConfig:
    """Where Debian's packages come from, for `debian:` bases and the builder stage."""

    mirror: str = option(MIRROR, "The URL of a mirror of Debian.", "", "the host's apt configuration")
    security_mirror: str = option(
        MIRROR,
        "The URL of a mirror of Debian's security archive.",
        "",
        "`mirror` with `-security` at its end, without `mirror` the host's apt configuration",
    )
    slim: bool = option(
        FLAG,
        "Leave out what services do not use: gconv's character sets, OpenSSL's engines, and test, idlelib, "
        "pydoc and turtle of the standard library.",
        True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything about the image that the project's own metadata do not say."""

    image: str = option(
        text(*values.IMAGE),
        "The repository that the image is named after, with its registry where it has one.",
        "",
        "the project's name",
    )
    tags: tuple[str, ...] = option(
        TAGS,
        "The image's tags. `{version}`, `{major}`, `{minor}`, `{revision}` (the commit) and `{branch}` are "
        "filled in.",
        ("{version}", "latest"),
    )
    engine: str = option(
        one_of("embedded", "buildkit"),
        "What makes the image. `embedded` assembles it in this process and needs no Docker. `buildkit` compiles and "
        "installs in the stages of a Dockerfile, in Docker (buildx) or Podman; the image is the same.",
        "embedded",
    )
    builder: str = option(
        text(*values.BUILDER),
        "Who builds with `buildkit`: a builder of `docker buildx ls`, near or far, or `podman`.",
        "",
        "Docker's current builder, else Podman",
    )
    base: str = option(
        text(*values.BASE),
        "What the image starts from: a registry reference (`@sha256:...` pins it), `debian:<suite>` (Python "
        "and its libraries straight from Debian's signed packages: no shell, no registry), or `oci:PATH` (an OCI "
        "layout). Debian's own image on a registry is `library/debian:...`.",
        "",
        "`python:X.Y-slim`, X.Y the newest Python that `requires-python` admits",
    )
    python: str = option(
        text(*values.PYTHON), "The Python that the image must have, such as `\"3.13\"`.", "", "the base's"
    )
    platforms: tuple[str, ...] = option(
        PLATFORMS,
        "The platforms to build for; several make an index.",
        (),
        "the host's",
    )
    extras: tuple[str, ...] = option(list_of(NAME), "Extras of the project to install.", ())
    dependency_groups: tuple[str, ...] = option(list_of(NAME), "Dependency groups to install.", ())
    lock: str = option(
        checked(values.no_control, FILLED),
        "Where the versions of dependencies come from. `auto`: `pylock.toml`, `uv.lock`, requirements with "
        "hashes, or a fresh resolution, the first that can be had. `none`: a fresh resolution. Else a path.",
        "auto",
    )
    entrypoint: tuple[str, ...] | None = option(
        command_of(),
        "The program that the container runs and its first arguments; `[]` for none.",
        None,
        "the project's only script, or the one named like the project",
    )
    cmd: tuple[str, ...] = option(command_of(), "The arguments that `docker run IMAGE ...` replaces.", ())
    env: Mapping[str, str] = option(
        strings(VARIABLE), "Environment variables of the container. Secrets do not belong here.", {}
    )
    labels: Mapping[str, str] = option(
        strings(KEY), "Labels, beside those filled in from the project's metadata.", {}
    )
    annotations: Mapping[str, str] = option(
        strings(KEY), "Annotations, beside those filled in from the project's metadata.", {}
    )
    user: str = option(
        checked(values.user, text(*values.USER)),
        "Who runs the program: a number, `uid:gid`, or a user of the base.",
        "65532",
    )
    workdir: str = option(
        checked(values.absolute, FILLED, pattern="^/"),
        "The directory that the program starts in.",
        "",
        "the base's, else `/`",
    )
    ports: tuple[str, ...] = option(
        list_of(PORT), "Ports that the program listens on, such as `8000` or `\"53/udp\"`.", ()
    )
    volumes: tuple[str, ...] = option(
        list_of(checked(values.below_root, FILLED, pattern="^/")),
        "Directories for data that outlives the container.",
        (),
    )
    stop_signal: str = option(
        text(*values.SIGNAL), "The signal that ends the program.", "", "the base's, else `\"SIGTERM\"`"
    )
    healthcheck: HealthcheckConfig | None = option(
        table_check(HealthcheckConfig), "How the runtime finds out whether a container is well.", None
    )
    files: tuple[FileConfig, ...] = option(
        list_of(table_check(FileConfig)), "Files and directories of the project to copy into the image.", ()
    )
    compression: str = option(
        one_of("gzip", "zstd", "none"),
        "How layers are compressed. `zstd` is smaller and faster; on Python before 3.14 it needs the extra "
        "`hatch-docker[zstd]`.",
        "gzip",
    )
    load: str = option(
        one_of("auto", "always", "never"),
        "Whether the image is loaded into Docker or Podman. `auto`: where one answers.",
        "auto",
    )
    build: BuildConfig = option(table_check(BuildConfig), "The builder stage.", BuildConfig())
    runtime: RuntimeConfig = option(
        table_check(RuntimeConfig), "What the image holds beside Python and the project.", RuntimeConfig()
    )
    cache: CacheConfig = option(table_check(CacheConfig), "A cache of BuildKit's that machines share.", CacheConfig())
    check: CheckConfig = option(table_check(CheckConfig), "A command that proves the image.", CheckConfig())
    debian: DebianConfig = option(
        table_check(DebianConfig), "Where Debian's packages come from.", DebianConfig()
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
    problems: list[Problem] = []
    config = walk(table_check(Config), table, problems)
    if problems or (overrides is not None and overrides.problems):
        from hatch_docker.config_errors import explain

        raise explain(problems, overrides, pyproject)
    assert isinstance(config, Config)
    return config
