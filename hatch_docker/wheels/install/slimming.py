"""A file of a wheel without its symbols, as an entry of a layer reads it: nothing of it is held in memory."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self, cast

from installer.records import Hash

from hatch_docker.wheels.install.archive import Member, encoded
from hatch_docker.wheels.install.strip import MAGIC, Piece, length, strip_parts, strip_plan

AT_HAND = 8 << 20  # bytes of a file from which a disk holds it while it is looked at


@dataclass(frozen=True, slots=True)
class Stripped:
    """What takes the place of a member; `size` in bytes, `hash` for RECORD."""

    member: Member
    pieces: list[Piece]
    size: int
    hash: Hash

    def open(self) -> BinaryIO:
        """A stream of it; its last `read` raises WheelError where the member differs from what RECORD says."""
        stream = self.member.open()
        return cast("BinaryIO", _Parts(stream, strip_parts(stream, self.pieces)))


def stripped(member: Member) -> Stripped | None:
    """A program or library without its symbols; None for all else, and for those that have none."""
    if member.start(len(MAGIC)) != MAGIC:
        return None
    with tempfile.SpooledTemporaryFile(AT_HAND) as file:
        with member.open() as stream:
            shutil.copyfileobj(stream, file)
        file.seek(0)
        pieces = strip_plan(file, member.size)
        if not pieces:
            return None
        file.seek(0)
        digest = hashlib.sha256()
        for part in strip_parts(file, pieces):
            digest.update(part)
    return Stripped(member, pieces, length(pieces), Hash("sha256", encoded(digest.digest())))


class _Parts:
    def __init__(self, stream: BinaryIO, parts: Iterator[bytes]) -> None:
        self._stream = stream
        self._parts = parts
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            found, self._rest = self._rest + b"".join(self._parts), b""
            return found
        while len(self._rest) < size and (part := next(self._parts, None)) is not None:
            self._rest += part
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def close(self) -> None:
        self._stream.close()
