"""Debian's signed archive: InRelease, and through its hashes the Packages files and every .deb.

Nothing of a mirror is believed: the signature is checked against the bundled archive keys, a file against the
hash that the signed text gives it. So the mirror may be plain http. Format: RepositoryFormat of the Debian wiki.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.apt import SECURITY_VARIABLE, WAYS_OUT, Mirrors, parse_fields
from hatch_docker.bases.resolve import Package, PackageIndex, version_key
from hatch_docker.errors import BaseImageError, ImageError
from hatch_docker.urls import shown

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.progress import Task

KEYRING = Path(__file__).with_name("debian-archive-keyring.pgp")
RELEASE_LIMIT = 4 << 20     # bytes; Debian's are 150 KB
PACKAGES_LIMIT = 128 << 20  # bytes, unpacked; Debian's main has 57 MB
CHUNK = 1 << 20
FRAME = (b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----END PGP SIGNATURE-----")  # RFC 9580 section 7


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One Packages file as a signed release names it. `path` is relative to the root of its archive."""

    archive: str                               # "main" or "security", see Mirrors.root
    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """The signed description of one suite: the digest and size of each of its index files."""

    where: str                                 # its URL as it may be shown
    suite: str
    archive: str
    files: Mapping[str, tuple[str, int]]
    by_hash: bool
    date: float = 0.0                          # when it was signed, in seconds since the epoch

    def index(self, architecture: str) -> IndexFile:
        """The Packages file of component main; raises BaseImageError without one for the architecture."""
        name = f"main/binary-{architecture}/Packages.xz"
        if name not in self.files:
            raise BaseImageError(f"{self.where} has no packages for {architecture}")
        digest, size = self.files[name]
        if self.by_hash:  # stays there for a while when the mirror is updated under our feet
            name = f"{name.rpartition('/')[0]}/by-hash/SHA256/{digest.removeprefix('sha256:')}"
        return IndexFile(self.archive, f"dists/{self.suite}/{name}", digest, size)


def verify(signed: bytes, keyring: bytes, where: str) -> bytes:
    """The text that a key of the ring has signed (RFC 9580 §7); raises BaseImageError where none has.

    As with apt, nothing may stand before or after it.
    """
    import pysequoia

    certificates = pysequoia.Cert.split_bytes(keyring)
    try:
        result = pysequoia.verify(signed, lambda _keys: certificates)
    except RuntimeError as error:  # what the library raises for every kind of bad signature
        raise _unsigned(where, str(error).partition("\n")[0].rstrip(".")) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of PyO3; such as where the clock is past 2106
            raise
        raise _unsigned(where, f"they cannot be checked: {error}; is this machine's clock right?") from error
    if not signed.strip().startswith(FRAME[0]) or not signed.strip().endswith(FRAME[1]):
        raise _unsigned(where, "there is more than what they signed")
    return bytes(result.bytes or b"")


def _unsigned(where: str, reason: str) -> BaseImageError:
    return BaseImageError(
        f"{where} is not signed by Debian's archive keys ({reason}): the mirror, or something before it, "
        f"alters files or is not Debian's; try another by {WAYS_OUT}"
    )


def read_release(text: bytes, where: str, suite: str, archive: str, *, now: float | None) -> Release:
    """Read the verified text of an InRelease file, which must be of `suite` and not be expired at `now`.

    `now` is in seconds since the epoch, None to leave Valid-Until unchecked. Raises BaseImageError.
    """
    fields = parse_fields(text.decode(errors="replace"))
    if suite not in (fields.get("codename"), fields.get("suite")):
        raise BaseImageError(
            f"{where} describes suite {fields.get('codename')!r}, not {suite!r}: the mirror is wrong; "
            f"try another by {WAYS_OUT}"
        )
    expiry = fields.get("valid-until", "")
    if expiry and now is not None and _seconds(expiry, where) < now:
        raise BaseImageError(
            f"{where} expired on {expiry}: the mirror is out of date (or this machine's clock is wrong); "
            f"try another by {WAYS_OUT}"
        )
    files: dict[str, tuple[str, int]] = {}
    for line in fields.get("sha256", "").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})\s+(\d{1,15})\s+(\S+)", line.strip())
        if match:
            files[match[3]] = (f"sha256:{match[1]}", int(match[2]))
    if not files:
        raise BaseImageError(f"{where} lists no files with their SHA256")
    date = 0.0
    with contextlib.suppress(BaseImageError):
        date = _seconds(fields.get("date", ""), where)
    return Release(where, suite, archive, files, fields.get("acquire-by-hash", "") == "yes", date)


def _seconds(date: str, where: str) -> float:
    import email.utils

    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError) as error:
        raise BaseImageError(f"{where} has no date in its Valid-Until: {date!r}") from error


def fetch_releases(
    mirrors: Mirrors, suite: str, ctx: Context, *, keyring: Path = KEYRING
) -> tuple[Release, ...]:
    """The verified releases of a suite, its -updates and its -security.

    A mirror without -updates is used with a warning: a point release has those packages later. Without
    -security it is an error, or whoever sits on the line could withhold every fix. Raises BaseImageError and
    RegistryError.
    """
    from concurrent.futures import ThreadPoolExecutor

    keys = keyring.read_bytes()
    wanted = (("main", suite), ("main", f"{suite}-updates"), ("security", f"{suite}-security"))
    with ThreadPoolExecutor(len(wanted)) as pool:
        found = list(pool.map(lambda item: _fetch_release(item[0], item[1], mirrors, ctx, keys), wanted))
    if found[1] is None:
        url = shown(f"{mirrors.root('main')}/dists/{suite}-updates/InRelease")
        ctx.progress.warn(f"{url} does not exist: going on without the updates between point releases")
    return tuple(release for release in found if release is not None)


def _fetch_release(archive: str, suite: str, mirrors: Mirrors, ctx: Context, keys: bytes) -> Release | None:
    from hatch_docker import transport

    url = f"{mirrors.root(archive)}/dists/{suite}/InRelease"
    signed = transport.read(mirrors.client(ctx), url, limit=RELEASE_LIMIT)
    if signed is not None:
        text = verify(signed, keys, shown(url))
        now = time.time() if mirrors.check_valid_until else None
        return read_release(text, shown(url), suite, archive, now=now)
    message = f"{shown(url)} does not exist (the mirror is named by {mirrors.origin})"
    if suite.endswith("-updates"):
        return None  # told once it is clear that the rest of the mirror is there
    if archive == "security":
        hint = f"`[tool.hatch-docker.debian] security-mirror` or {SECURITY_VARIABLE} names one with fixes"
        raise BaseImageError(f"{message}; {hint}")
    raise BaseImageError(f"{message}; {WAYS_OUT} names another")


def fetch_package_index(indexes: Sequence[IndexFile], mirrors: Mirrors, ctx: Context, task: Task) -> PackageIndex:
    """The packages of some index files, of each name the highest version; `task` is what it is a part of.

    Raises RegistryError where a mirror has an index no longer.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(indexes)) as pool:
        task.expect(sum(index.size for index in indexes if not ctx.store.has(index.digest)))
        texts = list(pool.map(lambda index: _fetch_index(index, mirrors, ctx, task.advance), indexes))
    return read_package_index([(index.archive, text) for index, text in zip(indexes, texts, strict=True)])


def _fetch_index(index: IndexFile, mirrors: Mirrors, ctx: Context, advance: Callable[[int], None]) -> bytes:
    from hatch_docker import transport

    url = f"{mirrors.root(index.archive)}/{index.path}"
    transport.fetch(
        ctx.store, mirrors.client(ctx), url, digest=index.digest, size=index.size, advance=advance
    )
    return _unpack(ctx.store.blob_path(index.digest), shown(url))


def _unpack(path: Path, where: str) -> bytes:
    from hatch_docker.oci.compression import Decompressed

    try:
        with path.open("rb") as stream:
            plain = Decompressed(stream, PACKAGES_LIMIT, compression="xz")
            return b"".join(iter(lambda: plain.read(CHUNK), b""))
    except ImageError as error:
        raise BaseImageError(f"{where} cannot be read: {error}") from error


def read_package_index(indexes: Sequence[tuple[str, bytes]]) -> PackageIndex:
    """The packages of some Packages files, each with the name of its archive.

    A stanza is parsed when its package is asked for: parsing all 69 000 takes seconds.
    """
    stanzas: dict[str, list[tuple[str, bytes]]] = {}
    for archive, text in indexes:
        for stanza in text.split(b"\n\n"):
            stanza = stanza.strip(b"\n")
            if stanza.startswith(b"Package: "):
                name = stanza[9 : (stanza + b"\n").index(b"\n")].decode(errors="replace").strip()
                stanzas.setdefault(name, []).append((archive, stanza))
    return PackageIndex(_Packages(stanzas), lambda: _providers(stanzas))


def _providers(stanzas: Mapping[str, list[tuple[str, bytes]]]) -> dict[str, list[str]]:
    """Which packages may provide a name; whether one does is seen when it is parsed."""
    providers: dict[str, list[str]] = {}
    for name, found in stanzas.items():
        for _archive, stanza in found:
            start = stanza.find(b"\nProvides: ")
            if start >= 0:
                line = stanza[start + 11 :].partition(b"\n")[0].decode(errors="replace")
                for virtual in re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", line):
                    providers.setdefault(virtual, []).append(name)
    return providers


class _Packages(Mapping[str, Package]):
    """Stanzas by name, parsed when looked up."""

    def __init__(self, stanzas: Mapping[str, list[tuple[str, bytes]]]) -> None:
        self._stanzas = stanzas
        self._parsed: dict[str, Package] = {}

    def __getitem__(self, name: str) -> Package:
        if name not in self._parsed:
            stanzas = self._stanzas[name]
            found = [package_of(parse_fields(stanza.decode(errors="replace")), archive) for archive, stanza in stanzas]
            self._parsed[name] = max(found, key=lambda package: version_key(package.version))
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stanzas)

    def __len__(self) -> int:
        return len(self._stanzas)


def package_of(fields: Mapping[str, str], archive: str) -> Package:
    """The package that the fields of a stanza describe; raises BaseImageError for what would be unsafe to use."""
    name = fields.get("package", "")
    try:
        size, digest = int(fields["size"]), fields["sha256"]
        version, filename = fields["version"], fields["filename"]
    except (KeyError, ValueError) as error:
        raise BaseImageError(f"the archive's entry of package {name!r} lacks {error}") from error
    if not re.fullmatch(r"[0-9a-f]{64}", digest) or size < 0 or ".." in filename.split("/"):
        raise BaseImageError(f"the archive's entry of package {name!r} has a bad SHA256, Size or Filename")
    return Package(
        name, version, fields.get("architecture", ""), filename, size, f"sha256:{digest}", archive,
        "required" if fields.get("essential") == "yes" else fields.get("priority", "optional"),
        _joined(fields, "pre-depends", "depends"), _joined(fields, "conflicts", "breaks"),
        fields.get("provides", ""),
    )  # fmt: skip


def _joined(fields: Mapping[str, str], *names: str) -> str:
    return ", ".join(fields[name] for name in names if fields.get(name))
