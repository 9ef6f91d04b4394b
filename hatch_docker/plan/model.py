"""Plan: everything that decides an image, as plain values; the result of `make_plan` and the input of the engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hatch_docker.project.sources import Source

DEBIAN_PYTHONS: Mapping[str, tuple[str, ...]] = {
    "bookworm": ("3.11",), "trixie": ("3.13",), "forky": ("3.14", "3.13", "3.15"), "sid": ("3.14", "3.13", "3.15"),
}  # fmt: skip
"""The supported Debian suites, the oldest first, and the Pythons of each, the default first."""
DEBIAN_VERSIONS: Mapping[str, str] = {"12": "bookworm", "13": "trixie"}
"""The released suites by their Debian version."""
UNRELEASED = frozenset({"forky", "sid"})
"""The suites that messages and `init` do not propose, because their packages change every day."""
PYTHON_MIRROR = "UV_PYTHON_INSTALL_MIRROR"
"""The environment variable with the URL of a mirror of python-build-standalone; uv reads it too."""
ROLLING_SUITES = frozenset({"sid"})
"""The suites without -updates and -security: all updates go into the suite itself."""

VENV = "opt/venv"
"""The path of the virtual environment in each image, relative to the image's root."""
PROGRAMS = f"/{VENV}/bin/"
"""The directory in each image with the scripts of wheels."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH in a container if the image sets none: Docker's default."""
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""The file with the trusted CA certificates in Debian's and many other images."""
TINI = ("tini",)
"""The Debian package of process 1 for the option `init`."""
DEBUG_PORT = 5678
"""The port of a debug variant to which a debugger connects: debugpy's default."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A value that hatch-docker chose for an option, and the reason; printed with `-v`."""

    option: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class StandalonePlan:
    """A CPython from an archive of python-build-standalone, on a Debian base."""

    python: str                           # "3.14", "3.14t"
    mirror: str = ""                      # "": the value of UV_PYTHON_INSTALL_MIRROR
    release: str = ""                     # "20261003"; "": the newest archive in a directory


@dataclass(frozen=True, slots=True)
class BasePlan:
    """The base image. `kind`: "debian", "registry" or "oci". `name`: the value of the option `base`.

    A `standalone:` base has the kind "debian" and takes its Python from an archive.
    """

    kind: str
    name: str
    location: str                         # the suite, the reference or the path
    mirror: str = ""                      # debian: the mirror's URL, "": the host's apt configuration
    security_mirror: str = ""             # debian: the same for -security, "": mirror + "-security"
    slim: bool = True                     # debian: leave out gconv, test, idlelib, ...
    packages: tuple[str, ...] = ()        # runtime.packages
    busybox: bool = False                 # debian: /bin/sh is BusyBox
    python: str = ""                      # debian: the Python of the suite, "": its default
    check_valid_until: bool = True        # debian: reject an expired Release file (Valid-Until)
    builder: BasePlan | None = None       # build.base: the base of the builder stage; None: Debian's compiler
    standalone: StandalonePlan | None = None


@dataclass(frozen=True, slots=True)
class LockPlan:
    """The source of versions. `kind`: "pylock", "uv", "poetry", "pdm", "requirements" or "resolve" (no lock)."""

    kind: str
    path: str = ""                        # relative to the project's root, "" for "resolve"
    requirements: tuple[str, ...] = ()    # PEP 508, of the project with the chosen extras and groups, and its members
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    members: tuple[str, ...] = ()         # paths of workspace members, which a lock may contain as directories
    beside: tuple[str, ...] = ()          # PEP 508: further requirements, resolved separately if the lock lacks them
    sources: tuple[Source, ...] = ()      # the sources of the requirements (index, URL, ...)
    pinned: str = ""                      # for "resolve": a requirements file whose `==` pins are used, or ""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The build of the project's wheel. `isolated`: in the builder stage, and not on the host."""

    isolated: bool
    packages: tuple[str, ...] = ()        # Debian packages, in addition to the compiler
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()         # names of environment variables that the build may read
    network: bool = True
    args: Mapping[str, str] = field(default_factory=dict)
    ssh: bool = False                     # the build may use this machine's SSH agent
    requires: tuple[str, ...] = ()        # build requirements (PEP 518)
    timeout: float = 4 * 3600             # seconds, in the sandbox
    memory: int = 0                       # limit in bytes, in the sandbox; 0: no limit
    compiler_cache: bool = False          # keep the compilers' outputs for the project's next build


@dataclass(frozen=True, slots=True)
class SignPlan:
    """Signing of pushed images with cosign. `key`: a key of cosign, "" for the pipeline's identity (keyless)."""

    key: str
    log: bool                             # record signatures in the public transparency log


@dataclass(frozen=True, slots=True)
class SlimPlan:
    """The files to leave out of wheels; all tuples are sorted."""

    leave_out: tuple[str, ...] = ()       # kinds of files: "tests", "stubs", "headers", "symbols", "locales"
    locales: tuple[str, ...] = ()         # languages whose translations are kept
    keep: tuple[str, ...] = ()            # patterns of paths below site-packages that are kept


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A workspace member whose wheel is installed if one of `markers` holds ("" always holds)."""

    name: str
    version: str
    path: str                             # relative to the project's root, with /
    markers: tuple[str, ...]
    build: BuildPlan


@dataclass(frozen=True, slots=True)
class CachePlan:
    """The shared cache. `sources`, `targets`: the fields of --cache-from and --cache-to of `docker buildx build`.

    If both are empty, the embedded engine uses the image's repository. The type "none" means no cache.
    """

    sources: tuple[Mapping[str, str], ...] = ()
    targets: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file or directory of the project to copy into the image."""

    source: str                           # relative to the project's root
    target: str                           # absolute path in the image
    mode: int | None = None               # permission bits of the files; None: 0644, or 0755 if executable


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A command that runs in the finished image; the files that it writes below `outputs` become a layer."""

    command: tuple[str, ...]
    outputs: tuple[str, ...]              # absolute directories in the image; none is below another one
    inputs: tuple[str, ...] = ()          # paths and glob patterns, relative to the project's root
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()         # names of environment variables that the command may read
    network: bool = False
    timeout: float = 600                  # seconds

    @property
    def places(self) -> tuple[str, ...]:
        """The inputs, with each pattern replaced by the directory that contains its matches; "": the project's root."""
        found = []
        for path in self.inputs:
            fixed = re.match(r"[^*?\[]*", path)
            found.append(path if fixed is None or fixed[0] == path else fixed[0].rpartition("/")[0])
        return tuple(found)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Docker's HEALTHCHECK; times in nanoseconds, as in the image's configuration."""

    command: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0
    start_interval: int = 0


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """A command that must succeed in the finished image; `timeout` in seconds."""

    command: tuple[str, ...]
    timeout: float


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """The limits of an image's compressed size; `growth` and `share` are relative to the image pushed last."""

    size: int | None = None               # bytes
    growth: int | None = None             # bytes
    share: float | None = None            # 0.05 for 5 %


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """The image's configuration (config.md)."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]        # the engine adds created, base.name and base.digest
    user: str
    workdir: str
    ports: tuple[str, ...]                # "8000/tcp"
    volumes: tuple[str, ...]
    stop_signal: str
    healthcheck: HealthCheck | None
    init: bool = False                    # process 1 is tini

    @property
    def command(self) -> tuple[str, ...]:
        """The default command line: entrypoint and cmd."""
        return (*self.entrypoint, *self.cmd)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the image; printed as JSON by `docker:plan`."""

    name: str                             # as in file names of artifacts: my_app
    version: str
    image: str                            # the repository, without a tag
    tags: tuple[str, ...]
    repositories: tuple[str, ...]         # repositories to push to, each with its registry
    revision: str                         # the commit, "" for none
    dirty: tuple[str, ...]                # paths that differ from the commit
    engine: str
    platforms: tuple[str, ...]
    requires_python: str
    python: str                           # "3.13"; "" if only the base image determines it
    base: BasePlan
    lock: LockPlan
    build: BuildPlan
    files: tuple[FilePlan, ...]
    config: ConfigPlan
    scripts: tuple[str, ...]              # console scripts that the wheel must contain
    compression: str                      # "gzip", "zstd" or "none"
    created: int | None                   # seconds since the epoch; None: the newest of the wheels' upload times
    check: CheckPlan | None
    load: str                             # "auto", "always" or "never"
    push: bool = False                    # push the image to `repositories`
    allow_dirty: bool = False             # push even if `dirty` is not empty
    archive: bool = True                  # write the image to a file
    sbom: tuple[str, ...] = ()            # "cyclonedx", "spdx"
    provenance: bool = False              # write and attach a provenance statement
    sign: SignPlan | None = None          # None: no signature
    dotenv: str = ""                      # a file of variables for pipelines, relative to the project's root
    builder: str = ""                     # buildkit: a builder of buildx, or "podman"; "": the first that is available
    cache: CachePlan = CachePlan()        # a cache shared by several machines
    pins: str = ""                        # the image lock, relative to the project's root; "" for none
    budget: BudgetPlan | None = None
    wheel_records: str = "repair"         # treatment of a wrong RECORD in a published wheel: "repair", "refuse"
    native_libraries: str = "off"         # treatment of a missing shared library: "auto", "error", "warn", "off"
    members: tuple[MemberPlan, ...] = ()  # the workspace members to install
    slim: SlimPlan = SlimPlan()           # files to leave out of wheels
    ca_certificates: tuple[str, ...] = () # files, relative to the project's root
    steps: tuple[StepPlan, ...] = ()      # commands that run in the finished image, in this order
    debug: bool = False                   # this is the debug variant: debugpy runs the program
    part: str = ""                        # NAME for an image of images.NAME, "" for the table's own image
    guesses: tuple[Guess, ...] = ()
    notes: tuple[str, ...] = ()           # messages that are printed without -v too

    @property
    def stem(self) -> str:
        """The start of the image's file names: my_app-1.0, my_app-1.0.worker."""
        return f"{self.name}-{self.version}" + (f".{self.part}" if self.part else "")

    @property
    def copied_files(self) -> tuple[tuple[str, str], ...]:
        """The project's files and directories that are copied into the image, as (option, path)."""
        files = tuple(("files", file.source) for file in self.files)
        return files + tuple(("ca-certificates", path) for path in self.ca_certificates)

    @property
    def bases(self) -> tuple[BasePlan, ...]:
        """The base and, if `build.base` is set, the base of the builder stage."""
        return (self.base, self.base.builder) if self.base.builder else (self.base,)

    @property
    def references(self) -> tuple[str, ...]:
        """image:tag for each tag: the names in the archive and in daemons."""
        return tuple(f"{self.image}:{tag}" for tag in self.tags)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as values for JSON, for `docker:plan`."""
    return {"schema": 1, "references": plan.references, **asdict(plan)}
