"""Secrets of a build, and the search for their exact values, in all usual encodings, in the outputs.

Layers are searched while they are written, so that no layer with a secret is stored. A cached layer is searched again
if the values differ from those of its last search. Values are kept in memory only. The cache contains keyed hashes of
them (`fingerprint`); the hash key is not in the cache. Documents are searched before they are written.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hatch_docker.core.errors import HatchDockerError, SecretError

MIN_LENGTH = 6  # characters; shorter values are ignored, because any file may contain them by chance
PIECE = 1 << 18  # bytes
MIN_ENCODED = 8  # characters; shorter base64 and base32 texts are ignored
MIN_LINE = 16  # characters; shorter lines of a private key are ignored
WORD = 8  # bytes
FEW = 48  # byte strings, up to which they are searched for one by one
BOOT = Path("/proc/sys/kernel/random/boot_id")  # random, new at each start of the machine

_SECRET_FILES = frozenset({
    ".netrc", "_netrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".npmrc",
    ".pgpass", ".htpasswd", ".vault-token", "cosign.key",
})
_SECRET_DIRECTORIES = frozenset({".git", ".ssh", ".gnupg", ".aws", ".docker", ".kube"})  # all files in them count
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY[A-Z ]*)-----(.*?)-----END ", re.DOTALL)
_HARMLESS = (".example", ".sample", ".template", ".dist")  # suffixes of templates, such as `.env.example`

Feed = Callable[[bytes], None]
NamedValues = Iterable[tuple[str, str]]


@dataclass(slots=True)
class Secrets:
    """The secrets of a build: values, and sources of more values.

    `descriptions`: by value, for errors. `sources`: functions that return more values by reading files or running
    programs; they are called once, at the first search. `search_terms`: names and fingerprints of the values, and names
    of the sources; part of the key under which the cache stores the result of a search. `needles`: descriptions by
    encoded value.
    """

    descriptions: dict[str, str] = field(default_factory=dict, repr=False)
    sources: dict[str, Callable[[], NamedValues]] = field(default_factory=dict)
    search_terms: set[str] = field(default_factory=set)
    needles: dict[bytes, str] = field(default_factory=dict, repr=False)
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, description: str, value: str) -> None:
        """Add a value; `description` describes it in errors."""
        if value:
            self.search_terms.add(f"{description} {fingerprint(value.encode(errors='surrogateescape'))}")
        self._add(description, value)

    def _add(self, description: str, value: str) -> None:
        value = value.strip()
        if len(value) >= MIN_LENGTH and value not in self.descriptions:
            self.descriptions[value] = description
            self.needles.update((needle, description) for needle in encodings(value))

    def add_source(self, name: str, source: Callable[[], NamedValues]) -> None:
        """Add a source of more values, unless one with this name exists. A source that fails has no values."""
        self.search_terms.add(name)
        self.sources.setdefault(name, source)

    def values(self) -> list[str]:
        """Return all values, to redact a program's output."""
        self.call_sources()
        return list(self.descriptions)

    def search(self) -> Callable[[str], Feed] | None:
        """Return a function that starts the search of a file at a path of the image; None if there are no secrets.

        That function returns another one, which takes the file's pieces and raises SecretError.
        """
        self.call_sources()
        if not self.needles:
            return None
        find, longest = _finder(dict(self.needles)), max(map(len, self.needles))
        return lambda path: _search(find, longest, f"/{path} of the image")

    def check_wheel(self, path: Path) -> None:
        """Raise SecretError if a wheel contains a secret. A file that is not a zip archive is ignored."""
        import zipfile

        search = self.search()
        if search is None:
            return
        with contextlib.suppress(zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                feed = search(member.filename)
                feed(member.filename.encode(errors="surrogateescape"))
                with archive.open(member) as stream:
                    while piece := stream.read(PIECE):
                        feed(piece)

    def check(self, where: str, data: bytes) -> None:
        """Raise SecretError if a document contains a known value. `where` describes it. Sources are not called."""
        if self.needles:
            _search(_finder(self.needles), 0, where)(data)

    def call_sources(self) -> None:
        """Call the sources that were not called yet, and add their values."""
        with self.guard:
            while self.sources:
                _, source = self.sources.popitem()
                with contextlib.suppress(HatchDockerError):
                    for description, value in source():
                        self._add(description, value)


def fingerprint(value: bytes = b"") -> str:
    """Return a keyed hash that identifies a value until the machine restarts, and does not reveal it."""
    return hmac.new(_key(), value, hashlib.sha256).hexdigest()[:16]


@functools.cache
def _key() -> bytes:
    try:
        return BOOT.read_bytes()
    except OSError:
        return os.urandom(16)  # fingerprints then differ in each build, and every build searches again


def _finder(needles: dict[bytes, str]) -> Callable[[bytes], str]:
    """Return a function that searches bytes for byte strings; it returns the description of a found one, or "".

    A few strings are searched for one by one. With many, a filter comes first. A string of at least 15 bytes contains
    an aligned word of eight bytes at any position, one of at least 31 bytes contains a word whose number is a multiple
    of three. All such words of the strings are in one set, which is compared with the words of the data.
    """
    rest, filters = set(needles), []
    for stride in (3, 1):
        group = {needle for needle in rest if len(needle) >= WORD * (stride + 1) - 1}
        if len(group) > FEW // stride:
            starts = ((needle, start) for needle in group for start in range(WORD * stride))
            words = frozenset(int.from_bytes(needle[start : start + WORD], sys.byteorder) for needle, start in starts)
            filters.append((stride, words, group))
            rest -= group

    def find(data: bytes) -> str:
        view = memoryview(data)[: len(data) // WORD * WORD].cast("Q")
        possible = [group for stride, words, group in filters if not words.isdisjoint(view[::stride])]
        return next((needles[needle] for group in (rest, *possible) for needle in group if needle in data), "")

    return find


def _search(find: Callable[[bytes], str], longest: int, where: str) -> Feed:
    """Return a function that searches a stream piece by piece, also across boundaries, and raises SecretError.

    `longest` is the length of the longest byte string that `find` finds.
    """
    tail = b""

    def feed(piece: bytes) -> None:
        nonlocal tail
        data = tail + piece if tail else piece
        if name := find(data):
            raise SecretError(
                f"{name} is in {where}: nothing is written or pushed; remove it there, and replace the secret, because "
                "it may be in other places, too"
            )
        tail = data[-longest + 1 :] if longest > 1 else b""

    return feed


def encodings(value: str) -> Iterator[bytes]:
    """Yield the encoded forms of a value: plain, hexadecimal, UTF-16, URL, JSON, Python literal, base64, base32.

    Base64 and base32 are yielded for each offset at which the value can be inside encoded data. Each base64 line of a
    private key (RFC 7468) is yielded too, because other formats indent or join the lines. The first line of an OpenSSH
    key is omitted: it contains no part of the key.
    """
    import base64
    import json
    from urllib.parse import quote, quote_plus

    raw = value.encode(errors="surrogateescape")
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield value.encode("utf-16-le", "surrogatepass")
    yield value.encode("utf-16-be", "surrogatepass")
    for label, text in _PRIVATE_KEY.findall(value.replace("\\n", "\n")):
        lines = [line.strip() for line in text.splitlines() if len(line.strip()) >= MIN_LINE and ":" not in line]
        yield from (line.encode() for line in lines[label.startswith("OPENSSH") :])
    texts = {quote(raw, safe=""), quote(raw), quote_plus(raw), repr(value)[1:-1]}
    texts |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    yield from (text.encode(errors="surrogateescape") for text in texts if text != value)
    for before in range(3):
        # Only the characters that do not depend on the bytes before and after the value.
        start, end = (8 * before + 5) // 6, 8 * (before + len(raw)) // 6
        if end - start >= MIN_ENCODED:
            padded = bytes(before) + raw
            yield base64.b64encode(padded)[start:end]
            yield base64.urlsafe_b64encode(padded)[start:end]
    for before in range(5):
        start, end = (8 * before + 4) // 5, 8 * (before + len(raw)) // 5
        if end - start >= MIN_ENCODED:
            yield base64.b32encode(bytes(before) + raw)[start:end]


def looks_secret(name: str) -> bool:
    """Return whether files of this name usually contain secrets: `.env`, `id_rsa`, `.netrc`, ..."""
    name = name.lower()
    environment = name == ".env" or name.startswith(".env.")
    return name in _SECRET_FILES or (environment and not name.endswith(_HARMLESS))


def secret_part(path: str) -> str:
    """Return the first part of a path that is a directory of secrets (`.git`, `.ssh`) or looks secret, "" if none."""
    return next((part for part in path.split("/") if part in _SECRET_DIRECTORIES or looks_secret(part)), "")


def forbidden_target(path: str, root: Path, top: Path) -> str:
    """Return a description of a path's real location if it must not be put into a wheel; "" if it may.

    `root`: directory of the project. `top`: directory of the repository or workspace. A symlink or `force-include` may
    lead to a place inside `top`, but not outside of it: a project could otherwise read other files of the user.
    """
    real, absolute = os.path.realpath(path), os.path.abspath(path)  # noqa: PTH100 - Path follows links too late
    inside = absolute.startswith(f"{root}{os.sep}")
    if inside and real == os.path.realpath(root) + absolute.removeprefix(str(root)):
        return ""
    top = top.resolve()
    if not Path(real).is_relative_to(top):
        return "a place outside of the project"
    part = secret_part(os.path.relpath(real, top))
    return f"{part}, which looks like a secret" if part else ""
