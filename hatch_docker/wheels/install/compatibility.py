"""A wheel that was made outside of the builder stage, by the user's own tools: does it run on the base?"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.core.errors import WheelError
from hatch_docker.wheels.target import Target

PIECE = 1 << 20
# What zipfile raises for archives that are damaged, encrypted or packed in a way that it does not know.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
)
# The version of a symbol that compiled code takes from glibc, as in the string table of an ELF file.
_NEEDED = re.compile(rb"\0GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?=\0)")
_LONGEST = 32  # bytes of such a string


def check_given(wheel: Path, target: Target) -> None:
    """Raise WheelError, naming both sides, where a wheel cannot run on the target.

    Beyond its tags (PEP 425) its compiled code is asked what it needs: `linux_x86_64` says nothing of the C library.
    """
    from hatch_docker.wheels.install.venv import check_fits

    way_out = "; make it on such a system, or let the builder stage do it: `hatch build -t docker`"
    try:
        check_fits(wheel.name, target)
    except WheelError as error:
        raise WheelError(f"{str(error).partition(';')[0]}{way_out}") from None
    if "-linux_" not in wheel.name:
        return  # pure, or made for many systems and checked by whoever did
    kind, version = target.libc
    for path, needed in _needs(wheel):
        if kind != "glibc" or needed > tuple(int(part) for part in version.split(".")[:2]):
            needs = ".".join(map(str, needed))
            raise WheelError(f"{path} in {wheel.name} needs glibc {needs}, and the base is {target}{way_out}")


def _needs(wheel: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The newest version of glibc that each compiled file asks for."""
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
        raise WheelError(f"cannot read the wheel {wheel.name}: {error}") from error
