"""Every option of `[tool.hatch-docker]`: its type, its default and its description.

Each class is one table. TOML names are the Python names in kebab-case. After loading, durations are nanoseconds and
modes are integers. A default that depends on other values is described at the end, after "Default:".
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hatch_docker.config import types
from hatch_docker.config.types import Command, Distinct, Lines, ListOf


class Table(BaseModel):
    """A table of options: immutable, and unknown options are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
    )  # fmt: skip

    @field_validator("*", mode="before")
    @classmethod
    def _check_not_null(cls, value: Any) -> Any:
        if value is None:  # from the JSON of a variable; TOML has no null
            raise ValueError("must not be null")
        return value


class HealthcheckConfig(Table):
    """The command with which the container runtime checks whether a container is healthy."""

    command: Command = Field(min_length=1, description="The program and its arguments. It must exit with status 0 "
        "while the container is healthy.")
    interval: types.Duration = Field(default=0, description='The time between two checks. Default: `"30s"`.')
    timeout: types.Duration = Field(default=0, description="The time after which a check counts as failed. Default: "
        '`"30s"`.')
    start_period: types.Duration = Field(default=0, description="The time that a container has to start; failures in "
        'this time do not count. Default: `"0s"`.')
    start_interval: types.Duration = Field(default=0, description="The time between two checks during `start-period`, "
        'for Docker 25 and newer. Default: `"5s"`.')
    retries: int = Field(default=0, ge=0, le=1000, description="The number of consecutive failures after which a "
        "container is unhealthy. Default: `3`.")


class FileConfig(Table):
    """A file or directory of the project copied into the image."""

    source: types.Source = Field(description="The file or directory, relative to `pyproject.toml`.")
    target: types.Target = Field(description="The absolute path of the copy in the image.")
    mode: types.Mode | None = Field(default=None, description='The permission bits of the files. Default: `"0644"`, '
        'and `"0755"` for executable files.')


class StepConfig(Table):
    """A command that runs in the finished image. The files that it writes to `outputs` become a layer."""

    command: Command = Field(min_length=1, description="The program and its arguments.")
    outputs: ListOf[types.Directory] = Field(min_length=1, description="The directories of the image that the command "
        "may write to. A missing directory is created.")
    inputs: ListOf[types.Source] = Field(default=(), description="Files and directories of the project that the "
        "command reads, relative to `pyproject.toml`; `*`, `?` and `**` are wildcards. The command finds them in "
        "`/inputs`, which is then its working directory.")
    env: Mapping[types.Variable, types.Argument] = Field(default={}, description="Environment variables of the "
        "command, in addition to the image's.")
    secrets: ListOf[types.Identifier] = Field(default=(), description="Names of environment variables that the command "
        "may read as secrets. Their values are never written to a layer, log or receipt.")
    network: bool = Field(default=False, description="Whether the command may use the network.")
    timeout: types.Duration = Field(default=600 * types.SECOND, description="The time after which the command is "
        'stopped and the build fails. Default: `"10m"`.')


class BuildConfig(Table):
    """The builder stage, where the project's wheel is made."""

    base: types.Base = Field(default="", description="The image in which the wheel is made, if your images come in "
        "pairs: one to build in and one to run. It needs a compiler and the same Python as `base`. It may be any "
        "distribution whose C library is not newer than that of `base`. It is written like `base`. Default: Debian's "
        "compiler, from the same suite as `base`.")
    packages: ListOf[types.Package] = Field(default=(), description="Debian packages that the build needs in addition "
        "to the compiler and Python's headers, such as `libpq-dev`.")
    env: Mapping[types.Variable, types.Argument] = Field(default={}, description="Environment variables of the build.")
    args: Mapping[types.Identifier, types.Argument] = Field(default={}, description="Build arguments: environment "
        "variables whose values differ from build to build. In the Dockerfile they are `ARG` instructions, so that "
        "`--build-arg` can set them. Not for secrets.")
    secrets: ListOf[types.Identifier] = Field(default=(), description="Names of environment variables that the build "
        "may read as secrets. Their values are never written to a layer, log or receipt.")
    ssh: bool = Field(default=False, description="Whether the build may use this machine's SSH agent "
        "(`SSH_AUTH_SOCK`), for private Git repositories, as with `docker buildx build --ssh default`. The keys stay "
        "in the agent.")
    network: bool = Field(default=True, description="Whether the build may use the network.")
    isolated: Literal["auto", "always", "never"] = Field(default="auto", description="Whether the project's wheel is "
        "made in the builder stage. `auto`: if the project has build hooks, extension modules or a backend other than "
        "hatchling, or if one of the options above needs it; else hatchling makes it in the process of hatch-docker. "
        "`never`: on this machine, with the tools that are installed here.")
    timeout: types.Duration = Field(default=4 * 3600 * types.SECOND, description="The time after which a build in the "
        'sandbox is stopped; BuildKit has no limit. Default: `"4h"`.')
    memory: types.Size = Field(default=0, description="The memory that all processes of a build in the sandbox may use "
        'together, files in `/tmp` included, such as `"4GB"`. A build that uses more is stopped; BuildKit has no '
        "limit. Default: the memory of the machine.")
    compiler_cache: bool = Field(default=True, description="Whether to keep the results of gcc, g++ and rustc in the "
        "builder stage, so that the next build of this project compiles only changed sources. The wheel is the same in "
        "both cases. With `secrets` or `ssh`, nothing is kept.")


class RuntimeConfig(Table):
    """Additional contents of the image, besides Python and the project."""

    packages: ListOf[types.Package] = Field(default=(), description="Debian packages that the program needs, such as "
        '`libpq5`. On a base from a registry or a layout, the apt of that base installs them; this needs `engine = '
        '"buildkit"`.')


class SlimConfig(Table):
    """Files of wheels that a running program does not read, and that the image can leave out."""

    leave_out: Distinct[Literal["tests", "stubs", "headers", "symbols", "locales"]] = Field(default=(), description=
        "Files of dependencies to leave out: `tests` (the packages' own tests), `stubs` (for type checkers), `headers` "
        "(and static libraries), `symbols` (debug symbols of compiled code, also of the project's), `locales` "
        "(translations). At its end, the build prints their size.")
    locales: ListOf[types.Language] = Field(default=(), description="The languages whose translations to keep, such "
        'as `"de"`. English is always kept.')
    keep: ListOf[types.Pattern] = Field(default=(), description="Files and directories to keep, as patterns of their "
        'paths below `site-packages`: `"pandas/tests"`, `"*.pyi"`. A `*` matches `/` too.')


class CacheConfig(Table):
    """A cache shared by several machines."""

    from_: Lines[types.CacheSource] = Field(default=(), description="Where a build reads results of other machines, "
        "in the syntax of `docker buildx build --cache-from`: `type=registry,ref=registry.example/app:cache`, "
        "`type=local,src=...`, for `buildkit` also `type=gha`; `none` for no shared cache. Default: if `embedded` "
        "pushes, the first repository of the push.")
    to: Lines[types.CacheTarget] = Field(default=(), description="Where a build stores its results for other machines, "
        "in the syntax of `--cache-to`. `buildkit` stores all stages, unless the value has `mode=min`. Docker's "
        "default builder cannot store them: set `builder` to one that can. Default: as for `cache.from`.")


class SignConfig(Table):
    """Signatures of pushed images, made by cosign."""

    key: types.Line = Field(default="", description="A private key of `cosign generate-key-pair`, or another key that "
        "cosign accepts: a file relative to `pyproject.toml`, `env://COSIGN_PRIVATE_KEY`, `awskms://...`. Its password "
        "is in `COSIGN_PASSWORD`. Default: none.")
    keyless: bool = Field(default=False, description="Whether to sign with the identity of the pipeline (GitHub, "
        "GitLab and others provide one), through Sigstore's public services.")
    transparency_log: bool | None = Field(default=None, description="Whether signatures are recorded in Sigstore's "
        "public log, which everybody can read. Without it, verifiers add `--insecure-ignore-tlog=true`, and need no "
        "network. Default: `true` with `keyless`, else `false`.")


class CheckConfig(Table):
    """A command that tests the finished image."""

    command: Command = Field(default=(), description="The program and its arguments. It runs in the finished image; "
        "if it fails, the build fails. Default: no check.")
    timeout: types.Duration = Field(default=60 * types.SECOND, description="The time after which the check counts as "
        'failed. Default: `"60s"`.')


class DebianConfig(Table):
    """The sources of Debian's packages, for `debian:` bases and the builder stage."""

    mirror: types.Mirror = Field(default="", description="The URL of a mirror of Debian. Default: the host's apt "
        "configuration.")
    security_mirror: types.Mirror = Field(default="", description="The URL of a mirror of Debian's security archive. "
        "Default: `mirror` with `-security` at its end, without `mirror` the host's apt configuration.")
    check_valid_until: bool = Field(default=True, description="Whether to reject a release whose `Valid-Until` has "
        "passed, as apt does. Set `false` for a snapshot archive, which keeps old states of a mirror.")
    slim: bool = Field(default=True, description="Whether to leave out files that services do not use: gconv's "
        "character sets, OpenSSL's engines, and test, idlelib, pydoc and turtle of the standard library.")


class StandaloneConfig(Table):
    """The source of the Python of a `standalone:` base."""

    mirror: types.Archives = Field(default="", description="The URL of a mirror of python-build-standalone, which has "
        "a directory for each release, or of a directory with archives (`file:///srv/pythons`). Default: "
        "`UV_PYTHON_INSTALL_MIRROR`, which uv reads too.")
    release: types.Release = Field(default="", description='The release that the archive comes from, such as '
        '`"20261003"`. Default: the newest archive, if `mirror` is a directory; any other mirror needs a release.')
    suite: types.Suite = Field(default="trixie", description="The Debian suite of the C library and of everything else "
        "except Python.")


class Config(Table):
    """All options of an image. Name, version and dependencies come from the project's metadata."""

    image: types.Image = Field(default="", description="The repository of the image, with its registry if it has one. "
        "Default: the project's name.")
    tags: Distinct[types.Tag] = Field(default=("{version}", "latest"), min_length=1, description="The image's tags. "
        "Placeholders are `{version}`, `{major}`, `{minor}`, `{revision}` (the commit), `{branch}` and `{date}` (of "
        "the commit or of SOURCE_DATE_EPOCH, such as 20240229). A character that a tag cannot contain becomes `-`.")
    prereleases_move_tags: bool = Field(default=False, description="Whether a pre-release such as `2.0rc1` also gets "
        "the tags that move: `latest`, and those with `{major}` and `{minor}` alone.")
    push: bool = Field(default=False, description="Whether every build pushes the image; `docker:push` pushes once.")
    registries: Distinct[types.Destination] = Field(default=(), description="The destinations of a push: registries "
        "(`registry.example`, `localhost:5000`), to which the path of `image` is added, or whole repositories "
        "(`registry.example/team/app`). Default: the registry of `image`.")
    allow_dirty: bool = Field(default=False, description="Whether an image made from uncommitted changes may be "
        "pushed.")
    engine: Literal["embedded", "buildkit"] = Field(default="embedded", description="The engine that makes the image. "
        "`embedded` assembles it without Docker, in the process of hatch-docker. `buildkit` compiles and installs in "
        "the stages of a Dockerfile, in Docker (buildx) or Podman. Both give the same image.")
    builder: types.Builder = Field(default="", description="The builder for `buildkit`: one of `docker buildx ls`, "
        "local or remote, or `podman`. Default: Docker's current builder, else Podman.")
    base: types.Base = Field(default="", description="The base image: a registry reference (`@sha256:...` pins it), "
        "`debian:<suite>` (Python and its libraries straight from Debian's signed packages: no shell, no registry), "
        "`standalone:X.Y` (the same with a CPython of python-build-standalone, `standalone:3.14t` free-threaded), or "
        "`oci:PATH` (an OCI layout). Debian's own image on a registry is `library/debian:...`. Default: "
        "`python:X.Y-slim`, X.Y the newest Python up to 3.14 that `requires-python` allows.")
    python: types.Python = Field(default="", description='The Python version that the image must have, such as '
        '`"3.13"` or `"3.14t"` (free-threaded). If a Debian suite has several, this selects one. Default: that of the '
        "base.")
    platforms: Distinct[Literal["linux/amd64", "linux/arm64"]] = Field(default=(), description="The platforms to build "
        "for; several make an index. Default: the host's.")
    extras: ListOf[types.Name] = Field(default=(), description="Extras of the project to install.")
    dependency_groups: ListOf[types.Name] = Field(default=(), description="Dependency groups to install.")
    lock: types.Line = Field(default="auto", description="The lock of the Python dependencies: where their versions "
        "come from. `auto`: `pylock.toml`, `uv.lock`, `poetry.lock`, `pdm.lock` or requirements with hashes, the first "
        "that exists, else a fresh resolution. `none`: a fresh resolution. Otherwise a path. (The image lock is the "
        "option `pins`.)")
    pins: types.Line = Field(default="auto", description="The image lock, written by `hatch-docker lock`: it pins the "
        "base image, Debian packages, and everything that `lock` does not pin. `auto`: `hatch-docker.lock`, if it "
        "exists. "
        "`none`: no image lock. Otherwise a path.")
    entrypoint: Command | None = Field(default=None, description="The program that the container runs, and its first "
        "arguments; `[]` for none. Default: the project's only script, or the script with the project's name "
        "(also `supervisord` for `supervisor` and `ansible` for `ansible-core`).")
    cmd: Command = Field(default=(), description="The arguments that `docker run IMAGE ...` replaces. In `entrypoint` "
        "and `cmd`, `${NAME}` and `${NAME:-default}` are replaced by environment variables when a container starts, "
        "without a shell. `$${` stands for `${`.")
    init: bool = Field(default=False, description="Whether process 1 is Debian's `tini`, which forwards signals and "
        "waits for orphaned processes. On a base from a registry or a layout, the apt of that base installs it; this "
        'needs `engine = "buildkit"`.')
    env: Mapping[types.Variable, types.Argument] = Field(default={}, description="Environment variables of the "
        "container, in addition to `PATH`. Not for secrets. Default: `PYTHONUNBUFFERED` is `1`. If `user` is a number "
        "other than 0, `HOME` is `/tmp`, which every user may write to, and `USER` is `nonroot`.")
    labels: Mapping[types.Key, types.Argument] = Field(default={}, description="Labels, in addition to those from the "
        "project's metadata.")
    annotations: Mapping[types.Key, types.Argument] = Field(default={}, description="Annotations, in addition to those "
        "from the project's metadata.")
    user: types.User = Field(default="65532", description="The user that runs the program: a number, `uid:gid`, or a "
        "user of the base.")
    workdir: types.AbsolutePath = Field(default="", description="The working directory of the program. Default: the "
        "base's, else `/`.")
    ports: ListOf[types.Port] = Field(default=(), description="Ports that the program listens on, such as `8000` or "
        '`"53/udp"`.')
    volumes: ListOf[types.Directory] = Field(default=(), description="Directories for data that outlives the "
        "container. They belong to `user` in the image and in a new volume. A directory that the base or `files` has "
        "keeps its owner.")
    stop_signal: types.Signal = Field(default="", description="The signal that ends the program. Default: the base's, "
        'else `"SIGTERM"`.')
    healthcheck: HealthcheckConfig | None = None
    files: ListOf[FileConfig] = Field(default=(), description="Files and directories of the project to copy into the "
        "image.")
    steps: ListOf[StepConfig] = Field(default=(), description="Commands to run in the finished image, in this order. "
        "Each command sees the files that the commands before it wrote.")
    ca_certificates: ListOf[types.Source] = Field(default=(), description="PEM files with the certificates of your "
        "company's certificate authority, relative to `pyproject.toml`. Programs in the image trust them in addition "
        "to the public certificates of the base: Python's `ssl`, requests, git, everything with OpenSSL.")
    debug: bool = Field(default=False, description="Whether to make a debug image: debugpy runs the program and "
        "listens on port 5678. Every tag ends with `-debug`, and its file names in `dist/` contain `-debug`. Not for "
        "production.")
    debug_shell: bool = Field(default=False, description="Whether a debug image gets a shell, Debian's static BusyBox; "
        "for `debian:` bases, which have none.")
    compression: Literal["gzip", "zstd", "none"] = Field(default="gzip", description="How layers are compressed. "
        "`zstd` is smaller and faster; on Python before 3.14 it needs the extra `hatch-docker[zstd]`.")
    archive: bool = Field(default=True, description="Whether a build writes the image to a file, `dist/*.oci.tar`. "
        "`false` is for an image that is only loaded or pushed; the result of the build is then the receipt.")
    load: Literal["auto", "always", "never"] = Field(default="auto", description="Whether the image is loaded into "
        "Docker or Podman. `auto`: if one of them can be reached.")
    wheel_records: Literal["repair", "refuse"] = Field(default="repair", description="How to treat a dependency's "
        "wheel whose own hash is correct, but whose RECORD does not fit its files. `repair`: a warning, and a correct "
        "RECORD in the image. `refuse`: an error. A build requirement, which is not in the image, always gives a "
        "warning.")
    native_libraries: Literal["auto", "error", "warn", "off"] = Field(default="auto", description="How to treat a "
        "shared library that compiled code needs and that the dynamic loader cannot find. `auto`: an error if the "
        "library is needed by the project, by a dependency that was compiled for this image, or by the first import of "
        "a published wheel; a hint if only another part of a published wheel needs it, because that part may never be "
        "loaded. `off`: no check.")
    sbom: types.Formats = Field(default=("cyclonedx",), json_schema_extra={"type": ["array", "boolean"]}, description=
        "The formats of the software bill of materials (CycloneDX 1.6, SPDX 2.3). It is written beside the image, and "
        "a push attaches it to the image; `false` for none.")
    provenance: bool = Field(default=True, description="Whether to write a provenance statement (SLSA 1, Build L1) "
        "beside the image. It lists what the image was made from, and a push attaches it to the image.")
    max_size: types.Size = Field(default=0, description="The largest compressed size (as stored in a registry) that "
        'the image of one platform may have, such as `"50MB"`. If an image is larger, the build fails. Default: no '
        "limit.")
    max_growth: types.Growth | None = Field(default=None, description="How much larger than the last pushed image the "
        'new image may be, such as `"5%"` or `"2MB"`. If it is larger, the build fails. The last pushed image is the '
        "last of `tags`, else `latest`, in the first repository of a push. Default: no limit.")
    dotenv: types.Source = Field(default="", description="The path of a file that a build writes for pipelines that "
        "read variables, such as GitLab's `artifacts:reports:dotenv`. It has `IMAGE_DIGEST=...`, "
        "`IMAGE_REFERENCE=...` and others. Relative to `pyproject.toml`. Default: none.")
    build: BuildConfig = BuildConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    slim: SlimConfig = SlimConfig()
    cache: CacheConfig = CacheConfig()
    sign: SignConfig = SignConfig()
    check: CheckConfig = CheckConfig()
    debian: DebianConfig = DebianConfig()
    standalone: StandaloneConfig = StandaloneConfig()
