"""Reader of .deb files (deb(5)): an ar archive of two tars, the control files and the data."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.core.streams import PartReader, drain
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.tar import read_tar

MAGIC = b"!<arch>\n"
CONTROL_LIMIT = 16 << 20  # bytes, unpacked
DATA_LIMIT = 4 << 30      # bytes, unpacked
CHUNK = 1 << 18
_COMPRESSIONS: dict[str, str] = {".tar.xz": "xz", ".tar.gz": "gzip", ".tar": "none"}


@dataclass(frozen=True, slots=True)
class Deb:
    """A .deb file on disk, its control files, and the position of data.tar in it."""

    path: Path
    name: str                                  # of the package, for messages
    control: bytes
    sums: Mapping[str, str]                    # path -> hexadecimal MD5, from the file md5sums
    postinst: str                              # the script; it is searched for update-alternatives, never executed
    data: tuple[str, int, int]                 # compression, offset and size in bytes

    def members(self) -> Iterator[tuple[Entry, BinaryIO | None]]:
        """Yield the package's files. Read the bytes of a file before the next file. Raises BaseImageError."""
        with self.path.open("rb") as stream:
            yield from _read(stream, self.data, self.name, DATA_LIMIT)


def open_deb(path: Path, name: str) -> Deb:
    """Read the members and the control files of a .deb. Raises BaseImageError, naming the package, if it is damaged."""
    with path.open("rb") as stream:
        members = _members(stream, name)
        offset, size = members.get("debian-binary", (0, 0))
        stream.seek(offset)
        if stream.read(min(size, 64)) != b"2.0\n":
            raise BaseImageError(f"package {name} is not a .deb of format 2.0")
        control = _tar(members, "control.tar", name)
        data = _tar(members, "data.tar", name)
        files: dict[str, bytes] = {}
        for entry, content in _read(stream, control, name, CONTROL_LIMIT):
            if content is not None and entry.path in ("control", "md5sums", "postinst"):
                files[entry.path] = content.read()
    if "control" not in files:
        raise BaseImageError(f"package {name} has no control file")
    postinst = files.get("postinst", b"").decode(errors="replace")
    rows = [line.partition("  ") for line in files.get("md5sums", b"").decode(errors="surrogateescape").splitlines()]
    sums = {path.strip().removeprefix("./"): value for value, _, path in rows}
    return Deb(path, name, files["control"], sums, postinst, data)


def _members(stream: BinaryIO, name: str) -> dict[str, tuple[int, int]]:
    """Return the members of an ar archive: name -> offset and size in bytes."""
    end = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if stream.read(len(MAGIC)) != MAGIC:
        raise BaseImageError(f"package {name} is not a .deb: it is not an ar archive")
    members: dict[str, tuple[int, int]] = {}
    while (offset := stream.tell()) < end:
        header = stream.read(60)
        size = header[48:58].strip()
        if len(header) != 60 or header[58:] != b"`\n" or not size.isdigit():
            raise BaseImageError(f"package {name} is damaged: a bad member header at byte {offset}")
        if offset + 60 + int(size) > end:
            raise BaseImageError(f"package {name} is damaged: a member is cut short at byte {end}")
        member = header[:16].decode(errors="replace").strip().removesuffix("/")
        if member in members:
            raise BaseImageError(f"package {name} is damaged: it has two members {member!r}")
        members[member] = (offset + 60, int(size))
        stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    return members


def _tar(members: dict[str, tuple[int, int]], stem: str, name: str) -> tuple[str, int, int]:
    """Return compression, offset and size of the tar `stem` ("data.tar"), whose name may have a suffix."""
    for member, (offset, size) in members.items():
        if member.startswith(stem):
            suffix = member.removeprefix(stem.removesuffix(".tar"))
            if suffix not in _COMPRESSIONS:
                raise BaseImageError(f"package {name} has a {member}: only xz, gzip and plain can be read")
            return _COMPRESSIONS[suffix], offset, size
    raise BaseImageError(f"package {name} is damaged: it has no {stem}")


def _read(
    stream: BinaryIO, place: tuple[str, int, int], name: str, limit: int
) -> Iterator[tuple[Entry, BinaryIO | None]]:
    compression, offset, size = place
    stream.seek(offset)
    part = io.BufferedReader(PartReader(stream, size), CHUNK)
    try:
        # The .deb's hash is in the signed index, so no ratio limit (against decompression bombs) is needed.
        plain = Decompressed(part, limit, ratio=limit, compression=compression)
        yield from read_tar(plain)
        drain(plain)  # to verify the checksum at the end
    except (ImageError, OSError) as error:
        raise BaseImageError(f"package {name} is damaged: {error}") from error
