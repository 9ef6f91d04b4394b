"""Plan: everything that decides an image, as plain values. Made by defaults.make_plan, read by the engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hatch_docker.project.sources import Source

DEBIAN_PYTHONS: Mapping[str, tuple[str, ...]] = {
    "bookworm": ("3.11",), "trixie": ("3.13",), "forky": ("3.14", "3.13", "3.15"), "sid": ("3.14", "3.13", "3.15"),
}  # fmt: skip
"""The Debian suites that a base can be made of, oldest first, and the Pythons of each, its default first."""
DEBIAN_VERSIONS: Mapping[str, str] = {"12": "bookworm", "13": "trixie"}
"""The suites by the first number of their versions, which those without a release do not have yet."""
UNRELEASED = frozenset({"forky", "sid"})
"""The suites that are not proposed to anybody, because their packages change every day."""
ARCHIVES = "UV_PYTHON_INSTALL_MIRROR"
"""The variable that names a mirror of python-build-standalone; uv reads it too."""
UNDIVIDED = frozenset({"sid"})
"""The suites that get every update in place: they have neither -updates nor -security."""

VENV = "opt/venv"
"""The virtual environment in every image, relative to its root."""
PROGRAMS = f"/{VENV}/bin/"
"""The directory of the programs of wheels in every image."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH in a container whose image sets none, as Docker has it."""
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
"""The file with the certificates that programs in an image trust, where Debian and many others have it."""
TINI = ("tini",)
"""Debian's package of the first process that `init` asks for."""
DEBUG_PORT = 5678
"""The port at which a debugger attaches to a debug variant: debugpy's own."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A value that the user did not write, and why it was taken; printed with `-v`."""

    option: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class StandalonePlan:
    """A CPython from an archive of python-build-standalone, on a Debian base: "3.14", "3.14t"."""

    python: str
    mirror: str = ""                      # "" for UV_PYTHON_INSTALL_MIRROR
    release: str = ""                     # "20261003"; "" for the newest in a directory


@dataclass(frozen=True, slots=True)
class BasePlan:
    """The base. `kind` is "debian", "registry" or "oci"; `name` is what the user typed.

    A `standalone` base is one of kind "debian" whose Python comes from an archive.
    """

    kind: str
    name: str
    location: str                         # the suite, the reference or the path
    mirror: str = ""                      # debian: the user's mirror, "" for the host's apt configuration
    security_mirror: str = ""             # debian: the same for -security, "" for mirror + "-security"
    slim: bool = True                     # debian: leave out gconv, test, idlelib, ...
    packages: tuple[str, ...] = ()        # runtime.packages
    busybox: bool = False                 # debian: it is /bin/sh
    python: str = ""                      # debian: the Python of the suite, "" for its default
    check_valid_until: bool = True        # debian: a release that has run out is refused
    builder: BasePlan | None = None       # build.base: the base that compiles for this one; None: Debian's compiler
    standalone: StandalonePlan | None = None


@dataclass(frozen=True, slots=True)
class LockPlan:
    """The source of versions. `kind` is "pylock", "uv", "poetry", "pdm", "requirements" or "resolve" (no lock)."""

    kind: str
    path: str = ""                        # relative to the project's root, "" for "resolve"
    requirements: tuple[str, ...] = ()    # PEP 508, of the project with the chosen extras and groups, and its members
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    members: tuple[str, ...] = ()         # paths of members, which a lock may have as directories
    beside: tuple[str, ...] = ()          # PEP 508, of what is resolved apart where the lock does not have it
    sources: tuple[Source, ...] = ()      # of the requirements: the indexes and addresses that they are bound to
    pinned: str = ""                      # for "resolve": a requirements file whose pins hold, relative to the root


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The way the project's wheel is made. `isolated` means in the builder stage, never on the host."""

    isolated: bool
    packages: tuple[str, ...] = ()        # Debian packages beside the compiler
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()         # names of environment variables whose values the build may read
    network: bool = True
    args: Mapping[str, str] = field(default_factory=dict)
    ssh: bool = False                     # the build may ask this machine's SSH agent
    requires: tuple[str, ...] = ()        # PEP 518: what pyproject.toml says that the wheel is made with
    timeout: float = 4 * 3600             # seconds that it may take in the sandbox
    memory: int = 0                       # bytes that it may take there; 0 for no limit but the machine's
    compiler_cache: bool = False          # what its compilers make is kept for the project's next build


@dataclass(frozen=True, slots=True)
class SignPlan:
    """The signer of what is pushed: a key as cosign takes it or, with "", the pipeline's identity."""

    key: str
    log: bool                             # signatures are written in the public transparency log


@dataclass(frozen=True, slots=True)
class SlimPlan:
    """The parts left out of wheels: kinds, but for translations into some languages, and what patterns keep; sorted."""

    leave_out: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """Another project of the workspace whose wheel goes into the image, where one of `markers` holds ("" always)."""

    name: str
    version: str
    path: str                             # from the project's root, with / between directories
    markers: tuple[str, ...]
    build: BuildPlan


@dataclass(frozen=True, slots=True)
class CachePlan:
    """The shared cache, read from `sources`, written to `targets`: the fields of `docker buildx build`.

    Without any, the embedded engine has one beside the image; the type "none" is none.
    """

    sources: tuple[Mapping[str, str], ...] = ()
    targets: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file or directory of the project copied into the image."""

    source: str                           # relative to the project's root
    target: str                           # absolute, in the image
    mode: int | None = None               # permission bits of the files; None: 0644, 0755 where executable


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A command that is run in the finished image; what it writes below `outputs` is a layer of its own."""

    command: tuple[str, ...]
    outputs: tuple[str, ...]              # absolute directories in the image, none of them below another
    inputs: tuple[str, ...] = ()          # paths and patterns of paths, relative to the project's root
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()         # names of environment variables whose values the command may read
    network: bool = False
    timeout: float = 600                  # seconds

    @property
    def places(self) -> tuple[str, ...]:
        """The files and directories that all inputs are in, as paths without patterns; "" is the project's root."""
        found = []
        for path in self.inputs:
            fixed = re.match(r"[^*?\[]*", path)
            found.append(path if fixed is None or fixed[0] == path else fixed[0].rpartition("/")[0])
        return tuple(found)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Docker's HEALTHCHECK; times in nanoseconds, as the configuration stores them."""

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
    """The limits of an image, in bytes as stored; `growth` beyond the image last pushed, or `share` of that one's."""

    size: int | None = None
    growth: int | None = None
    share: float | None = None            # 0.05 for 5 %


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """The image's configuration (config.md)."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]       # the engine adds created, base.name and base.digest
    user: str
    workdir: str
    ports: tuple[str, ...]                # "8000/tcp"
    volumes: tuple[str, ...]
    stop_signal: str
    healthcheck: HealthCheck | None
    init: bool = False                    # tini is process 1

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the program and of its arguments by default."""
        return (*self.entrypoint, *self.cmd)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the image; JSON by `docker:plan`."""

    name: str                             # normalised as in file names: my_app
    version: str
    image: str                            # the name without a tag
    tags: tuple[str, ...]
    repositories: tuple[str, ...]         # where a push goes, each with its registry
    revision: str                         # the commit, "" where there is none
    dirty: tuple[str, ...]                # paths that are not as that commit has them
    engine: str
    platforms: tuple[str, ...]
    requires_python: str
    python: str                           # "3.13"; "" where the base decides
    base: BasePlan
    lock: LockPlan
    build: BuildPlan
    files: tuple[FilePlan, ...]
    config: ConfigPlan
    scripts: tuple[str, ...]              # console scripts that the wheel must bring
    compression: str                      # "gzip", "zstd" or "none"
    created: int | None                   # seconds since the epoch; None: the newest of the wheels' upload times
    check: CheckPlan | None
    load: str                             # "auto", "always" or "never"
    push: bool = False                    # whether the image goes to the repositories
    allow_dirty: bool = False             # whether it may although it is made of what no commit has
    archive: bool = True                  # whether it is written to a file
    sbom: tuple[str, ...] = ()            # "cyclonedx", "spdx"
    provenance: bool = False              # whether what the image was made of is stated beside it
    sign: SignPlan | None = None          # who signs what is pushed
    dotenv: str = ""                      # a file of variables for pipelines, relative to the project's root
    builder: str = ""                     # buildkit: a builder of buildx, or "podman"; "" for what there is
    cache: CachePlan = CachePlan()        # a cache that machines share
    pins: str = ""                        # hatch-docker.lock, relative to the project's root; "" without
    budget: BudgetPlan | None = None
    wheel_records: str = "repair"         # what a wrong RECORD of a published wheel is: "repair", "refuse"
    native_libraries: str = "off"         # what a missing shared library is: "auto", "error", "warn", "off"
    members: tuple[MemberPlan, ...] = ()  # the projects of the workspace that it depends on
    slim: SlimPlan = SlimPlan()           # what is left out of wheels
    ca_certificates: tuple[str, ...] = () # files, relative to the project's root
    steps: tuple[StepPlan, ...] = ()      # commands run in the finished image, in this order
    debug: bool = False                   # a variant in which debugpy runs the program
    part: str = ""                        # which of several images of the project: NAME of images.NAME
    guesses: tuple[Guess, ...] = ()
    notes: tuple[str, ...] = ()           # what the user should read even without -v

    @property
    def stem(self) -> str:
        """The start of the names of all files of this image: my_app-1.0, my_app-1.0.worker."""
        return f"{self.name}-{self.version}" + (f".{self.part}" if self.part else "")

    @property
    def copied(self) -> tuple[tuple[str, str], ...]:
        """The files and directories of the project that are read for the image, each with its option."""
        files = tuple(("files", file.source) for file in self.files)
        return files + tuple(("ca-certificates", path) for path in self.ca_certificates)

    @property
    def bases(self) -> tuple[BasePlan, ...]:
        """The base, and that of the builder stage where the project names one."""
        return (self.base, self.base.builder) if self.base.builder else (self.base,)

    @property
    def references(self) -> tuple[str, ...]:
        """image:tag, one a tag: the names in the archive and in daemons."""
        return tuple(f"{self.image}:{tag}" for tag in self.tags)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values, for `docker:plan`."""
    return {"schema": 1, "references": plan.references, **asdict(plan)}
