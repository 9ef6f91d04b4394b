"""A wheel, seen as a zip file from a stranger: judged whole before installer takes anything from it.

pip and uv read RECORD without comparing it, and installer hands an archive's names on as they are: what a wheel
may be called, hold and unpack to is decided here (PEP 427; zip files, APPNOTE 6.3).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import posixpath
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from installer.records import Hash, RecordEntry, parse_record_file
from installer.sources import WheelContentElement, WheelSource
from installer.utils import parse_entrypoints, parse_metadata_file
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hatch_docker.core.errors import WheelError
from hatch_docker.core.streams import HashingReader
from hatch_docker.oci.paths import safe_path
from hatch_docker.wheels.install.compatibility import ZIP_ERRORS
from hatch_docker.wheels.install.slim import LOOKED_AT, Rules, choose, count

LIMIT = 16 << 30              # bytes that a wheel may unpack to; those of GPU libraries reach some
METADATA_LIMIT = 16 << 20     # bytes of RECORD and the like, which are held in memory
DIRECTORY_LIMIT = 8 << 20     # bytes of an archive's own directory; torch's 15 000 files take 2 MB
MEMBERS = 100_000             # files of a wheel
RATIO, GRACE = 200, 64 << 20  # times its own size, once past so many bytes
SHOWN = 500                   # characters of what is told of a stranger's wheel
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
# What an installer writes itself: a wheel that brings it would speak for another installation.
_NOT_OURS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", *_SIGNATURES})


class BadWheelError(Exception):
    """What is wrong with a wheel; `refusal` adds which one."""


def refusal(filename: str, why: str) -> WheelError:
    """The error for a wheel that is not installed; names in `why` come from the wheel and may hold anything."""
    short = why if len(why) <= SHOWN else f"{why[:SHOWN]}..."
    told = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
    return WheelError(f"wheel {filename} cannot be installed: {told}; pin another version, or tell its makers")


class Member:
    """A file of the archive, with what RECORD promises of it."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, promise: Hash, wheel: str) -> None:
        self._archive = archive
        self._info = info
        self._wheel = wheel
        self.name = info.filename
        self.hash = promise
        self.size = info.file_size

    def start(self, count: int) -> bytes:
        """The first bytes, unchecked."""
        with self._archive.open(self._info) as stream:
            return stream.read(count)

    def read(self) -> bytes:
        """The contents; raises BadWheelError where they are not what RECORD promises."""
        with self._archive.open(self._info) as stream:
            data = stream.read()
        if text_hash(self.hash.name, data) != self.hash.value:
            raise BadWheelError(f"{self._info.filename} differs from what RECORD says")
        return data

    def open(self) -> BinaryIO:
        """A stream of the contents whose last `read` raises WheelError where RECORD says otherwise."""
        try:
            stream = self._archive.open(self._info)
        except ZIP_ERRORS as error:
            raise refusal(self._wheel, f"the archive is damaged ({error})") from error
        return cast("BinaryIO", _Checked(stream, self.hash, self._wheel))


class _Checked(HashingReader):
    """A member's contents, compared at their end with what RECORD promises."""

    def __init__(self, stream: IO[bytes], promise: Hash, wheel: str) -> None:
        super().__init__(stream, promise.name)
        self._promise = promise
        self._wheel = wheel

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = super().read(size)
        except ZIP_ERRORS as error:
            raise refusal(self._wheel, f"the archive is damaged ({error})") from error
        if (size < 0 or (size and not data)) and encoded(self.hash.digest()) != self._promise.value:
            name = getattr(self.stream, "name", "a file")
            raise refusal(self._wheel, f"{name} differs from what RECORD says")
        return data


def text_hash(algorithm: str, data: bytes) -> str:
    """The hash of some bytes as RECORD writes it (PEP 376)."""
    return encoded(hashlib.new(algorithm, data).digest())


def encoded(digest: bytes) -> str:
    """A digest as RECORD writes it: URL-safe base64 without padding (PEP 376)."""
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class Source(WheelSource):
    """A wheel as installer reads it, judged before anything is taken from it."""

    def __init__(self, archive: zipfile.ZipFile, filename: str, size: int) -> None:
        try:
            name, version, _, _ = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            raise BadWheelError("its name is not that of a wheel") from None
        super().__init__(name, str(version))
        self._archive = archive
        self._filename = filename
        self._members = _members(archive, size)
        self._directory = _dist_info(self._members, name, version)
        self._check_metadata(name, version)
        self._check_scripts()
        self._promises = self._read_record()
        self._left_out: set[str] = set()

    def leave_out(self, rules: Rules) -> dict[str, list[int]]:
        """Leave out of the contents what some rules say; how many files and bytes of each kind that is."""
        tally: dict[str, list[int]] = {}
        for path, kind in choose(self._promises, lambda path: self._member(path).start(LOOKED_AT), rules).items():
            self._left_out.add(path)
            count(tally, kind, self._members[path].file_size)
        return tally

    def _member(self, path: str) -> Member:
        return Member(self._archive, self._members[path], self._promises[path], self._filename)

    @property
    def dist_info_dir(self) -> str:
        return self._directory

    @property
    def data_dir(self) -> str:
        return self._directory.removesuffix(".dist-info") + ".data"

    @property
    def dist_info_filenames(self) -> list[str]:
        start = self._directory + "/"
        return [path.removeprefix(start) for path in self._members if path.startswith(start)]

    def read_dist_info(self, filename: str) -> str:
        info = self._members.get(f"{self._directory}/{filename}")
        if info is None:
            raise BadWheelError(f"it has no {self._directory}/{filename}")
        if info.file_size > METADATA_LIMIT:
            raise BadWheelError(f"{info.filename} has {info.file_size} bytes")
        try:
            return self._archive.read(info).decode()
        except UnicodeDecodeError as error:
            raise BadWheelError(f"{info.filename} is not UTF-8 ({error.reason})") from None

    def get_contents(self) -> Iterator[WheelContentElement]:
        for path, promise in self._promises.items():
            parts = path.split("/")
            if parts[0] == self._directory and parts[-1] in _NOT_OURS:
                continue
            if "__pycache__" in parts or path in self._left_out:  # the sources are compiled here
                continue
            executable = bool(self._members[path].external_attr >> 16 & 0o111)
            yield (path, str(promise), ""), cast("BinaryIO", self._member(path)), executable

    def _check_metadata(self, name: str, version: Version) -> None:
        metadata = parse_metadata_file(self.read_dist_info("METADATA").partition("\n\n")[0])
        with contextlib.suppress(ValueError):  # InvalidVersion is one, and so are numbers of 5000 digits
            found = canonicalize_name(str(metadata["Name"])), Version(str(metadata["Version"]))
            if found == (name, version):
                return
        raise BadWheelError(f"its METADATA is that of {metadata['Name']} {metadata['Version']}")

    def _check_scripts(self) -> None:
        import configparser

        if "entry_points.txt" in self.dist_info_filenames:
            try:
                list(parse_entrypoints(self.read_dist_info("entry_points.txt")))
            except (configparser.Error, AssertionError) as error:
                raise BadWheelError(f"its entry_points.txt cannot be read ({error})") from None

    def _read_record(self) -> dict[str, Hash]:
        """What RECORD promises of each file but itself, after seeing that it speaks of every file."""
        rows: dict[str, RecordEntry] = {}
        for row in parse_record_file(io.StringIO(self.read_dist_info("RECORD"), newline="")):
            if len(rows) > MEMBERS:
                raise BadWheelError(f"RECORD names more than {MEMBERS} files")
            entry = RecordEntry.from_elements(*row)
            path = posixpath.normpath(entry.path)  # some write "./module.py"
            if rows.setdefault(path, entry) != entry and rows[path].hash_ != entry.hash_:
                raise BadWheelError(f"RECORD names {path} twice")
        own = f"{self._directory}/RECORD"
        signatures = [f"{self._directory}/{name}" for name in _SIGNATURES]
        promises: dict[str, Hash] = {}
        for path, info in self._members.items():
            if path == own or path in signatures:
                continue
            promise = rows.get(path)
            if promise is None or promise.hash_ is None:
                raise BadWheelError(f"RECORD has no hash of {path}")
            if promise.hash_.name not in _HASHES:
                raise BadWheelError(f"RECORD has a weak hash of {path} ({promise.hash_.name})")
            if promise.size not in (None, info.file_size):
                raise BadWheelError(f"{path} differs from what RECORD says: {info.file_size} bytes")
            promises[path] = Hash(promise.hash_.name, promise.hash_.value.rstrip("="))
        return promises


class _ArchiveFile(io.BufferedReader):
    """The file of an archive; closed when nobody has it any more, as zipfile does with those that it opens itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"its directory has more than {DIRECTORY_LIMIT} bytes")
        return super().read(size)

    def __del__(self) -> None:
        self.close()


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip file to read from; zipfile alone takes a directory of any size into memory. Raises ZIP_ERRORS."""
    return zipfile.ZipFile(cast("IO[bytes]", _ArchiveFile(path)))


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The files of the archive by safe path, in order of their paths; `size` is the archive's, in bytes."""
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    if len(archive.infolist()) > MEMBERS:
        raise BadWheelError(f"it holds more than {MEMBERS} files")
    for info in archive.infolist():
        name = info.orig_filename  # zipfile ends `filename` at a NUL
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
        if path in members:
            raise BadWheelError(f"{path} is in it twice")
        members[path] = info
        total += info.file_size
    if total > LIMIT or total > max(GRACE, RATIO * size):
        largest = max(members, key=lambda path: members[path].file_size)
        raise BadWheelError(
            f"it unpacks to {total} bytes from {size}, as a bomb does, {members[largest].file_size} of them {largest}; "
            "let the program make what is that empty"
        )
    return dict(sorted(members.items()))


def _dist_info(members: Iterable[str], name: str, version: Version) -> str:
    found = sorted({path.split("/", 1)[0] for path in members if ".dist-info/" in path})
    found = [directory for directory in found if directory.endswith(".dist-info")]
    if len(found) != 1:
        raise BadWheelError(f"it has {len(found)} .dist-info directories, not one")
    its_name, _, its_version = found[0].removesuffix(".dist-info").rpartition("-")
    with contextlib.suppress(ValueError):
        if (canonicalize_name(its_name), Version(its_version)) == (name, version):
            return found[0]
    raise BadWheelError(f"its metadata is that of another package ({found[0]})")
