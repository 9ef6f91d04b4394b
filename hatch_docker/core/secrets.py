"""Secrets of a build, and the search for them in what it makes: exact values, in all usual encodings.

Layers are searched while they are written, so that one with a secret is never kept. A known layer is searched again if
there are other values to look for than last time. Values stay in memory alone: the cache only gets marks, which say
nothing without a key that is in no cache. Documents are searched before they are written.
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

LEAST = 6  # characters: a shorter word is in any file by chance
PIECE = 1 << 18  # bytes
LEAST_ENCODED = 8  # characters of what a secret is encoded to
LEAST_LINE = 16  # characters of a line of a private key that counts by itself
WORD = 8  # bytes
FEW = 48  # byte strings that are looked for one by one
BOOT = Path("/proc/sys/kernel/random/boot_id")  # random, another one each time that the machine starts

_SECRET_FILES = frozenset({
    ".netrc", "_netrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".npmrc",
    ".pgpass", ".htpasswd", ".vault-token", "cosign.key",
})
_SECRET_DIRECTORIES = frozenset({".git", ".ssh", ".gnupg", ".aws", ".docker", ".kube"})  # all in them is the user's own
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY[A-Z ]*)-----(.*?)-----END ", re.DOTALL)
_HARMLESS = (".example", ".sample", ".template", ".dist")  # ends of the names of files for others to copy

Feed = Callable[[bytes], None]
Named = Iterable[tuple[str, str]]


@dataclass(slots=True)
class Secrets:
    """Secrets known to this build: literal values by their descriptions, and lazy sources of more.

    `sources` are asked once, when something new is searched: they may read files or run programs. `sought` describes
    what a build looks for, values by name and mark, sources by name, for a cache that remembers the search.
    """

    known: dict[str, str] = field(default_factory=dict, repr=False)
    sources: dict[str, Callable[[], Named]] = field(default_factory=dict)
    sought: set[str] = field(default_factory=set)
    needles: dict[bytes, str] = field(default_factory=dict, repr=False)
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, what: str, value: str) -> None:
        """Add a value; `what` describes it in errors."""
        if value:
            self.sought.add(f"{what} {mark(value.encode(errors='surrogateescape'))}")
        self._note(what, value)

    def _note(self, what: str, value: str) -> None:
        value = value.strip()
        if len(value) >= LEAST and value not in self.known:
            self.known[value] = what
            self.needles.update((needle, what) for needle in spellings(value))

    def add_source(self, name: str, source: Callable[[], Named]) -> None:
        """Add a source of more values; a source that fails has none. Another name is another source."""
        self.sought.add(name)
        self.sources.setdefault(name, source)

    def values(self) -> list[str]:
        """Return all values, for a program's output to be without them."""
        self.ask()
        return list(self.known)

    def search(self) -> Callable[[str], Feed] | None:
        """Return a function that makes a search of one file, by pieces; None if there is nothing to look for."""
        self.ask()
        if not self.needles:
            return None
        find, longest = _finder(dict(self.needles)), max(map(len, self.needles))
        return lambda path: _search(find, longest, f"/{path} of the image")

    def check_wheel(self, path: Path) -> None:
        """Raise SecretError if a value is in a file of a wheel, before it is kept; a file that is not a zip is ignored.
        """
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
        """Raise SecretError if a value that is known by now is in a document."""
        if self.needles:
            _search(_finder(self.needles), 0, where)(data)

    def ask(self) -> None:
        """Ask the sources for their values."""
        with self.guard:
            while self.sources:
                _, source = self.sources.popitem()
                with contextlib.suppress(HatchDockerError):
                    for what, value in source():
                        self._note(what, value)


def mark(value: bytes = b"") -> str:
    """Return a text that identifies a value until the machine restarts, and reveals nothing about it."""
    return hmac.new(_key(), value, hashlib.sha256).hexdigest()[:16]


@functools.cache
def _key() -> bytes:
    try:
        return BOOT.read_bytes()
    except OSError:
        return os.urandom(16)  # then each build searches


def _finder(needles: dict[bytes, str]) -> Callable[[bytes], str]:
    """Return a function that returns the description of a byte string that is in some bytes, "" if none is.

    Looking for a few strings, one by one, is the fastest. Of many, each covers some aligned word of eight bytes
    wherever it stands, or even one of every three words if it is long: all these words are looked up in one set.
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
    """Return a search in a stream of pieces, also across their boundaries, which raises SecretError.

    `longest` is the length of the longest byte string that `find` finds.
    """
    tail = b""

    def feed(piece: bytes) -> None:
        nonlocal tail
        data = tail + piece if tail else piece
        if what := find(data):
            raise SecretError(
                f"{what} is in {where}: nothing is written or pushed; remove it there, and change it, "
                "since it may be elsewhere too"
            )
        tail = data[-longest + 1 :] if longest > 1 else b""

    return feed


def spellings(value: str) -> Iterator[bytes]:
    """Yield a value as it is, as in URLs, JSON and Python's quotes, in UTF-16, hexadecimal, and the lines of a key.

    And in base64 and base32 at any offset in other text. Of private keys (RFC 7468) each line of the text counts, which
    other formats indent or join; the first of OpenSSH's has nothing of the key.
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
        lines = [line.strip() for line in text.splitlines() if len(line.strip()) >= LEAST_LINE and ":" not in line]
        yield from (line.encode() for line in lines[label.startswith("OPENSSH") :])
    texts = {quote(raw, safe=""), quote(raw), quote_plus(raw), repr(value)[1:-1]}
    texts |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    yield from (text.encode(errors="surrogateescape") for text in texts if text != value)
    for before in range(3):
        # Of the characters that nothing before and after can change.
        start, end = (8 * before + 5) // 6, 8 * (before + len(raw)) // 6
        if end - start >= LEAST_ENCODED:
            padded = bytes(before) + raw
            yield base64.b64encode(padded)[start:end]
            yield base64.urlsafe_b64encode(padded)[start:end]
    for before in range(5):
        start, end = (8 * before + 4) // 5, 8 * (before + len(raw)) // 5
        if end - start >= LEAST_ENCODED:
            yield base64.b32encode(bytes(before) + raw)[start:end]


def looks_secret(name: str) -> bool:
    """Tell whether people keep secrets in files of this name: `.env`, `id_rsa`, `.netrc`, ..."""
    name = name.lower()
    environment = name == ".env" or name.startswith(".env.")
    return name in _SECRET_FILES or (environment and not name.endswith(_HARMLESS))


def secret_part(path: str) -> str:
    """Return the first part of a path that looks secret or is a directory of secrets (`.git`, `.ssh`); "" if none."""
    return next((part for part in path.split("/") if part in _SECRET_DIRECTORIES or looks_secret(part)), "")


def refused_path(path: str, root: Path, top: Path) -> str:
    """Return a description of a place that a project's path leads to and that must not enter a wheel; "" if it may.

    A link, or `force-include`, may lead to other parts of the repository or workspace, whose directory is `top`, not
    out of it: the project's author could otherwise take the user's own files.
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
