"""The tables below [tool.hatch-docker], each a frozen dataclass whose fields say how they are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config import values
from hatch_docker.config.types import (
    ARGUMENT,
    COUNT,
    DURATION,
    FILLED,
    FLAG,
    MIRROR,
    PACKAGE,
    VARIABLE,
    Check,
    checked,
    command_of,
    lines_of,
    list_of,
    one_of,
    strings,
    text,
)
from hatch_docker.config.values import SECOND


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
    args: Mapping[str, str] = option(
        strings(ARGUMENT),
        "Build arguments: environment variables of the build that differ from one build to the next. `ARG` in the "
        "Dockerfile, so that `--build-arg` sets them there. Not for secrets.",
        {},
    )
    secrets: tuple[str, ...] = option(
        list_of(ARGUMENT),
        "Environment variables that the build may read, by name. Their values reach no layer, log or receipt.",
        (),
    )
    ssh: bool = option(
        FLAG,
        "Whether the build may ask this machine's SSH agent (`SSH_AUTH_SOCK`), as `docker buildx build --ssh default` "
        "allows: for private Git repositories. No key leaves the agent.",
        False,
    )
    network: bool = option(FLAG, "Whether the build may use the network.", True)
    isolated: str = option(
        one_of("auto", "always", "never"),
        "Whether the wheel is made in the builder stage. `auto`: where the project has build hooks, "
        "extension modules, a backend other than hatchling, or one of the options above asks for it; else hatchling "
        "makes it in this process.",
        "auto",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """What the image holds beside Python and the project."""

    packages: tuple[str, ...] = option(
        list_of(PACKAGE),
        "Debian packages that the program needs, such as `libpq5`. On a base other than `debian:` its own apt installs "
        "them, with `buildkit` only.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimConfig:
    """What is left out of wheels, because a running program does not read it."""

    leave_out: tuple[str, ...] = option(
        checked(values.distinct, list_of(one_of("tests", "stubs", "headers", "symbols", "locales"))),
        "What is left out of the wheels of dependencies: packages' own `tests`, type `stubs`, `headers` and static "
        "libraries, debug `symbols` of compiled code (your own too), and `locales`: translations. How much that was is "
        "told after the build.",
        (),
    )
    locales: tuple[str, ...] = option(
        list_of(text(*values.LANGUAGE)),
        "The languages whose translations stay, such as `\"de\"`; English always does.",
        (),
    )
    keep: tuple[str, ...] = option(
        list_of(checked(values.pattern, FILLED)),
        "Files and directories that stay, by patterns of their paths below `site-packages`: `\"pandas/tests\"`, "
        "`\"*.pyi\"`. A `*` stands for `/` too.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """A cache of BuildKit's that machines share, of every stage."""

    from_: tuple[Mapping[str, str], ...] = option(
        lines_of(checked(values.cache_source, FILLED)),
        "Where `buildkit` looks for stages that were built before, as `--cache-from` of `docker buildx build` "
        "takes it: `type=registry,ref=registry.example/app:cache`, `type=local,src=...`, `type=gha`.",
        (),
    )
    to: tuple[Mapping[str, str], ...] = option(
        lines_of(checked(values.cache_target, FILLED)),
        "Where it keeps them, as `--cache-to` takes it; all stages, unless it says `mode=min`. Docker's default "
        "store cannot: name a `builder` that can.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignConfig:
    """Who signs what is pushed: cosign does."""

    key: str = option(
        checked(values.no_control, FILLED),
        "A private key of `cosign generate-key-pair`, or what else cosign takes for one: a file relative to "
        "`pyproject.toml`, `env://COSIGN_PRIVATE_KEY`, `awskms://...`. Its password is in `COSIGN_PASSWORD`.",
        "",
        "none",
    )
    keyless: bool = option(
        FLAG,
        "Whether the pipeline's own identity signs (GitHub, GitLab and others give it one), by Sigstore's public "
        "services.",
        False,
    )
    transparency_log: bool | None = option(
        FLAG,
        "Whether signatures are written in Sigstore's public log, for all to see. Without it, verifiers say "
        "`--insecure-ignore-tlog=true`, and need no network.",
        None,
        "`true` with `keyless`, else `false`",
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
