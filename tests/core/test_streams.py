"""Wrappers of streams: counted, hashed and limited streams, and copies."""

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from hatch_docker.core.streams import CountingStream, HashingStream, PartReader, copy_file, pieces, read_fully


class Slow(io.BytesIO):
    """A stream that returns one byte at a time, like a pipe may do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 if size else 0)


def test_counting_stream_counts_reads_and_writes() -> None:
    """Closing it closes the wrapped stream."""
    counts: list[int] = []
    below = io.BytesIO(b"abcdef")
    with CountingStream(below, counts.append) as stream:
        assert stream.read(4) == b"abcd"
        assert stream.write(b"xyz") == 3
    assert counts == [4, 3]
    assert below.closed


def test_hashing_stream_hashes_reads_and_writes() -> None:
    reader, out = HashingStream(io.BytesIO(b"abcdef")), io.BytesIO()
    writer = HashingStream(out)
    for piece in pieces(reader, 4):
        writer.write(piece)
    assert out.getvalue() == b"abcdef"
    assert (reader.size, reader.digest) == (writer.size, writer.digest)
    assert (reader.size, reader.digest) == (6, "sha256:" + hashlib.sha256(b"abcdef").hexdigest())


def test_part_reader_ends_at_its_limit(tmp_path: Path) -> None:
    """Also after `peek`. It closes the file only if it owns it."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    for owned in (False, True):
        file = path.open("rb")
        file.seek(2)
        part = PartReader(file, 5, owned=owned)
        assert part.peek(4) == b"2345"
        with io.BufferedReader(part) as stream:
            assert stream.read() == b"23456"
        assert (part.size, file.closed) == (5, owned)
        file.close()


@pytest.mark.parametrize("below", [io.BytesIO, tempfile.TemporaryFile])
def test_copy_file_between_other_writes(below: Callable[[], BinaryIO], tmp_path: Path) -> None:
    """With copy_file_range between two files. Bytes before and after are at their places, and all bytes are counted."""
    path, counts = tmp_path / "file", [0]
    path.write_bytes(bytes(3 << 20) + b"end")
    with below() as out:
        sink = CountingStream(out, counts.append)
        for number in range(2):
            sink.write(b"head")
            with path.open("rb") as source:
                copy_file(source, sink)
            sink.write(b"tail%d" % number)
        out.seek(0)
        assert out.read() == b"".join(b"head" + path.read_bytes() + b"tail%d" % number for number in range(2))
    assert sum(counts) == 2 * (path.stat().st_size + 9)


def test_read_fully_from_a_slow_stream() -> None:
    assert read_fully(Slow(b"abcdef"), 4) == b"abcd"
    assert read_fully(Slow(b"ab"), 4) == b"ab"
    assert PartReader(Slow(b"abcdef")).peek(4) == b"abcd"
