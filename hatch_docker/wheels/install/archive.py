"""A wheel as an archive. The whole archive is checked before a file is installed (PEP 427; zip files, APPNOTE 6.3).

Standard library only, for Python 3.9: a stage of the Dockerfile runs this file too (`engines.buildkit.stage_install`).
pip and uv do not compare files with RECORD. Here a file that differs from RECORD never gets into a layer, unless the
wheel's own hash was verified and its RECORD is repaired.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.oci.paths import safe_path

if TYPE_CHECKING:
    from email.message import Message

LIMIT = 16 << 30              # maximum unpacked size in bytes; GPU libraries have several GB
METADATA_LIMIT = 16 << 20     # bytes of METADATA and similar files, which are read into memory
RECORD_LIMIT = DIRECTORY_LIMIT = 32 << 20  # bytes of RECORD, and of an archive's central directory
MEMBERS = 200_000             # files of a wheel, the same limit as for sdists; torch has 15 000
RATIO, GRACE = 200, 64 << 20  # a wheel larger than GRACE may unpack to RATIO times its own size
SHOWN = 500                   # characters of a message that quotes a wheel
CHUNK = 1 << 16
EPOCH = (1980, 1, 1, 0, 0, 0)  # one object for all files of an archive; the time is not used
# Exceptions of zipfile for archives that are damaged, encrypted or have an unknown compression.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
)
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
# Files that an installer writes: those in a wheel describe another installation.
_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", *_SIGNATURES})


class BadWheelError(Exception):
    """A fault of a wheel; `wheel_errors` converts it to a WheelError."""


class BadRecordError(BadWheelError):
    """A fault of a wheel's RECORD, which does not match its files."""


class RecordError(WheelError):
    """A wheel whose RECORD does not match its files. It is installed only with a repaired RECORD."""


def wheel_error(filename: str, reason: str, *, record: bool = False) -> WheelError:
    """Return the error for a wheel that cannot be installed; a RecordError with `record`.

    `reason` may contain any characters from the wheel.
    """
    short = reason if len(reason) <= SHOWN else f"{reason[:SHOWN]}..."
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
    line = f"wheel {filename} cannot be installed: {printable}; pin another version, or report it to its authors"
    return RecordError(line) if record else WheelError(line)


@contextlib.contextmanager
def wheel_errors(filename: str) -> Iterator[None]:
    """Convert all errors of reading a wheel to a WheelError that names the wheel."""
    try:
        yield
    except (BadWheelError, ImageError, csv.Error) as error:
        raise wheel_error(filename, str(error), record=isinstance(error, BadRecordError)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, UnicodeDecodeError) as error:
        raise wheel_error(filename, f"the archive is damaged ({error})") from error


def record_hash(digest: Any) -> str:
    """Return a hashlib hash in the form of RECORD: algorithm, "=", URL-safe base64 without padding (PEP 376)."""
    return f"{digest.name}={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


def record_rows(data: bytes) -> Iterator[list[str]]:
    """Return the rows of a RECORD (PEP 376) without a decoded copy: io.StringIO needs four bytes for each character."""
    return csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""))


class PieceReader(io.RawIOBase):
    """A stream of the bytes that an iterator yields."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        """Return True: the stream is readable."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and return the number of bytes, 0 at the end."""
        self._rest = self._rest or next(filter(None, self._pieces), b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class Member:
    """A file of a wheel, `hash` as in RECORD; calling it opens it. Small, because a wheel may have 100 000 files."""

    __slots__ = ("_archive", "_info", "_wheel", "hash")

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, recorded: str, wheel: str) -> None:
        self._archive = archive
        self._info = info
        self._wheel = wheel
        self.hash = recorded

    @property
    def name(self) -> str:
        """The name in the archive."""
        return self._info.orig_filename

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._info.file_size

    @property
    def executable(self) -> bool:
        """True if the file has an executable bit."""
        return bool(self._info.external_attr >> 16 & 0o111)

    def start(self, count: int) -> bytes:
        """Return the first `count` bytes, without verification."""
        with self._archive.open(self._info) as stream:
            return stream.read(count)

    def read(self) -> bytes:
        """Return the contents. Raise WheelError if the hash in RECORD differs."""
        return b"".join(self.pieces())

    def __call__(self) -> BinaryIO:
        """Open a stream of the contents. Its last `read` raises WheelError if the hash in RECORD differs."""
        return cast("BinaryIO", PieceReader(self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """Yield the contents in pieces. Raise WheelError at the end if the hash in RECORD differs."""
        digest = hashlib.new(self.hash.partition("=")[0])
        try:
            with self._archive.open(self._info) as stream:
                while data := stream.read(CHUNK):
                    digest.update(data)
                    yield data
        except ZIP_ERRORS as error:
            raise wheel_error(self._wheel, f"the archive is damaged ({error})") from error
        if record_hash(digest) != self.hash:
            raise wheel_error(self._wheel, f"{self.name} differs from what RECORD says", record=True)


class WheelArchive:
    """A wheel whose names and RECORD were checked. `filename`: the wheel's file name if `path` has another.

    With `repair` all files are compared with RECORD at once, RECORD is corrected, and `faults` lists the errors.
    Without `repair` errors raise RecordError, those of contents when a file is read.
    """

    def __init__(self, path: Path, filename: str, *, repair: bool = False) -> None:
        try:
            self._archive = open_archive(path)  # stays open: files are read later
        except ZIP_ERRORS as error:
            raise wheel_error(filename, f"it is no zip file that can be read ({error})") from error
        self.filename = filename
        self.faults: list[str] = []
        self._repair = repair
        with wheel_errors(filename):
            self._infos = _read_infos(self._archive, path.stat().st_size)
            tops = {top for top, slash, _ in (name.partition("/") for name in self._infos) if slash}
            found = [name for name in sorted(tops) if name.endswith(".dist-info")]
            if len(found) != 1:
                raise BadWheelError(f"it has {len(found)} .dist-info directories, not one")
            self.dist_info = found[0]
            self._hashes = self._read_record()

    @property
    def names(self) -> list[str]:
        """All files except RECORD and its signatures, sorted."""
        return list(self._hashes)

    def member(self, name: str) -> Member:
        """Return one of `names`."""
        return Member(self._archive, self._infos[name], self._hashes[name], self.filename)

    def members(self) -> Iterator[Member]:
        """Yield the files that are installed, by name: no .pyc files and no files that an installer writes."""
        for name in self._hashes:
            parts = name.split("/")
            if "__pycache__" not in parts and not (parts[0] == self.dist_info and parts[-1] in _INSTALLERS):
                yield self.member(name)

    def has_metadata(self, name: str) -> bool:
        """Return whether the .dist-info directory contains the file `name`."""
        return f"{self.dist_info}/{name}" in self._infos

    def read_metadata(self, name: str) -> str:
        """Return the text of a file in the .dist-info directory. Raise BadWheelError if it cannot be read."""
        info = self._infos.get(f"{self.dist_info}/{name}")
        if info is None:
            raise BadWheelError(f"it has no {self.dist_info}/{name}")
        if info.file_size > (RECORD_LIMIT if name == "RECORD" else METADATA_LIMIT):
            raise BadWheelError(f"{info.filename} has {info.file_size} bytes")
        try:
            return self._archive.read(info).decode()
        except UnicodeDecodeError as error:
            raise BadWheelError(f"{info.filename} is not UTF-8 ({error.reason})") from None

    def headers(self, name: str) -> Message:
        """Return the headers of METADATA or WHEEL. Raise BadWheelError if the file cannot be read."""
        from email.parser import Parser

        return Parser().parsestr(self.read_metadata(name).partition("\n\n")[0], headersonly=True)

    def _read_record(self) -> dict[str, str]:
        """Return the hashes of RECORD by path. Raise BadRecordError if a file has no hash or a weak one."""
        rows: dict[str, tuple[str, str]] = {}
        for row in record_rows(self.read_metadata("RECORD").encode()):
            if len(rows) > MEMBERS:
                raise BadWheelError(f"RECORD names more than {MEMBERS} files")
            if len(row) != 3:
                self._note(f"a line of RECORD has {len(row)} fields, not three")
                continue
            path = posixpath.normpath(row[0].replace("\\", "/"))  # some wheels have "./module.py"
            if rows.setdefault(path, (row[1], row[2]))[0] != row[1]:
                self._note(f"RECORD names {path} twice")
        hashes: dict[str, str] = {}
        unnamed = [f"{self.dist_info}/{name}" for name in ("RECORD", *_SIGNATURES)]
        for path, info in self._infos.items():
            if path in unnamed:
                continue
            text, size = rows.pop(path, ("", ""))
            algorithm = text.partition("=")[0]
            recorded = text.rstrip("=")
            if not text:
                self._note(f"RECORD has no hash of {path}")
            elif algorithm not in _HASHES:
                self._note(f"RECORD has a weak hash of {path} ({algorithm})")
            elif size and size.strip() != str(info.file_size):
                self._note(f"{path} differs from what RECORD says: {info.file_size} bytes")
            elif self._repair and recorded != self._hash(info, algorithm):
                self._note(f"{path} differs from what RECORD says")
            else:
                hashes[path] = recorded
                continue
            hashes[path] = self._hash(info, "sha256")
        return hashes

    def _note(self, fault: str) -> None:
        if not self._repair:
            raise BadRecordError(fault)
        self.faults.append(fault)

    def _hash(self, info: zipfile.ZipInfo, algorithm: str) -> str:
        """Return the hash of a file in the form of RECORD."""
        digest = hashlib.new(algorithm)
        with self._archive.open(info) as stream:
            while data := stream.read(CHUNK):
                digest.update(data)
        return record_hash(digest)


class _ArchiveFile(io.BufferedReader):
    """The file of an archive. It is closed with its last user, like files that zipfile opens itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"its directory has more than {DIRECTORY_LIMIT} bytes")
        data = super().read(size)
        if data.count(b"PK\1\2") > MEMBERS:  # zipfile needs 500 bytes of memory for each
            raise zipfile.BadZipFile(f"it holds more than {MEMBERS} files")
        return data

    def __del__(self) -> None:
        self.close()


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file for reading. The central directory has a size limit, unlike in zipfile. Raise ZIP_ERRORS."""
    return zipfile.ZipFile(cast("IO[bytes]", _ArchiveFile(path)))


def _has_another_path(info: zipfile.ZipInfo) -> bool:
    """Return whether an extra field has another path (APPNOTE 4.6.9), which newer versions of zipfile use."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 0x7075 and extra[9 : 4 + length] != info.orig_filename.encode():
            return True
        extra = extra[4 + length :]
    return False


def _read_infos(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive of `size` bytes by their safe paths, sorted. Raise BadWheelError, ImageError."""
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename  # zipfile truncates `filename` at a NUL
        path = safe_path(name, backslash=False)
        mode = info.external_attr >> 16
        if name.endswith("/"):
            continue
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise BadWheelError(f"{name} is a link or a special file")
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise BadWheelError(f"{name} is setuid or setgid")
        if info.flag_bits & 0x61 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadWheelError(f"{name} is encrypted, or compressed in a way that wheels are not")
        if path in infos:
            raise BadWheelError(f"{path} is in it twice")
        if _has_another_path(info):
            raise BadWheelError(f"{path} has another name in an extra field")
        infos[name if name == path else path] = info
        info.date_time = EPOCH
    archive.NameToInfo.clear()  # files are not opened by name
    total = sum(info.file_size for info in infos.values())
    if total > LIMIT or total > max(GRACE, RATIO * size):
        largest = max(infos, key=lambda path: infos[path].file_size)
        raise BadWheelError(
            f"it unpacks to {total} bytes from {size}, as a bomb does, {infos[largest].file_size} of them {largest}; "
            "let the program make what is that empty"
        )
    return dict(sorted(infos.items()))
