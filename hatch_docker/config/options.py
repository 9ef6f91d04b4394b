"""`[tool.hatch-docker]` as the user typed it: every option, its type, its default and what it does.

Each class is one table: a frozen dataclass whose fields say how they are checked. TOML names are the Python names in
kebab-case; durations are nanoseconds and modes integers once loaded.
"""

# ruff: noqa: RUF009 - `option` returns a dataclass field
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config import values
from hatch_docker.config.types import (
    ARGUMENT,
    COUNT,
    DESTINATIONS,
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
    checked,
    command_of,
    lines_of,
    list_of,
    one_of,
    strings,
    table_check,
    text,
)

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
        DURATION, "The time after which the check counts as failed.", 60 * values.SECOND, '`"60s"`'
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
        "The image's tags. `{version}`, `{major}`, `{minor}`, `{revision}` (the commit), `{branch}` and `{date}` (of "
        "the commit, or SOURCE_DATE_EPOCH: 20240229) are filled in. What a tag cannot hold becomes `-`.",
        ("{version}", "latest"),
    )
    prereleases_move_tags: bool = option(
        FLAG,
        "Whether a pre-release such as `2.0rc1` also gets the tags that people follow: `latest`, and those of "
        "`{major}` and `{minor}` alone.",
        False,
    )
    push: bool = option(FLAG, "Whether every build pushes the image; `docker:push` does it once.", False)
    registries: tuple[str, ...] = option(
        DESTINATIONS,
        "Where a push goes: registries, which take the path of `image` (`registry.example`, `localhost:5000`), and "
        "repositories of registries (`registry.example/team/app`).",
        (),
        "the registry of `image`",
    )
    allow_dirty: bool = option(
        FLAG, "Whether an image may be pushed that was made of changes which no commit has.", False
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
        "Where the versions of dependencies come from. `auto`: `pylock.toml`, `uv.lock`, `poetry.lock`, "
        "`pdm.lock`, requirements with hashes, or a fresh resolution, the first that can be had. `none`: a fresh "
        "resolution. Else a path.",
        "auto",
    )
    pins: str = option(
        checked(values.no_control, FILLED),
        "What pins all the rest, as `hatch-docker lock` writes it. `auto`: `hatch-docker.lock`, where it is there. "
        "`none`: nothing. Else a path.",
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
        strings(VARIABLE),
        "Environment variables of the container, beside `PATH`. Secrets do not belong here.",
        {},
        '`{ PYTHONUNBUFFERED = "1" }`',
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
        "Directories for data that outlives the container. In the image each belongs to `user`, so that a new volume "
        "does too; what the base or `files` has there stays as it is.",
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
    debug: bool = option(
        FLAG,
        "Whether the image is a variant to debug: debugpy runs the program and listens on port 5678, every tag ends "
        "with `-debug`, and the files in `dist/` have names of their own. Not for production.",
        False,
    )
    debug_shell: bool = option(
        FLAG, "Whether a variant to debug gets a shell, Debian's static BusyBox; on a `debian:` base, which has none.",
        False,
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
    native_libraries: str = option(
        one_of("auto", "error", "warn", "off"),
        "What a shared library is that compiled code in the image needs and the loader would not find. `auto`: an "
        "error where the project needs it, or a dependency that was compiled for this image; a warning where it is a "
        "finished wheel, since parts of such may never be loaded. `off`: nobody looks.",
        "auto",
    )
    sbom: tuple[str, ...] = option(
        checked(values.distinct, list_of(one_of("cyclonedx", "spdx"))),
        "The formats of the bill of materials (CycloneDX 1.6, SPDX 2.3) that is written beside the image, and attached "
        "to it where it is pushed.",
        ("cyclonedx",),
    )
    provenance: bool = option(
        FLAG,
        "Whether what the image was made of is stated beside it (SLSA 1, Build L1), and attached to it where it is "
        "pushed.",
        True,
    )
    max_size: int = option(
        checked(values.size, text(*values.SIZE)),
        "The size above which a build fails, of one platform's image as a registry stores it (compressed): `\"50MB\"`.",
        0,
        "no limit",
    )
    max_growth: tuple[float | None, int | None] | None = option(
        checked(values.growth, text(*values.GROWTH)),
        "How much larger than the image last pushed one may be before the build fails: `\"5%\"`, `\"2MB\"`. The image "
        "last pushed is the last of `tags`, else `latest`, in the first repository that a push goes to.",
        None,
        "no limit",
    )
    dotenv: str = option(
        checked(values.no_control, FILLED),
        "A file for pipelines that read variables, such as GitLab's `artifacts:reports:dotenv`: `IMAGE_DIGEST=...`, "
        "`IMAGE_REFERENCE=...` and others, relative to `pyproject.toml`.",
        "",
        "none",
    )
    build: BuildConfig = option(table_check(BuildConfig), "The builder stage.", BuildConfig())
    runtime: RuntimeConfig = option(
        table_check(RuntimeConfig), "What the image holds beside Python and the project.", RuntimeConfig()
    )
    slim: SlimConfig = option(table_check(SlimConfig), "What is left out of wheels.", SlimConfig())
    cache: CacheConfig = option(table_check(CacheConfig), "A cache of BuildKit's that machines share.", CacheConfig())
    sign: SignConfig = option(table_check(SignConfig), "Who signs what is pushed.", SignConfig())
    check: CheckConfig = option(table_check(CheckConfig), "A command that proves the image.", CheckConfig())
    debian: DebianConfig = option(
        table_check(DebianConfig), "Where Debian's packages come from.", DebianConfig()
    )
