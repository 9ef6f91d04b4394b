"""From a pylock.toml (PEP 751) to the files for one target; every other kind of lock is read through here."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http import urls
from hatch_docker.wheels.target import Pin, Target

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel


FILE = r"[^\x00-\x20\x7f/\\]+"  # the name of a file that is put into directories of ours


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table was read. `name` is for messages, relative paths in the table start at `directory`; the
    project itself, at `root`, is skipped, and so are the `members` of its workspace, paths from there."""

    name: str
    directory: Path
    root: Path
    members: tuple[str, ...] = ()

    def is_own(self, path: str) -> bool:
        """Whether a directory is the project's or one of its workspace's, which is built and not fetched."""
        own = [self.root, *(self.root / member for member in self.members)]
        return "\0" not in path and os.path.realpath(self.directory / path) in {os.path.realpath(one) for one in own}


def pins_of(
    table: Mapping[str, Any], source: Source, target: Target,
    *, extras: Collection[str] = (), groups: Collection[str] = (),
) -> tuple[Pin, ...]:
    """The files that a pylock.toml's table selects for a target, by name of package.

    Raises WheelError, naming the source and the package, for a table that is no lock, a target that it does
    not serve, a file without sha256, and whatever is not a file.
    """
    from packaging.pylock import (
        PackageDirectory,
        PackageVcs,
        Pylock,
        PylockSelectError,
        PylockValidationError,
    )

    try:
        lock = Pylock.from_dict(table)
    except PylockValidationError as error:
        raise WheelError(f"{source.name} is not a valid lock: {error}; lock the project again") from error
    extras = _declared(extras, lock.extras, "extra", source)
    groups = {*(lock.default_groups or ()), *_declared(groups, lock.dependency_groups, "dependency group", source)}
    pins: list[Pin] = []
    try:
        for package, choice in lock.select(
            environment=target.marker_environment(), tags=target.tags(), extras=extras, dependency_groups=groups
        ):
            if isinstance(choice, PackageDirectory):
                if not source.is_own(choice.path):
                    raise WheelError(
                        f"{source.name}: {package.name} is the directory {choice.path}; only files go into an "
                        "image: publish it to an index, or build its wheel and lock that"
                    )
            elif isinstance(choice, PackageVcs):
                raise WheelError(
                    f"{source.name}: {package.name} comes from a {choice.type} repository; only files go into "
                    "an image: lock a release, or the URL of an archive with its hash"
                )
            else:
                try:
                    pins.append(_pin(package, choice, source, target))
                except ValueError as error:  # of an address that is none
                    raise WheelError(f"{source.name}: {package.name}: {error}; lock the project again") from error
    except PylockSelectError as error:
        raise _explain(str(error), lock.packages, source, target) from error
    return tuple(sorted(pins, key=lambda pin: pin.name))


def _declared(asked: Collection[str], declared: Sequence[str] | None, kind: str, source: Source) -> set[str]:
    """What can be asked of a lock by name. One that declares none was exported with its extras and groups chosen.

    Raises WheelError for a name that is not among those that a lock declares.
    """
    from packaging.utils import canonicalize_name

    if not declared:
        return set()
    found = {canonicalize_name(name) for name in asked}
    if unknown := sorted(found.difference(map(canonicalize_name, declared))):
        raise WheelError(
            f"{source.name} has no {kind} {unknown[0]}, only {', '.join(sorted(declared))}; lock the project again"
        )
    return {str(name) for name in found}


def _pin(
    package: Package, choice: PackageWheel | PackageSdist | PackageArchive, source: Source, target: Target
) -> Pin:
    from packaging.pylock import PackageArchive

    if isinstance(choice, PackageArchive):
        filename = re.split(r"[/\\]", urls.parse(choice.url or "").path or choice.path or "")[-1]
    else:
        filename = choice.filename
    place = f"{source.name}: {package.name} {package.version or ''}".rstrip()
    if not re.fullmatch(FILE, filename):
        raise WheelError(f"{place}: {filename[:100]!r} is not the name of a file; lock the project again")
    sha256 = choice.hashes.get("sha256", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise WheelError(f"{place} has no sha256 hash for {filename}; lock the project again with hashes")
    if getattr(choice, "subdirectory", None):
        raise WheelError(f"{place} is in a subdirectory of an archive, which is not supported: lock a release")
    version = str(package.version or _version_of(filename, place))
    pin = Pin(
        str(package.name), version, filename, _place(choice.url, choice.path, source.directory), sha256,
        choice.size, _seconds(choice.upload_time),
    )
    check_fits(pin, target)
    return pin


def _version_of(filename: str, place: str) -> str:
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[1])
        return str(parse_sdist_filename(filename)[1])
    except (InvalidSdistFilename, InvalidWheelFilename):
        raise WheelError(f"{place} has no version, and the file name {filename} tells none") from None


def _place(url: str | None, path: str | None, directory: Path) -> str:
    """The address of a file without user, password and fragment; a path becomes a file URL."""
    if url and urls.parse(url).scheme in ("http", "https", "file"):
        parts = urls.parse(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    if url and "://" in url:
        raise WheelError(f"{urls.redact_url(url)} is not an http, https or file URL")
    return (directory / (path or url or "")).absolute().as_uri()


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def check_fits(pin: Pin, target: Target) -> None:
    """Raise WheelError, naming both sides, unless a wheel fits the target, or an sdist can be built for it."""
    if pin.is_wheel:
        reason = misfit(pin.filename, target)
        if reason:
            raise WheelError(f"{pin.filename} is {reason}, but the image is {target}; {ways_out(target)}")
    elif not builds_here(target):
        raise WheelError(
            f"{pin.name} {pin.version} has no wheel for {target}, and its sdist cannot be compiled for "
            f"{target.platform} on this machine; {ways_out(target)}"
        )


def builds_here(target: Target) -> bool:
    """Whether this machine can run programs of the target, and so build sdists for it."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    return sys.platform == "linux" and machine == target.machine


def ways_out(target: Target) -> str:
    """What a user can do about a wheel that does not exist."""
    return (
        "lock a version that has such a wheel (or build one and add it with find-links), or build the image on "
        f"a {target.platform} machine, where its sdist can be compiled"
    )


def misfit(filename: str, target: Target) -> str:
    """What a wheel is for ("for CPython 3.12", "for aarch64", "for glibc 2.42"), or "" where it fits."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename as error:
        return f"no wheel's name ({error})"
    if not tags.isdisjoint(target.tags()):
        return ""
    known = target.tags()
    if not {(tag.interpreter, tag.abi) for tag in tags} & {(tag.interpreter, tag.abi) for tag in known}:
        return "for " + _some(f"{tag.interpreter}-{tag.abi}" for tag in tags)
    libc = _newest_libc([tag.platform for tag in tags], target)
    if libc:
        return f"for {target.libc[0]} {libc} or newer"
    return "for " + _some(tag.platform for tag in tags)


def _some(words: Any) -> str:
    found = sorted(set(words))
    return ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")


def _newest_libc(platforms: list[str], target: Target) -> str:
    """The oldest C library that a wheel of the right machine and kind asks for; "" if there is none."""
    kind = {"glibc": "manylinux", "musl": "musllinux"}[target.libc[0]]
    pattern = re.compile(rf"{kind}_(\d+)_(\d+)_{re.escape(target.machine)}")
    asked = [(int(found[1]), int(found[2])) for name in platforms if (found := pattern.fullmatch(name))]
    return "{}.{}".format(*min(asked)) if asked else ""


def _explain(text: str, packages: Any, source: Source, target: Target) -> WheelError:
    """What `select` could not do, in the words of an image."""
    found = re.search(r"No wheel found .* at packages\[(\d+)\]", text, re.DOTALL)
    if not found:
        return WheelError(f"{source.name} does not serve {target}: {text}")
    package = packages[int(found[1])]
    reasons = _some(misfit(wheel.filename, target) for wheel in package.wheels or ())
    return WheelError(
        f"{source.name}: {package.name} {package.version} has no wheel for {target}, only ones {reasons}, and "
        f"no sdist; {ways_out(target)}"
    )
