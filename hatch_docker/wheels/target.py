"""Dependencies: the target they are for, and the pinned files that a lock or a resolution gives for it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hatch_docker.core.errors import WheelError
from hatch_docker.oci.model import Platform

if TYPE_CHECKING:
    from packaging.markers import Environment, Marker
    from packaging.tags import Tag

    from hatch_docker.core.context import Context

# What the kernel of an architecture calls itself, by the name Go (and OCI) has for it.
MACHINES = {
    "386": "i686", "amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "loong64": "loongarch64",
    "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}
_LEGACY_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a wheel must fit: CPython ("3.13.5"), a platform, and a C library ("glibc" or "musl", "2.41")."""

    python: str
    platform: Platform
    libc: tuple[str, str]

    @property
    def short(self) -> str:
        """Major and minor version of Python: "3.13"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def machine(self) -> str:
        """The architecture as platform_machine and wheel tags name it: "x86_64"."""
        try:
            return MACHINES[self.platform.architecture]
        except KeyError:
            raise WheelError(
                f"no wheels are known for the architecture of {self.platform}; leave it out of `platforms`"
            ) from None

    def __str__(self) -> str:
        return f"Python {self.short} on {self.platform} with {self.libc[0]} {self.libc[1]}"

    def tags(self) -> Sequence[Tag]:
        """The tags of the wheels that fit, best first (PEP 425, 600 and 656)."""
        return _tags(self)

    def marker_environment(self) -> Environment:
        """Every variable that a marker may ask for, as the target would answer, never the host (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": self.short,
            "sys_platform": "linux",
        }

    def holds(self, marker: Marker | None) -> bool:
        """Whether a marker is true for the target; no marker is."""
        return marker is None or marker.evaluate(cast("dict[str, str]", self.marker_environment()))


@functools.cache
def _tags(target: Target) -> tuple[Tag, ...]:
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = (int(part) for part in target.short.split("."))
    platforms = [*_libc_tags(target), f"linux_{target.machine}"]
    abi = f"cp{major}{minor}"
    return (
        *cpython_tags((major, minor), [abi], platforms),
        *compatible_tags((major, minor), abi, platforms),
    )


def _libc_tags(target: Target) -> list[str]:
    """Platform tags from the target's C library down to the oldest that the standard knows, newest first."""
    kind, version = target.libc
    major, minor = (int(part) for part in version.split(".")[:2])
    machine = target.machine
    if kind == "musl":
        return [f"musllinux_{major}_{older}_{machine}" for older in range(minor, -1, -1)]
    oldest = 5 if machine in ("x86_64", "i686") else 17
    names: list[str] = []
    for older in range(minor, oldest - 1, -1):
        names.append(f"manylinux_{major}_{older}_{machine}")
        if legacy := _LEGACY_MANYLINUX.get((major, older)):
            names.append(f"{legacy}_{machine}")
    return names


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of one package, by hash; the file may be an sdist.

    `sha256` is hexadecimal, `size` in bytes, `upload_time` in seconds since the epoch; both None where nobody
    says. `url` carries no credentials.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None
    upload_time: int | None

    @property
    def is_wheel(self) -> bool:
        """Whether the file is a wheel, not an sdist to build."""
        return self.filename.endswith(".whl")


def note_used(pins: Iterable[Pin], ctx: Context) -> None:
    """Say in the context with which build requirements a wheel was made."""
    ctx.used.update({("pypi", one.name, one.version, one.filename): one.sha256 for one in pins})
