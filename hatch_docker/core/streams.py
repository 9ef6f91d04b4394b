"""Wrappers of binary streams: hash, count, or limit the bytes; and functions to read and copy streams."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, Self

CHUNK = 1 << 16
COPIED = 1 << 20  # bytes copied at a time


class Readable(Protocol):
    """Any object to read bytes from; `read` returns b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """Any object to write bytes to: a file, a HashingStream."""

    def write(self, data: bytes, /) -> object: ...


def pieces(stream: Readable, size: int = CHUNK) -> Iterator[bytes]:
    """Return an iterator of the rest of a stream, in pieces of at most `size` bytes."""
    return iter(functools.partial(stream.read, size), b"")


def drain(stream: Readable) -> None:
    """Read a stream to its end and discard the data, for the checks that happen at the end."""
    while stream.read(CHUNK):
        pass


def copy_file(source: BinaryIO, out: Writable) -> None:
    """Copy a file from its start to the position of `out`, with copy_file_range(2) between two files on disk.

    `out` may be a CountingStream. Raises OSError.
    """
    advance: Callable[[int], object] = int
    target: Any = out
    if isinstance(out, CountingStream):
        advance, target = out.advance, out.stream
    copied = 0
    try:
        size = os.fstat(source.fileno()).st_size
        target.flush()
        while copied < size and (count := os.copy_file_range(source.fileno(), target.fileno(), COPIED, copied)):
            copied += count
            advance(count)
    except (AttributeError, OSError):  # a socket, a pipe, or a file system without copy_file_range
        pass
    source.seek(copied)
    shutil.copyfileobj(source, out, COPIED)


def read_fully(stream: Readable, size: int) -> bytes:
    """Return the next `size` bytes, fewer only at the end of the stream."""
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


class HashingStream:
    """A stream for reading or writing that hashes and counts the bytes: `digest`, `size`."""

    def __init__(self, stream: Any, algorithm: str = "sha256") -> None:
        self.stream = stream
        self.hash = hashlib.new(algorithm)
        self.size = 0

    @property
    def digest(self) -> str:
        """Digest of the bytes so far, as "sha256:<hex>"."""
        return f"{self.hash.name}:{self.hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all remaining bytes if `size` is negative."""
        data: bytes = self.stream.read(size)
        self.hash.update(data)
        self.size += len(data)
        return data

    def write(self, data: bytes, /) -> int:
        """Write all of `data` and return its length."""
        self.hash.update(data)
        self.size += len(data)
        self.stream.write(data)
        return len(data)

    def close(self) -> None:
        """Close the wrapped stream."""
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class CountingStream:
    """A stream for reading or writing that passes the number of bytes of each call to `advance`."""

    def __init__(self, stream: Any, advance: Callable[[int], object]) -> None:
        self.stream = stream
        self.advance = advance

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all remaining bytes if `size` is negative."""
        data: bytes = self.stream.read(size)
        self.advance(len(data))
        return data

    def write(self, data: bytes, /) -> int:
        """Write `data` and return the number of bytes written."""
        count: int = self.stream.write(data)
        self.advance(count)
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stream.close()


class RawReader(io.RawIOBase):
    """Base class of readable streams; a subclass defines `readinto`."""

    def readable(self) -> bool:
        """Return True."""
        return True


class PartReader(RawReader):
    """The next `limit` bytes of a stream as a file; `size` is the number of bytes read so far.

    `close` closes the wrapped stream if `owned` is True.
    """

    def __init__(self, stream: Readable, limit: int = sys.maxsize, *, owned: bool = False) -> None:
        self._stream = stream
        self._limit = limit
        self._owned = owned
        self._ahead = b""
        self.size = 0

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without consuming them, fewer at the end. Call it before the first read only."""
        self._ahead = read_fully(self._stream, min(size, self._limit))
        return self._ahead

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return the number of bytes, 0 at the end."""
        wanted = min(len(buffer), self._limit - self.size)
        data = self._ahead[:wanted] or self._stream.read(wanted)
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        self.size += len(data)
        return len(data)

    def close(self) -> None:
        """Close this stream, and the wrapped stream if it is owned."""
        if self._owned:
            self._stream.close()  # type: ignore[attr-defined]
        super().close()
