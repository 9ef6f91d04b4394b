"""The target that a wheel must fit, and pins: the files that a lock or a resolution selects for a target."""

from __future__ import annotations

import functools
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from packaging.utils import InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import parse, redact_requirement
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import Platform

if TYPE_CHECKING:
    from packaging.markers import Environment, Marker
    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.version import Version

    from hatch_docker.bases.model import Base


# Architectures: the names of Go and the OCI, and those of the kernel (`uname -m`).
MACHINES = {
    "386": "i686", "amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "loong64": "loongarch64",
    "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}
TREE_SUFFIX = "source.tar.gz"  # suffix of the file name of an archived tree without a static version
_LEGACY_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True, slots=True)
class Target:
    """The system that a wheel must fit: CPython ("3.13.5"), platform, C library ("glibc" or "musl", "2.41")."""

    python: str
    platform: Platform
    libc: tuple[str, str]
    abi: str = ""                         # "t" is free-threaded, "d" is a debug build
    base: str = field(default="", compare=False)  # the name of the base, for messages

    @property
    def build(self) -> str:
        """The full version with the ABI flags: "3.14.0t"."""
        return self.python + self.abi

    @property
    def short(self) -> str:
        """Major and minor version of Python: "3.13"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def machine(self) -> str:
        """The architecture in `platform_machine` and in wheel tags: "x86_64"."""
        try:
            return MACHINES[self.platform.architecture]
        except KeyError:
            raise WheelError(
                f"no wheels are known for the architecture of {self.platform}; leave it out of `platforms`"
            ) from None

    @property
    def builds_here(self) -> bool:
        """True if this machine can run the target's programs, and so can build sdists for it."""
        machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
        return sys.platform == "linux" and machine == self.machine

    @property
    def alternatives(self) -> str:
        """End of an error message: the remedies if no wheel fits."""
        return (
            "lock a version that has such a wheel (or build one and add it with find-links), or build the image on "
            f"a {self.platform} machine, where its sdist can be compiled"
        )

    @property
    def description(self) -> str:
        """The base's name and its system, for error messages."""
        return f"the base {self.base}, which is {self}" if self.base else f"the base, which is {self}"

    def __str__(self) -> str:
        return f"Python {self.short}{self.abi} on {self.platform} with {self.libc[0]} {self.libc[1]}"

    def tags(self) -> Sequence[Tag]:
        """Return the tags of all wheels that fit, in order of preference (PEP 425, 600 and 656)."""
        return _tags(self)

    def marker_environment(self) -> Environment:
        """Return the values of all marker variables (PEP 508) for the target. No value comes from the host."""
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

    def satisfies(self, marker: Marker | None, extras: Iterable[str] = ()) -> bool:
        """Return whether a marker is true for the target without an extra or with one of `extras`; True for None.

        Raise WheelError for a variable that only markers in a pylock.toml have.
        """
        if marker is None:
            return True
        from packaging.markers import UndefinedEnvironmentName

        environment = cast("dict[str, str]", self.marker_environment())
        try:
            return any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))
        except UndefinedEnvironmentName as error:
            raise WheelError(f"the marker {str(marker)!r} has the variable {error}, which only locks have") from error


@functools.cache
def _tags(target: Target) -> tuple[Tag, ...]:
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = (int(part) for part in target.short.split("."))
    platforms = [*_libc_tags(target), f"linux_{target.machine}"]
    interpreter = f"cp{major}{minor}"
    abis = [interpreter + target.abi]
    if "d" in target.abi:  # a debug build also loads modules of a release build
        abis.append(interpreter + target.abi.replace("d", ""))
    return (*cpython_tags((major, minor), abis, platforms), *compatible_tags((major, minor), interpreter, platforms))


def target_of(base: Base) -> Target:
    """Return the target for the wheels of a base."""
    return Target(base.interpreter.version, base.platform, base.libc, base.interpreter.abi, base.name)


def _libc_tags(target: Target) -> list[str]:
    """Return the platform tags from the target's C library version to the oldest of the PEPs, the newest first."""
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


def incompatibility(filename: str, target: Target) -> str:
    """Return the reason why a wheel does not fit the target ("for CPython 3.12", "for glibc 2.42"); "" if it fits."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename as error:
        return f"not named as a wheel ({error})"
    known = target.tags()
    if not tags.isdisjoint(known):
        return ""
    if not {(tag.interpreter, tag.abi) for tag in tags} & {(tag.interpreter, tag.abi) for tag in known}:
        return "for " + abbreviate(sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags}))
    # C library versions in the tags for the target's architecture and kind of C library.
    kind = {"glibc": "manylinux", "musl": "musllinux"}[target.libc[0]]
    pattern = re.compile(rf"{kind}_(\d+)_(\d+)_{re.escape(target.machine)}")
    versions = [(int(found[1]), int(found[2])) for tag in tags if (found := pattern.fullmatch(tag.platform))]
    if versions:
        return "for {} {}.{} or newer".format(target.libc[0], *min(versions))
    return "for " + abbreviate(sorted({tag.platform for tag in tags}))


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of a package, a wheel or an sdist, with its hash.

    `url` has no credentials. The `url` of a git repository starts with "git+" and ends with a commit; the file is an
    archive of this commit. `sha256` is hexadecimal, `size` in bytes, `upload_time` in seconds since the epoch; None if
    unknown.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None
    upload_time: int | None

    @property
    def title(self) -> str:
        """Name and version for messages: "numpy 2.4.0"."""
        return f"{self.name} {self.version}"

    @property
    def is_wheel(self) -> bool:
        """True for a wheel, False for an sdist, which has to be built."""
        return self.filename.endswith(".whl")

    @property
    def commit(self) -> tuple[str, str]:
        """For a git repository the URL with the commit, and the commit; ("", "") for other files."""
        address = self.url.partition("#")[0] if self.url.startswith("git+") else ""
        return address, address.rpartition("@")[2]

    @property
    def subdirectory(self) -> str:
        """The project's directory in the archive; "" is the top directory."""
        found = re.search(r"#(?:.*&)?subdirectory=([^&]*)", self.url)
        return unquote(found[1]) if found else ""

    @property
    def needs_git(self) -> bool:
        """True if the archive contains the git history, because the backend computes the version with git."""
        return self.url.startswith("git+") and self.filename.endswith(TREE_SUFFIX)


@dataclass(frozen=True, slots=True)
class PinHash:
    """A pin without its URL, for cache keys. The file cannot be downloaded with it."""

    name: str
    version: str
    filename: str
    sha256: str


def sdist_name(name: str, version: str, archive: str = "") -> str:
    """Return the file name of an sdist (PEP 625). The suffix is .zip if the file name `archive` has this suffix."""
    return f"{name.replace('-', '_')}-{version}{'.zip' if archive.endswith('.zip') else '.tar.gz'}"


def version_of(filename: str) -> Version | None:
    """Return the version in the file name of a wheel or an sdist (PEP 427, PEP 625), None for other names."""
    try:
        return (parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename)(filename)[1]
    except ValueError:  # another kind of name, or an invalid version
        return None


def note_used(pins: Iterable[Pin | PinHash], ctx: Context) -> None:
    """Record in the context the build requirements with which a wheel was built."""
    ctx.materials.update({("pypi", pin.name, pin.version, pin.filename): pin.sha256 for pin in pins})


def parse_marker(text: str, where: str) -> Marker:
    """Parse a marker (PEP 508). Raise WheelError whose message begins with `where`."""
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(text)
    except InvalidMarker:
        raise WheelError(f"{where} has a marker that is not valid: {text!r}") from None


def parse_requirement(line: str, where: str) -> Requirement:
    """Parse a requirement (PEP 508). Raise WheelError that begins with `where` and quotes the line without login."""
    from packaging.requirements import Requirement

    try:
        requirement = Requirement(line)
        parse(requirement.url or "")
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise WheelError(f"{where} {redact_requirement(line)[:100]!r} is not a valid requirement: {reason}") from None
    return requirement
