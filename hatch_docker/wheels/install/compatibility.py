"""Checks of a wheel before it is installed: tags, name, version, and the required C library."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from hatch_docker.core.errors import WheelError
from hatch_docker.wheels.install.archive import ZIP_ERRORS, BadWheelError, WheelArchive, wheel_errors
from hatch_docker.wheels.target import Target, incompatibility

PIECE = 1 << 20
# The version of a glibc symbol that compiled code needs, in the string table of an ELF file.
_NEEDED = re.compile(rb"\0GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?=\0)")
_LONGEST = 32  # bytes of the longest match


def check_prebuilt(wheel: Path, target: Target) -> None:
    """Raise WheelError, which names both sides, if a wheel cannot run on the target.

    Tags (PEP 425) and the compiled code are checked, because the tag `linux_x86_64` does not name a C library.
    """
    remedy = "; make it on such a system, or let the builder stage do it: `hatch build -t docker`"
    try:
        check_fits(wheel.name, target)
    except WheelError as error:
        raise WheelError(f"{str(error).partition(';')[0]}{remedy}") from None
    check_library(wheel, wheel.name, target, remedy)


def fitting_wheel(wheels: Sequence[Path], target: Target) -> Path:
    """Return the wheel, of several of one version, that fits a target best. Raise WheelError if none fits.

    A single wheel is not checked.
    """
    if len(wheels) == 1:
        return wheels[0]
    order = {tag: place for place, tag in enumerate(target.tags())}
    places = {
        min(order[tag] for tag in tags): wheel
        for wheel in wheels if (tags := parse_wheel_filename(wheel.name)[3] & order.keys())
    }  # fmt: skip
    if not places:
        reasons = ", ".join(f"{wheel.name} is {incompatibility(wheel.name, target)}" for wheel in wheels)
        raise WheelError(f"no wheel fits {target.description}: {reasons}; choose another base or platform")
    return places[min(places)]


def check_library(wheel: Path, filename: str, target: Target, remedy: str) -> None:
    """Raise WheelError if compiled code of a wheel needs another C library than the target's.

    `filename`: the wheel's file name if `wheel` has another. The message ends with `remedy`.
    """
    if not lacks_libc_tag(filename):
        return  # pure, or built for many systems (manylinux) and checked then
    kind, version = target.libc
    for path, needed in _needs(wheel, filename):
        if kind != "glibc" or needed > tuple(int(part) for part in version.split(".")[:2]):
            needs = ".".join(map(str, needed))
            raise WheelError(f"{path} in {filename} needs glibc {needs}, and the base is {target}{remedy}")


def lacks_libc_tag(filename: str) -> bool:
    """Return whether the tags of a wheel name no C library, such as linux_x86_64."""
    return "-linux_" in filename


def _needs(wheel: Path, filename: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the compiled files of a wheel that need glibc, each with the newest version that it needs."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                with archive.open(info) as stream:
                    rest = stream.read(PIECE)
                    if not rest.startswith(b"\x7fELF"):
                        continue
                    found = set(_NEEDED.findall(rest))
                    while piece := stream.read(PIECE):
                        rest = rest[-_LONGEST:] + piece
                        found.update(_NEEDED.findall(rest))
                if found:
                    yield info.filename, max((int(major), int(minor)) for major, minor in found)
    except ZIP_ERRORS as error:
        raise WheelError(f"cannot read the wheel {filename}: {error}") from error


def check_fits(filename: str, target: Target) -> None:
    """Raise WheelError, which names both sides, if the target has none of a wheel's tags (PEP 425)."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename as error:
        raise WheelError(f"{filename} is not the name of a wheel: {error}") from None
    if tags.isdisjoint(target.tags()):
        raise WheelError(
            f"wheel {filename} does not fit {target.description}; "
            "choose another version or base, or let the builder make the wheel"
        )


def check_built(filename: str, sdist: str, target: Target) -> None:
    """Raise WheelError if a built wheel does not fit the target, or has another package or version than its sdist."""
    check_fits(filename, target)
    if tree := re.fullmatch(r"(?:(.+)\.)?source\.(?:tar\.gz|zip)", sdist):  # see target.TREE_SUFFIX
        if tree[1] and canonicalize_name(tree[1]) != parse_wheel_filename(filename)[0]:
            raise WheelError(f"the source of {tree[1]} gave {filename}: correct the name of the dependency")
        return
    try:
        expected = parse_sdist_filename(sdist)
    except InvalidSdistFilename as error:
        raise WheelError(f"{sdist} is not the name of an sdist: {error}") from None
    if parse_wheel_filename(filename)[:2] != expected:
        raise WheelError(f"building {sdist} gave {filename}, another package or version; report it to its authors")


def check_identity(wheel: WheelArchive) -> None:
    """Raise WheelError if file name, .dist-info directory and METADATA name different packages or versions."""
    with wheel_errors(wheel.filename):
        try:
            identity = parse_wheel_filename(wheel.filename)[:2]
        except InvalidWheelFilename:
            raise BadWheelError("its name is not that of a wheel") from None
        name, _, version = wheel.dist_info.removesuffix(".dist-info").rpartition("-")
        if not _is_of(identity, name, version):
            raise BadWheelError(f"its metadata is that of another package ({wheel.dist_info})")
        metadata = wheel.headers("METADATA")
        name, version = str(metadata["Name"]), str(metadata["Version"])
        if not _is_of(identity, name, version):
            raise BadWheelError(f"its METADATA is that of {name} {version}")


def _is_of(identity: tuple[str, Version], name: str, version: str) -> bool:
    try:
        return (canonicalize_name(name), Version(version)) == identity
    except ValueError:  # InvalidVersion, or a number with 5000 digits
        return False
