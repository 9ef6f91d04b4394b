"""Deterministic compression of layers, and decompression with size limits."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import PartReader, RawReader, Readable

LAYER_LIMIT = 4 << 30  # largest uncompressed layer in bytes
RATIO_LIMIT = 200      # largest ratio of uncompressed to compressed size, checked after RATIO_GRACE bytes
RATIO_GRACE = 64 << 20
XZ_MEMORY = 128 << 20  # bytes of memory to decompress xz; data of `xz -9` needs 65 MiB
XZ_PIECE = 1 << 18     # bytes

_LEVELS = {"gzip": (6, 1, 9), "zstd": (3, 1, 19), "none": (0, 0, 0)}  # default, lowest, highest

# Method deflate, no flags, no time, OS unknown. The library's own header differs between its versions.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Compressor(Protocol):
    """A compressor: `compress` takes data and returns finished output, `flush` returns the rest of the stream."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """A compression algorithm, "gzip" (zlib-ng), "zstd" or "none", and its level; -1 is the default level.

    Raises ImageError for another name, or a level out of range.
    """

    name: str = "gzip"
    level: int = -1

    def __post_init__(self) -> None:
        if self.name not in _LEVELS:
            raise ImageError(f"compression {self.name!r} is not one of gzip, zstd, none")
        default, lowest, highest = _LEVELS[self.name]
        if self.level == -1:
            object.__setattr__(self, "level", default)
        if not lowest <= self.level <= highest:
            raise ImageError(f"compression level {self.level} is not between {lowest} and {highest}")

    @property
    def identity(self) -> str:
        """Algorithm, version of the library and level, for cache keys: together they determine the compressed bytes.

        Raises ImageError for zstd if no zstd library is installed.
        """
        if self.name == "gzip":
            from zlib_ng import zlib_ng

            return f"gzip:zlib-ng-{zlib_ng.ZLIBNG_RUNTIME_VERSION}:{self.level}"
        if self.name == "zstd":
            return f"zstd:{_zstd().zstd_version}:{self.level}"
        return "none"

    def compressor(self) -> Compressor:
        """Return a new compressor. Its input must come in pieces of CHUNK bytes: their size can change the output."""
        if self.name == "gzip":
            return _Gzip(self.level)
        compressor: Compressor = _zstd().ZstdCompressor(level=self.level) if self.name == "zstd" else _NoCompression()
        return compressor


class _Gzip:
    """A gzip compressor (RFC 1952) with zlib-ng: three times as fast as zlib, with the same bytes on every CPU."""

    def __init__(self, level: int) -> None:
        from zlib_ng import zlib_ng

        self._deflate = zlib_ng.compressobj(level, zlib_ng.DEFLATED, -15, 8)
        self._crc32: Callable[[bytes, int], int] = zlib_ng.crc32
        self._crc = 0
        self._size = 0
        self._header = _GZIP_HEADER

    def compress(self, data: bytes, /) -> bytes:
        self._crc = self._crc32(data, self._crc)
        self._size += len(data)
        header, self._header = self._header, b""
        out: bytes = self._deflate.compress(data)
        return header + out

    def flush(self) -> bytes:
        tail: bytes = self._deflate.flush()
        trailer = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._header + tail + trailer


class _NoCompression:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _zstd() -> Any:
    """Return the zstd module of Python 3.14, or its backport."""
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ImageError(
                "zstd needs Python 3.14 or the package backports.zstd: install hatch-docker[zstd]"
            ) from None
    return zstd


class Decompressed:
    """The decompressed data of a stream: gzip, zstd or not compressed, detected by its first bytes.

    The media type is ignored, because some images declare zstd layers as gzip; container runtimes ignore it too.
    `compression`: "gzip", "zstd", "none", or "xz" for Debian packages, to skip the detection. Raises ImageError for
    damaged data, for more than `limit` bytes, and for more than `ratio` times the compressed size.
    """

    def __init__(
        self, stream: Readable, limit: int = LAYER_LIMIT, *, ratio: int = RATIO_LIMIT, compression: str = ""
    ) -> None:
        self._source = PartReader(stream)
        self._limit = limit
        self._ratio = ratio
        self.size = 0
        self.compression = compression or _compression_of(self._source.peek(4))
        self._inner, self._errors = _open_decompressed(self._source, self.compression)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        try:
            data: bytes = self._inner.read(size)
        except self._errors as error:
            raise ImageError(f"its {self.compression} data are damaged: {error}") from error
        self.size += len(data)
        if self.size > self._limit:
            raise ImageError(f"it unpacks to more than {self._limit} bytes")
        if self.size > RATIO_GRACE and self.size > self._ratio * self._source.size:
            raise ImageError(f"it unpacks to more than {self._ratio} times its size: refused as a bomb")
        return data


def _compression_of(magic: bytes) -> str:
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    skippable = magic[:1] >= b"\x50" and magic[1:] == b"\x2a\x4d\x18"
    return "zstd" if magic == b"\x28\xb5\x2f\xfd" or skippable else "none"


def _open_decompressed(source: PartReader, compression: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return the decompressed stream, and the classes of exceptions that it raises for damaged data."""
    if compression == "gzip":
        from zlib_ng import gzip_ng, zlib_ng

        open_gzip: Any = gzip_ng.GzipNGFile  # reads all gzip members of the stream
        errors = (EOFError, cast("type[Exception]", zlib_ng.error), gzip_ng.BadGzipFile)
        return open_gzip(fileobj=source, mode="rb"), errors
    if compression == "zstd":
        zstd = _zstd()
        return zstd.ZstdFile(source), (EOFError, zstd.ZstdError)
    if compression == "xz":
        from lzma import LZMAError

        return io.BufferedReader(_Xz(source), XZ_PIECE), (EOFError, LZMAError)
    return source, ()


class _Xz(RawReader):
    """A decompressed xz stream with a memory limit: `lzma.LZMAFile` allocates as much memory as the header requires."""

    def __init__(self, source: PartReader) -> None:
        self._source = source
        self._start()

    def _start(self) -> None:
        import lzma

        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def readinto(self, buffer: Any, /) -> int:
        while True:
            piece = b""
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0")  # padding
                while not rest and (piece := self._source.read(XZ_PIECE) or b""):
                    rest = piece.lstrip(b"\0")
                if not rest:
                    return 0
                piece = rest
                self._start()  # one stream may follow another
            elif self._decompressor.needs_input:
                piece = self._source.read(XZ_PIECE) or b""
                if not piece:
                    raise EOFError("the file is cut short")
            if data := self._decompressor.decompress(piece, len(buffer)):
                buffer[: len(data)] = data
                return len(data)
