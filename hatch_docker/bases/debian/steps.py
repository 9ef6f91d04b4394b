"""The names of the packages in a base and in a builder root."""

from collections.abc import Sequence
from dataclasses import dataclass

from hatch_docker.plan.model import DEBIAN_PYTHONS, BasePlan

# Dependencies that only maintainer scripts and interactive shells need.
IGNORED = frozenset({"awk", "debconf", "debconf-2.0", "mawk", "openssl", "readline-common"})
# Berkeley DB is large and only needed by dbm.ndbm. The slim base has no gconv.
IGNORED_SLIM = frozenset({"libc-gconv-modules-extra", "libdb5.3", "libdb5.3t64", "openssl-provider-legacy"})

# For building extension modules: a compiler, /bin/sh, and the programs that configure scripts and makefiles use.
# Essential packages must be listed, because packages do not declare dependencies on them: libpq-dev's pg_config is a
# Perl program, and some scripts need bash.
TOOLS = (
    "base-files", "bash", "bzip2", "ca-certificates", "coreutils", "dash", "debianutils", "diffutils", "findutils",
    "g++", "gcc", "grep", "gzip", "hostname", "libc-bin", "libc6-dev", "make", "mawk", "media-types", "netbase",
    "patch", "perl-base", "pkgconf", "sed", "tar", "tzdata", "xz-utils",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """Names of packages to resolve; the names in `ignored` count as installed.

    `purpose` is "base", "runtime", "system" (`runtime.packages` on an image with apt) or "builder".
    """

    names: tuple[str, ...]
    ignored: frozenset[str] = frozenset()
    purpose: str = "base"


def base_steps(plan: BasePlan, suite: str) -> tuple[Step, ...]:
    """Return the steps of a base: Python and its libraries, then `runtime.packages`."""
    python = suite_python(plan, suite)
    interpreter = () if plan.standalone else (f"python{python}-minimal", f"libpython{python}-stdlib")
    names = (
        *interpreter, "base-files", "ca-certificates", "libc-bin",
        "libstdc++6", "media-types", "ncurses-base", "netbase", "tzdata",
    )  # fmt: skip
    first = Step(names, IGNORED | IGNORED_SLIM if plan.slim else IGNORED)
    return (first, Step(plan.packages, IGNORED, "runtime")) if plan.packages else (first,)


def suite_python(plan: BasePlan, suite: str) -> str:
    """Return the Python version that a base or its builder installs from a known suite: "3.13"."""
    return plan.python or DEBIAN_PYTHONS[suite][0]


def builder_step(plan: BasePlan, suite: str, packages: Sequence[str]) -> Step:
    """Return the step of the builder root for a base."""
    return Step((*TOOLS, f"python{suite_python(plan, suite)}-dev", *packages), IGNORED - {"awk", "mawk"}, "builder")
