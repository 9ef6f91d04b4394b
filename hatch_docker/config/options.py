"""`[tool.hatch-docker]` as the user typed it: every option, its type, its default and what it does.

Each class is one table: a frozen dataclass whose fields say how they are checked. TOML names are the Python names in
kebab-case; durations are nanoseconds and modes integers once loaded.
"""

# ruff: noqa: RUF009 - `option` returns a dataclass field
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.config import values
from hatch_docker.config.tables import (
    BuildConfig,
    CacheConfig,
    CheckConfig,
    DebianConfig,
    FileConfig,
    HealthcheckConfig,
    RuntimeConfig,
    SignConfig,
    SlimConfig,
    option,
)
from hatch_docker.config.types import (
    DESTINATIONS,
    FILLED,
    FLAG,
    KEY,
    NAME,
    PLATFORMS,
    PORT,
    TAGS,
    VARIABLE,
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

TABLE = ("tool", "hatch-docker")
PREFIX = "HATCH_DOCKER_"


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


def load_config(table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None) -> Config:
    """The Config of a `[tool.hatch-docker]` table itself; see `load_configs`."""
    return load_configs(table, environ, pyproject)[""]


def load_configs(
    table: Mapping[str, Any], environ: Mapping[str, str], pyproject: Path | None
) -> Mapping[str, Config]:
    """The Config of each image of a `[tool.hatch-docker]` table by its name, "" for that of the table itself.

    HATCH_DOCKER_* variables come first. Raises ConfigError with one line for every problem; `pyproject` is read for
    their line numbers only.
    """
    overrides, own = None, table
    several = isinstance(table, Mapping) and "images" in table
    if several:
        own = {name: value for name, value in table.items() if name != "images"}
    if any(name.startswith(PREFIX) for name in environ):
        from hatch_docker.config.environ import override

        overrides = override(own, environ)
        own = overrides.table
    problems: list[Problem] = []
    config = walk(table_check(Config), own, problems)
    configs = {"": config}
    if several:
        from hatch_docker.config.images import walk_images

        configs |= walk_images(table, None if problems else config, environ, problems)
    if problems or (overrides is not None and overrides.problems):
        from hatch_docker.config.messages import explain

        raise explain(problems, overrides, pyproject)
    return configs
