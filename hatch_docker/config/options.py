"""Every option of `[tool.hatch-docker]`: its type, its default and its description.

Each class is one table: a frozen dataclass whose fields hold their checks. TOML names are the Python names in
kebab-case; once loaded, durations are nanoseconds and modes are integers.
"""

# ruff: noqa: RUF009 - `option` returns a dataclass field
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.config import values
from hatch_docker.config.types import (
    COUNT,
    DURATION,
    FILLED,
    FLAG,
    PORT,
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
    """Return a dataclass field with its check, its description, its default, and the default that the documentation
    shows.
    """
    metadata = {"schema": schema, "what": what, "shown": shown}
    if default == {}:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckConfig:
    """The command by which the container runtime finds out whether a container is healthy; 0 means the runtime's
    default.
    """

    command: tuple[str, ...] = option(
        command_of(1), "The program, and its arguments, that exits with status 0 while the container is healthy."
    )
    interval: int = option(DURATION, "The time between two checks.", 0, '`"30s"`')
    timeout: int = option(DURATION, "The time after which a check counts as failed.", 0, '`"30s"`')
    start_period: int = option(DURATION, "The time in which a container may start; failures do not count.", 0, '`"0s"`')
    retries: int = option(COUNT, "The failures in a row that make a container unhealthy.", 0, "`3`")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConfig:
    """A file or directory of the project copied into the image."""

    source: str = option(checked(values.source, FILLED), "The file or directory, relative to `pyproject.toml`.")
    target: str = option(checked(values.target, FILLED, pattern="^/"), "The absolute path of the copy in the image.")
    mode: int | None = option(
        checked(values.octal, text(*values.MODE)), "The permission bits of its files.",
        None, '`"0644"`, `"0755"` where executable'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """The builder stage, where the project's wheel is made."""

    packages: tuple[str, ...] = option(
        list_of(text(*values.PACKAGE)),
        "Debian packages that the build needs in addition to the compiler and Python's headers, such as `libpq-dev`.",
        (),
    )
    env: Mapping[str, str] = option(strings(*values.VARIABLE), "Environment variables of the build.", {})
    args: Mapping[str, str] = option(
        strings(*values.ARGUMENT),
        "Build arguments: environment variables that differ from one build to the next. They are `ARG` in the "
        "Dockerfile, so that `--build-arg` sets them there. Not for secrets.",
        {},
    )
    secrets: tuple[str, ...] = option(
        list_of(text(*values.ARGUMENT)),
        "Environment variables that the build may read, by name. Their values reach no layer, log or receipt.",
        (),
    )
    ssh: bool = option(
        FLAG,
        "Whether the build may use this machine's SSH agent (`SSH_AUTH_SOCK`), for private Git repositories, as with "
        "`docker buildx build --ssh default`. No key leaves the agent.",
        False,
    )
    network: bool = option(FLAG, "Whether the build may use the network.", True)
    isolated: str = option(
        one_of("auto", "always", "never"),
        "Whether the project's wheel is made in the builder stage. `auto`: if the project has build hooks, extension "
        "modules or a backend other than hatchling, or if one of the options above needs it; else hatchling makes it "
        "in this process.",
        "auto",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Further contents of the image, beside Python and the project."""

    packages: tuple[str, ...] = option(
        list_of(text(*values.PACKAGE)),
        "Debian packages that the program needs, such as `libpq5`. On a base other than `debian:` the base's own apt "
        "installs them, with `buildkit` only.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimConfig:
    """Files of wheels that a running program does not read, and that are left out."""

    leave_out: tuple[str, ...] = option(
        checked(values.distinct, list_of(one_of("tests", "stubs", "headers", "symbols", "locales"))),
        "Files to leave out of the wheels of dependencies: packages' own `tests`, type `stubs`, `headers` and static "
        "libraries, debug `symbols` of compiled code (of the project's too), and `locales`: translations. The build "
        "ends with their size.",
        (),
    )
    locales: tuple[str, ...] = option(
        list_of(text(*values.LANGUAGE)),
        "The languages whose translations are kept, such as `\"de\"`; English always does.",
        (),
    )
    keep: tuple[str, ...] = option(
        list_of(checked(values.pattern, FILLED)),
        "Files and directories to keep, as patterns of their paths below `site-packages`: `\"pandas/tests\"`, "
        "`\"*.pyi\"`. A `*` matches `/` too.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """A BuildKit cache of every stage, shared by several machines."""

    from_: tuple[Mapping[str, str], ...] = option(
        lines_of(checked(functools.partial(values.parse_cache, target=False), FILLED)),
        "Where `buildkit` looks for stages that were built before, in the form of `docker buildx build --cache-from`:  "
        "`type=registry,ref=registry.example/app:cache`, `type=local,src=...`, `type=gha`.",
        (),
    )
    to: tuple[Mapping[str, str], ...] = option(
        lines_of(checked(functools.partial(values.parse_cache, target=True), FILLED)),
        "Where `buildkit` stores them, in the form of `--cache-to`; all stages, unless it says `mode=min`. Docker's "
        "default builder cannot do this: name a `builder` that can.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignConfig:
    """Signatures of pushed images, made by cosign."""

    key: str = option(
        checked(values.no_control, FILLED),
        "A private key of `cosign generate-key-pair`, or another key that cosign accepts: a file relative to "
        "`pyproject.toml`, `env://COSIGN_PRIVATE_KEY`, `awskms://...`. Its password is in `COSIGN_PASSWORD`.",
        "", "none"
    )
    keyless: bool = option(
        FLAG,
        "Whether to sign with the identity of the pipeline (GitHub, GitLab and others provide one), through Sigstore's "
        "public services.",
        False,
    )
    transparency_log: bool | None = option(
        FLAG,
        "Whether signatures are recorded in Sigstore's public log, which everybody can read. Without it, verifiers add "
        "`--insecure-ignore-tlog=true`, and need no network.",
        None, "`true` with `keyless`, else `false`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """A command that tests the finished image."""

    command: tuple[str, ...] = option(
        command_of(), "A program and its arguments, run in the finished image; the build fails if it fails.",
        (), "no check"
    )
    timeout: int = option(DURATION, "The time after which the check counts as failed.", 60 * values.SECOND, '`"60s"`')


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianConfig:
    """The sources of Debian's packages, for `debian:` bases and the builder stage."""

    mirror: str = option(text(*values.MIRROR), "The URL of a mirror of Debian.", "", "the host's apt configuration")
    security_mirror: str = option(
        text(*values.MIRROR), "The URL of a mirror of Debian's security archive.",
        "", "`mirror` with `-security` at its end, without `mirror` the host's apt configuration"
    )
    slim: bool = option(
        FLAG,
        "Whether to leave out what services do not use: gconv's character sets, OpenSSL's engines, and test, idlelib, "
        "pydoc and turtle of the standard library.",
        True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything about the image that the project's own metadata do not say."""

    image: str = option(
        text(*values.IMAGE), "The repository of the image, with its registry if it has one.",
        "", "the project's name"
    )
    tags: tuple[str, ...] = option(
        checked(values.distinct, list_of(checked(values.tag, FILLED), 1)),
        "The image's tags. `{version}`, `{major}`, `{minor}`, `{revision}` (the commit), `{branch}` and `{date}` (of "
        "the commit, or SOURCE_DATE_EPOCH: 20240229) are filled in. A character that a tag cannot contain becomes `-`.",
        ("{version}", "latest"),
    )
    prereleases_move_tags: bool = option(
        FLAG,
        "Whether a pre-release such as `2.0rc1` also gets the tags that move: `latest`, and those with `{major}` and "
        "`{minor}` alone.",
        False,
    )
    push: bool = option(FLAG, "Whether every build pushes the image; `docker:push` does it once.", False)
    registries: tuple[str, ...] = option(
        checked(values.distinct, list_of(text(*values.DESTINATION))),
        "Where a push goes: registries, to which the path of `image` is added (`registry.example`, `localhost:5000`), "
        "and repositories of registries (`registry.example/team/app`).",
        (), "the registry of `image`"
    )
    allow_dirty: bool = option(FLAG, "Whether an image made from uncommitted changes may be pushed.", False)
    engine: str = option(
        one_of("embedded", "buildkit"),
        "The engine that makes the image. `embedded` assembles it in this process and needs no Docker. `buildkit` "
        "compiles and installs in the stages of a Dockerfile, in Docker (buildx) or Podman; the image is the same.",
        "embedded",
    )
    builder: str = option(
        text(*values.BUILDER), "The builder for `buildkit`: one of `docker buildx ls`, local or remote, or `podman`.",
        "", "Docker's current builder, else Podman"
    )
    base: str = option(
        text(*values.BASE),
        "The base image: a registry reference (`@sha256:...` pins it), `debian:<suite>` (Python and its libraries "
        "straight from Debian's signed packages: no shell, no registry), or `oci:PATH` (an OCI layout). Debian's own "
        "image on a registry is `library/debian:...`.",
        "", "`python:X.Y-slim`, X.Y the newest Python that `requires-python` admits"
    )
    python: str = option(
        text(*values.PYTHON), "The Python that the image must have, such as `\"3.13\"`.", "", "the base's"
    )
    platforms: tuple[str, ...] = option(
        checked(values.distinct, list_of(one_of("linux/amd64", "linux/arm64"))),
        "The platforms to build for; several make an index.",
        (), "the host's"
    )
    extras: tuple[str, ...] = option(list_of(text(*values.NAME)), "Extras of the project to install.", ())
    dependency_groups: tuple[str, ...] = option(list_of(text(*values.NAME)), "Dependency groups to install.", ())
    lock: str = option(
        checked(values.no_control, FILLED),
        "The lock of the Python dependencies: where their versions come from. `auto`: `pylock.toml`, `uv.lock`, "
        "`poetry.lock`, `pdm.lock` or requirements with hashes, the first that exists, else a fresh resolution. "
        "`none`: a fresh resolution. Otherwise a path. (The image lock is the option `pins`.)",
        "auto",
    )
    pins: str = option(
        checked(values.no_control, FILLED),
        "The image lock, written by `hatch-docker lock`: it pins the base image, Debian's packages, and all that "
        "`lock` does not pin. `auto`: `hatch-docker.lock`, if it exists. `none`: no image lock. Otherwise a path.",
        "auto",
    )
    entrypoint: tuple[str, ...] | None = option(
        command_of(), "The program that the container runs, and its first arguments; `[]` for none.",
        None, "the project's only script, or the one named like the project"
    )
    cmd: tuple[str, ...] = option(command_of(), "The arguments that `docker run IMAGE ...` replaces.", ())
    env: Mapping[str, str] = option(
        strings(*values.VARIABLE), "Environment variables of the container, in addition to `PATH`. Not for secrets.",
        {}, '`{ PYTHONUNBUFFERED = "1" }`'
    )
    labels: Mapping[str, str] = option(
        strings(*values.KEY), "Labels, in addition to those from the project's metadata.", {}
    )
    annotations: Mapping[str, str] = option(
        strings(*values.KEY), "Annotations, in addition to those from the project's metadata.", {}
    )
    user: str = option(
        checked(values.user, text(*values.USER)),
        "The user that runs the program: a number, `uid:gid`, or a user of the base.",
        "65532",
    )
    workdir: str = option(
        checked(values.absolute, FILLED, pattern="^/"), "The working directory of the program.",
        "", "the base's, else `/`"
    )
    ports: tuple[str, ...] = option(
        list_of(PORT), "Ports that the program listens on, such as `8000` or `\"53/udp\"`.", ()
    )
    volumes: tuple[str, ...] = option(
        list_of(checked(values.below_root, FILLED, pattern="^/")),
        "Directories for data that outlives the container. In the image each belongs to `user`, and so does a new "
        "volume; a directory that the base or `files` has there stays as it is.",
        (),
    )
    stop_signal: str = option(
        text(*values.SIGNAL), "The signal that ends the program.", "", "the base's, else `\"SIGTERM\"`"
    )
    healthcheck: HealthcheckConfig | None = option(
        table_check(HealthcheckConfig),
        "The command by which the container runtime finds out whether a container is healthy.", None
    )
    files: tuple[FileConfig, ...] = option(
        list_of(table_check(FileConfig)), "Files and directories of the project to copy into the image.", ()
    )
    debug: bool = option(
        FLAG,
        "Whether to make a debug image: debugpy runs the program and listens on port 5678, every tag ends with "
        "`-debug`, and the names of its files in `dist/` contain it. Not for production.",
        False,
    )
    debug_shell: bool = option(
        FLAG, "Whether a debug image gets a shell, Debian's static BusyBox; for `debian:` bases, which have none.",
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
        "Whether the image is loaded into Docker or Podman. `auto`: if one of them answers.",
        "auto",
    )
    native_libraries: str = option(
        one_of("auto", "error", "warn", "off"),
        "How to treat a shared library that compiled code needs and the dynamic loader cannot find. `auto`: an error "
        "if the project, or a dependency compiled for this image, needs it; a warning if a published wheel does, "
        "because parts of it may never be loaded. `off`: no check.",
        "auto",
    )
    sbom: tuple[str, ...] = option(
        checked(values.distinct, list_of(one_of("cyclonedx", "spdx"))),
        "The formats of the software bill of materials (CycloneDX 1.6, SPDX 2.3), written beside the image and "
        "attached to it on a push.",
        ("cyclonedx",),
    )
    provenance: bool = option(
        FLAG,
        "Whether a provenance statement (SLSA 1, Build L1), which says what the image was made from, is written beside "
        "it and attached to it on a push.",
        True,
    )
    max_size: int = option(
        checked(values.size, text(*values.SIZE)),
        "The size above which a build fails: of one platform's image as a registry stores it (compressed), `\"50MB\"`.",
        0, "no limit"
    )
    max_growth: tuple[float | None, int | None] | None = option(
        checked(values.growth, text(*values.GROWTH)),
        "How much larger than the last pushed image an image may be; beyond that the build fails: `\"5%\"`, `\"2MB\"`. "
        "The last pushed image is the last of `tags`, else `latest`, in the first repository that a push goes to.",
        None, "no limit"
    )
    dotenv: str = option(
        checked(values.no_control, FILLED),
        "A file for pipelines that read variables, such as GitLab's `artifacts:reports:dotenv`: `IMAGE_DIGEST=...`, "
        "`IMAGE_REFERENCE=...` and others, relative to `pyproject.toml`.",
        "", "none"
    )
    build: BuildConfig = option(table_check(BuildConfig), "The builder stage.", BuildConfig())
    runtime: RuntimeConfig = option(
        table_check(RuntimeConfig), "Further contents of the image, beside Python and the project.", RuntimeConfig()
    )
    slim: SlimConfig = option(table_check(SlimConfig), "Files to leave out of wheels.", SlimConfig())
    cache: CacheConfig = option(table_check(CacheConfig), "A BuildKit cache shared by several machines.", CacheConfig())
    sign: SignConfig = option(table_check(SignConfig), "Signatures of pushed images.", SignConfig())
    check: CheckConfig = option(table_check(CheckConfig), "A command that tests the finished image.", CheckConfig())
    debian: DebianConfig = option(table_check(DebianConfig), "The sources of Debian's packages.", DebianConfig())
