"""Writer of a git repository's files, with the same bytes on every machine (gitformat-pack, gitformat-index)."""

import binascii
import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}


@dataclass(frozen=True, slots=True)
class GitObject:
    """A git object: its hexadecimal name, its kind ("commit", "tree", "blob" or "tag") and its content."""

    name: str
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class GitFile:
    """A file of a commit: its path, its git mode ("100644", "100755", "120000") and the name of its blob."""

    path: str
    mode: str
    name: str


def repository_files(
    commit: str, files: Sequence[GitFile], objects: Iterable[GitObject], tags: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the paths (relative to `.git`) and contents of a repository with `commit` as its detached HEAD.

    `files`: the commit's files, for the index. `tags`: "refs/tags/..." to object name.
    """
    new = new_hash(commit)
    extension = "\trepositoryformatversion = 0\n"
    if len(commit) == 64:
        extension = "\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
    pack, index = _pack(sorted(objects, key=lambda found: found.name), new)
    digest = pack[-new().digest_size:].hex()
    yield "config", f"[core]\n\tbare = false\n\tfilemode = true\n{extension}".encode()
    yield "HEAD", f"{commit}\n".encode()
    yield "packed-refs", "".join(f"{name} {ref}\n" for ref, name in sorted(tags.items())).encode()
    yield "index", _index(files, new)
    yield f"objects/pack/pack-{digest}.pack", pack
    yield f"objects/pack/pack-{digest}.idx", index


def new_hash(name: str) -> Any:
    """Return the hash constructor for the repository of an object: SHA-256 if its name has 64 digits, else SHA-1."""
    algorithm = "sha256" if len(name) == 64 else "sha1"  # hexadecimal digits
    return lambda data=b"": hashlib.new(algorithm, data, usedforsecurity=False)


def _pack(objects: Sequence[GitObject], new: Any) -> tuple[bytes, bytes]:
    """Return a pack file (version 2) and its index. `objects`: sorted by name."""
    from zlib_ng import zlib_ng

    pack = bytearray(struct.pack(">4sII", b"PACK", 2, len(objects)))
    offsets, sums = [], []
    for found in objects:
        start, size = len(pack), len(found.content)
        byte, size = _KINDS[found.kind] << 4 | size & 15, size >> 4
        while size:
            pack.append(byte | 128)
            byte, size = size & 127, size >> 7
        pack.append(byte)
        pack += zlib_ng.compress(found.content, 1)
        offsets.append(start)
        sums.append(binascii.crc32(memoryview(pack)[start:]))
    pack += new(pack).digest()
    firsts = [int(found.name[:2], 16) for found in objects]
    fanout = [sum(first <= byte for first in firsts) for byte in range(256)]
    index = bytearray(b"\xfftOc" + struct.pack(">I256I", 2, *fanout))
    index += b"".join(bytes.fromhex(found.name) for found in objects)
    index += struct.pack(f">{len(objects)}I", *sums) + struct.pack(f">{len(objects)}I", *offsets)
    index += pack[-new().digest_size:]
    return bytes(pack), bytes(index + new(index).digest())


def _index(files: Sequence[GitFile], new: Any) -> bytes:
    """Return an index file (version 2) with zero times and sizes, so that git compares contents."""
    index = bytearray(struct.pack(">4sII", b"DIRC", 2, len(files)))
    rows = sorted((file.path.encode(errors="surrogateescape"), file) for file in files)
    for path, file in rows:
        entry = struct.pack(">6I", *[0] * 6) + struct.pack(">4I", int(file.mode, 8), 0, 0, 0)
        entry += bytes.fromhex(file.name) + struct.pack(">H", min(len(path), 0xFFF)) + path
        index += entry + bytes(8 - len(entry) % 8)
    return bytes(index + new(index).digest())
