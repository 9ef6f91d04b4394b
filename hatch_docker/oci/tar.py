"""Reading and writing tar archives: USTAR, with PAX records for values that do not fit (POSIX.1-2017, pax).

Written archives are deterministic. GNU's long names are read too. The standard library's tarfile reads headers of any
size into memory, and is ten times as slow for wheels with thousands of small files.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import Readable, drain, pieces, read_fully
from hatch_docker.oci.model import Content
from hatch_docker.oci.paths import PATH_LIMIT, SOURCE_DATE, parents, quote, safe_path

BLOCK = 512
END = bytes(2 * BLOCK)
EXTENSION_LIMIT = 1 << 20  # largest PAX or GNU header in bytes; it is read into memory
HEADER_LIMIT = 1_000_000  # most headers of one tar, including PAX and GNU headers; reading them takes ten seconds
RECORD_LIMIT = 2_000_000  # most PAX records of one tar

Kind = Literal["file", "directory", "symlink", "hardlink", "character", "block", "fifo", "whiteout", "opaque"]

_FLAGS: dict[str, bytes] = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}
_KINDS: dict[bytes, Kind] = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink",
    b"3": "character", b"4": "block", b"5": "directory", b"6": "fifo",
}  # fmt: skip
# The PAX records that are used. Others are dropped: a hostile archive could fill the memory with them.
_RECORDS = frozenset({b"path", b"linkpath", b"uid", b"gid", b"size", b"mtime"})
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_ZERO = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer.

    `path` is relative to the root, in the form of `safe_path`. `mode` is the permission bits, `mtime` is in seconds
    since the epoch. `target` is the target of a symlink, or the path of a hard link's file. `content` is the content of
    a file: bytes, a path, or an opener; with an opener `size` must be set.

    Readers also return the kinds "whiteout" (`path` is removed from lower layers) and "opaque" (all entries of lower
    layers below the directory `path` are removed): layer.md, Whiteouts.
    """

    path: str
    kind: Kind
    mode: int
    mtime: int
    target: str = ""
    size: int = 0
    uid: int = 0
    gid: int = 0
    content: Content | None = None


def parent_entries(paths: Iterable[str], present: Collection[str] = frozenset()) -> list[Entry]:
    """Return entries (mode 0755, owner root) for all parent directories of `paths` that are not in `present`.

    Their time is constant, because the times of directories on disk would make equal layers differ. `present`:
    directories of the base, which our layers must not contain.
    """
    missing = {parent for path in paths for parent in parents(path) if parent not in present}
    return [Entry(path, "directory", 0o755, SOURCE_DATE) for path in sorted(missing)]


def pack_header(entry: Entry, size: int) -> bytes:
    """Return the header blocks of a member with `size` bytes of content, with PAX records if USTAR does not suffice.

    Raises ImageError for devices and pipes, which our layers never contain, and for names that are not Unicode.
    """
    flag = _FLAGS.get(entry.kind)
    if flag is None:
        raise ImageError(f"cannot write {entry.path} into a layer: it is a {entry.kind}")
    records: dict[str, str] = {}
    prefix, name = _split(entry.path + "/" if entry.kind == "directory" else entry.path, records)
    link = _ascii(entry.target, 100, "linkpath", records)
    numbers = [
        _octal(entry.mode & 0o7777, 8, "", records), _octal(entry.uid, 8, "uid", records),
        _octal(entry.gid, 8, "gid", records), _octal(size, 12, "size", records),
        _octal(entry.mtime, 12, "mtime", records),
    ]  # fmt: skip
    block = _block(name, numbers, flag, link, prefix)
    if not records:
        return block
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    zero = [b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % len(body), b"00000000000\0"]
    return _block(b"././@PaxHeader", zero, b"x", b"", b"") + body + bytes(-len(body) % BLOCK) + block


def _block(name: bytes, numbers: list[bytes], flag: bytes, link: bytes, prefix: bytes) -> bytes:
    device = b"0000000\0"
    block = _HEADER.pack(name, *numbers, b" " * 8, flag, link, b"ustar\0", b"00", b"", b"", device, device, prefix)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(path: str, records: dict[str, str]) -> tuple[bytes, bytes]:
    raw = _encoded(path)
    if raw.isascii():
        if len(raw) <= 100:
            return b"", raw
        cut = raw.find(b"/", len(raw) - 101)
        if 0 < cut <= 155 and cut + 1 < len(raw):
            return raw[:cut], raw[cut + 1 :]
    records["path"] = path
    return b"", path.encode("ascii", "replace")[:100]


def _ascii(text: str, width: int, key: str, records: dict[str, str]) -> bytes:
    raw = _encoded(text)
    if len(raw) > width or not raw.isascii():
        records[key] = text
        return text.encode("ascii", "replace")[:width]
    return raw


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ImageError(f"cannot write {text!r} into a layer: the name is not UTF-8") from None


def _octal(number: int, width: int, key: str, records: dict[str, str]) -> bytes:
    if 0 <= number < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, number)
    records[key] = str(number)
    return b"0" * (width - 1) + b"\0"


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


class _Content:
    """A stream of the content of the current member."""

    def __init__(self, stream: Readable, size: int, path: str) -> None:
        self._stream = stream
        self._path = path
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(pieces(self))
        try:
            data = self._stream.read(min(size, self.left)) if self.left else b""
        except ImageError as error:
            raise ImageError(f"{self._path}: {error}") from error
        if not data and self.left and size:
            raise ImageError(f"a tar ends inside {self._path}")
        self.left -= len(data)
        return data


def read_tar(stream: Readable, skip: Callable[[int], object] | None = None) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """Yield the members of a tar in order, files with their content, which must be read before the next member.

    No content is kept in memory. The unread rest of a content is read and discarded; or `skip` is called with its
    number of bytes, and must seek. The root directory is omitted, and a leading `/` is removed, as in container
    runtimes. Raises ImageError for a damaged tar, an unsafe path, a sparse file (forbidden by layer.md), an extended
    header over EXTENSION_LIMIT, and too many headers.
    """
    pending: dict[str, str] = {}
    shared: dict[str, str] = {}
    headers = records = 0
    while (block := _exactly(stream, BLOCK)) and block != _ZERO:
        fields = _HEADER.unpack(block)
        if _number(fields[6]) != sum(block) - sum(fields[6]) + 8 * 32:
            raise ImageError("a tar has a header with a wrong checksum")
        flag = fields[7]
        headers += 1
        if headers > HEADER_LIMIT or records > RECORD_LIMIT:
            raise ImageError(f"a tar has more than {HEADER_LIMIT} headers, or {RECORD_LIMIT} records in them: refused")
        if flag in b"xgLK":
            records += _extend(flag, _extension(stream, _number(fields[4])), pending, shared)
            continue
        extra = {**shared, **pending} if shared else pending
        entry = _entry(fields, extra)
        pending = {}
        size = entry.size if entry.kind == "file" else 0
        content = _Content(stream, size, entry.path)
        if entry.path:
            yield entry, content if entry.kind == "file" else None  # type: ignore[misc]
        if skip is not None:
            skip(content.left)
            content.left = 0
        drain(content)
        if size % BLOCK:
            _exactly(stream, -size % BLOCK)


def _exactly(stream: Readable, size: int) -> bytes:
    """Return `size` bytes, or b"" at the end of the stream: some programs omit the end-of-archive blocks."""
    data = read_fully(stream, size)
    if 0 < len(data) < size:
        raise ImageError("a tar ends inside a block")
    return data


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base-256 encoding of GNU tar, for sizes from 8 GiB
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    if not digits.isdigit():
        raise ImageError(f"a tar has a header with the number {digits!r}")
    try:
        return int(digits, 8)
    except ValueError:
        raise ImageError(f"a tar has a header with the number {digits!r}") from None


def _extension(stream: Readable, size: int) -> bytes:
    if size > EXTENSION_LIMIT:
        raise ImageError(f"a tar has an extended header of {size} bytes, more than {EXTENSION_LIMIT}")
    data = _exactly(stream, size + -size % BLOCK)
    if len(data) < size:
        raise ImageError("a tar ends inside an extended header")
    return data[:size]


def _extend(flag: bytes, data: bytes, pending: dict[str, str], shared: dict[str, str]) -> int:
    """Store the records of an extended header for the next members; return the number of its records."""
    if flag in b"LK":
        pending["path" if flag == b"L" else "linkpath"] = _text(data)
        return 1
    into = shared if flag == b"g" else pending
    position = count = 0
    while position < len(data) and data[position]:
        length, _, _rest = data[position : position + 20].partition(b" ")
        end = position + int(length) if length.isdigit() else 0
        key, equals, value = data[position + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ImageError("a tar has a damaged extended header")
        if key.startswith(b"GNU.sparse"):
            raise ImageError("a tar holds a sparse file, which layers must not")
        if key in _RECORDS:
            into[key.decode()] = value.decode(errors="surrogateescape")
        position = end
        count += 1
    return count


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _entry(fields: tuple[bytes, ...], extra: dict[str, str]) -> Entry:
    name = _text(fields[0])
    if fields[15][0] and fields[9].startswith(b"ustar\0"):
        name = f"{_text(fields[15])}/{name}"
    name = extra.get("path", name)
    kind = _KINDS.get(fields[7])
    if kind is None:
        raise ImageError(f"a tar holds {quote(name)} of the unknown type {fields[7]!r}")
    if kind == "file" and fields[7] == b"\0" and name.endswith("/"):
        kind = "directory"  # in the tar format before POSIX.1-1988
    target = extra.get("linkpath", _text(fields[8])) if kind in ("symlink", "hardlink") else ""
    if kind == "symlink" and (not target or "\0" in target or len(target) > PATH_LIMIT):
        raise ImageError(f"the link {quote(name)} in an archive has a target that is empty or too long")
    numbers = [_extra_number(extra, key, fields[at]) for key, at in _NUMBERS]
    path = safe_path(name.lstrip("/")) if set(name.split("/")) - {"", "."} else ""
    return Entry(
        path, kind, _number(fields[1]) & 0o7777, numbers[3],
        target=safe_path(target.lstrip("/")) if kind == "hardlink" else target,
        size=numbers[2] if kind == "file" else 0, uid=numbers[0], gid=numbers[1],
    )  # fmt: skip


_NUMBERS = (("uid", 2), ("gid", 3), ("size", 4), ("mtime", 5))


def _extra_number(extra: dict[str, str], key: str, field: bytes) -> int:
    text = extra.get(key)
    if text is None:
        return _number(field)
    whole = text[:40].split(".", 1)[0]
    digits = whole.removeprefix("-" if key == "mtime" else "")
    if not (digits.isascii() and digits.isdigit()) or len(whole) > 20:
        raise ImageError(f"a tar has an extended header with {key} = {quote(text)}")
    return int(whole)
