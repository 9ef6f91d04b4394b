"""Debian's signed archive: InRelease files, Packages files and .debs.

Mirrors are not trusted. The signature of an InRelease file is verified with the bundled archive keys. It has the hashes
of the Packages files, which have the hashes of the .debs. So plain HTTP is safe. The format is documented as
RepositoryFormat in the Debian wiki.
"""

import contextlib
import email.utils
import functools
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from hatch_docker.bases.debian.apt_config import ALTERNATIVES, SECURITY_VARIABLE, Mirrors, parse_fields
from hatch_docker.bases.debian.resolver import Package, PackageIndex, version_key
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.progress import Advance, Task
from hatch_docker.core.streams import pieces
from hatch_docker.oci.compression import Decompressed
from hatch_docker.plan.model import ROLLING_SUITES

KEYRING = Path(__file__).with_name("debian-archive-keyring.pgp")
RELEASE_LIMIT = 4 << 20     # bytes; Debian's are 150 KB
PACKAGES_LIMIT = 128 << 20  # bytes, unpacked; Debian's main has 57 MB
CHUNK = 1 << 20
PACKAGE = b"Package: "      # the start of each stanza of a Packages file
NAME_LIMIT = 256            # bytes at the start of a stanza in which the name must end
ARMOR = (b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----END PGP SIGNATURE-----")  # RFC 9580 section 7


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of the archive with the digest and size from signed text. `path` is relative to the archive's root."""

    archive: str                               # "main" or "security", see Mirrors.root
    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Release:
    """A verified InRelease file: the digest and size of each index file of a suite."""

    where: str                                 # the URL without a password, for messages
    suite: str
    archive: str
    files: Mapping[str, tuple[str, int]]
    by_hash: bool
    date: float = 0.0                          # when it was signed, in seconds since the epoch

    def index(self, architecture: str) -> ArchiveFile:
        """Return the Packages file of the component main. Raises BaseImageError if the architecture has none."""
        name = f"main/binary-{architecture}/Packages.xz"
        if name not in self.files:
            raise BaseImageError(f"{self.where} has no packages for {architecture}")
        return self.file(name)

    def file(self, name: str) -> ArchiveFile:
        """Return an index file of the release, which must have it."""
        digest, size = self.files[name]
        if self.by_hash:  # after an update, a mirror keeps the old file at this path for some time
            name = f"{name.rpartition('/')[0]}/by-hash/SHA256/{digest.removeprefix('sha256:')}"
        return ArchiveFile(self.archive, f"dists/{self.suite}/{name}", digest, size)


def verify(signed: bytes, keyring: bytes, where: str) -> bytes:
    """Return the text of a cleartext-signed message (RFC 9580 §7). Raises BaseImageError without a valid signature.

    Text before or after the signed message is an error, as in apt.
    """
    import pysequoia

    certificates = pysequoia.Cert.split_bytes(keyring)
    try:
        result = pysequoia.verify(signed, lambda _keys: certificates)
    except RuntimeError as error:  # pysequoia's exception for all bad signatures
        raise _unsigned(where, str(error).partition("\n")[0].rstrip(".")) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # PyO3's; for example if the clock is past 2106
            raise
        raise _unsigned(where, f"they cannot be checked: {error}; is this machine's clock right?") from error
    if not signed.strip().startswith(ARMOR[0]) or not signed.strip().endswith(ARMOR[1]):
        raise _unsigned(where, "there is text outside of the signature")
    if any(len(re.findall(rb"^" + line, signed, re.MULTILINE)) > 1 for line in ARMOR):
        raise _unsigned(where, "there are several signed messages")  # other readers may use another message
    return bytes(result.bytes or b"")


def _unsigned(where: str, reason: str) -> BaseImageError:
    return BaseImageError(
        f"{where} is not signed by Debian's archive keys ({reason}): the mirror, or a proxy in front of it, "
        f"changes files, or it is not a mirror of Debian; set another one with {ALTERNATIVES}"
    )


def read_release(text: bytes, where: str, suite: str, archive: str, *, now: float | None) -> Release:
    """Parse the verified text of an InRelease file.

    `now`: the time to compare with Valid-Until, in seconds since the epoch; None skips the check. Raises
    BaseImageError if the text is for another suite or has expired.
    """
    fields = parse_fields(text.decode(errors="replace"))
    if suite not in (fields.get("codename"), fields.get("suite")):
        raise BaseImageError(
            f"{where} describes suite {fields.get('codename')!r}, not {suite!r}: the mirror is wrong; "
            f"set another one with {ALTERNATIVES}"
        )
    expiry = fields.get("valid-until", "")
    if expiry and now is not None and _seconds(expiry, where) < now:
        raise BaseImageError(
            f"{where} expired on {expiry}: the mirror is out of date (or this machine's clock is wrong); "
            f"set another one with {ALTERNATIVES}; a snapshot needs `check-valid-until = false` there, and a build "
            "with a hatch-docker.lock reads no release at all"
        )
    files: dict[str, tuple[str, int]] = {}
    for line in fields.get("sha256", "").splitlines():
        if match := re.fullmatch(r"([0-9a-f]{64})\s+(\d{1,15})\s+(\S+)", line.strip()):
            files[match[3]] = (f"sha256:{match[1]}", int(match[2]))
    if not files:
        raise BaseImageError(f"{where} lists no files with their SHA256")
    date = 0.0
    with contextlib.suppress(BaseImageError):
        date = _seconds(fields.get("date", ""), where)
    return Release(where, suite, archive, files, fields.get("acquire-by-hash", "") == "yes", date)


def _seconds(date: str, where: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError) as error:
        raise BaseImageError(f"{where} has no date in its Valid-Until: {date!r}") from error


def fetch_releases(mirrors: Mirrors, suite: str, ctx: Context, *, keyring: Path = KEYRING) -> tuple[Release, ...]:
    """Return the verified releases of a suite, of its -updates and of its -security; sid has neither of the two.

    If -updates is missing, warn and continue: the next point release has the same packages. If -security is missing,
    fail, because an attacker on the network could hide security fixes. Raises BaseImageError and RegistryError.
    """
    keys = keyring.read_bytes()
    wanted = [("main", suite)]
    wanted += [] if suite in ROLLING_SUITES else [("main", f"{suite}-updates"), ("security", f"{suite}-security")]
    with ThreadPoolExecutor(len(wanted)) as pool:
        found = list(pool.map(lambda item: _fetch_release(item[0], item[1], mirrors, ctx, keys), wanted))
    if None in found:
        url = redact_url(f"{mirrors.root('main')}/dists/{suite}-updates/InRelease")
        ctx.progress.warn(f"{url} does not exist: continuing without the updates between point releases")
    return tuple(release for release in found if release is not None)


def _fetch_release(archive: str, suite: str, mirrors: Mirrors, ctx: Context, keys: bytes) -> Release | None:
    url = f"{mirrors.root(archive)}/dists/{suite}/InRelease"
    if (signed := transport.read_document(mirrors.client(ctx), url, limit=RELEASE_LIMIT)) is not None:
        text = verify(signed, keys, redact_url(url))
        now = time.time() if mirrors.check_valid_until else None
        return read_release(text, redact_url(url), suite, archive, now=now)
    message = f"{redact_url(url)} does not exist (the mirror is from {mirrors.origin})"
    if suite.endswith("-updates"):
        return None  # the caller warns
    if archive == "security":
        hint = f"`[tool.hatch-docker.debian] security-mirror` or {SECURITY_VARIABLE} sets one that has security updates"
        raise BaseImageError(f"{message}; {hint}")
    raise BaseImageError(f"{message}; set another one with {ALTERNATIVES}")


# Indexes in memory, so that the base and the builder root, which are made in parallel, read them once.
_indexes: WeakValueDictionary[tuple[str, ...], PackageIndex] = WeakValueDictionary()
_reading = threading.Lock()


def fetch_package_index(indexes: Sequence[ArchiveFile], mirrors: Mirrors, ctx: Context, task: Task) -> PackageIndex:
    """Return the packages of some index files, with the highest version of each name. `task` shows the progress.

    Raises RegistryError if the mirror does not have an index file any more.
    """
    key = tuple(index.digest for index in indexes)
    with _reading:
        if (known := _indexes.get(key)) is None:
            known = _indexes[key] = _read_indexes(indexes, mirrors, ctx, task)
        return known


def _read_indexes(indexes: Sequence[ArchiveFile], mirrors: Mirrors, ctx: Context, task: Task) -> PackageIndex:
    def read(index: ArchiveFile) -> tuple[str, bytes]:
        url = fetch_file(index, mirrors, ctx, task.advance)
        return index.archive, unpack_index(ctx.store.blob_path(index.digest), redact_url(url))

    with ThreadPoolExecutor(len(indexes)) as pool:
        task.expect(sum(index.size for index in indexes if not ctx.store.has(index.digest)))
        return read_package_index(list(pool.map(read, indexes)))


def unpack_index(path: Path, name: str) -> bytes:
    """Return the contents of a Packages.xz. Raises BaseImageError, naming `name`, if it is damaged or too large."""
    try:
        with path.open("rb") as stream:
            return b"".join(pieces(Decompressed(stream, PACKAGES_LIMIT, compression="xz"), CHUNK))
    except ImageError as error:
        raise BaseImageError(f"{name} cannot be read: {error}") from error


def fetch_file(file: ArchiveFile, mirrors: Mirrors, ctx: Context, advance: Advance) -> str:
    """Download a file of the archive into the store, unless the store has it. Return its URL. Raises RegistryError."""
    url = f"{mirrors.root(file.archive)}/{file.path}"
    transport.fetch(ctx.store, mirrors.client(ctx), url, digest=file.digest, size=file.size, advance=advance)
    return url


def read_package_index(indexes: Sequence[tuple[str, bytes]]) -> PackageIndex:
    """Return the packages of some Packages files. `indexes`: pairs of the archive's name and the text of the file.

    A stanza is parsed only when its package is looked up, because parsing all 69 000 takes seconds.
    """
    stanzas: dict[str, list[tuple[str, bytes, int]]] = {}
    for archive, text in indexes:
        text = text.lstrip(b"\n")
        place = -2 if text.startswith(PACKAGE) else text.find(b"\n\n" + PACKAGE)
        while place != -1:
            start = place + 2
            name, _, _ = text[start + len(PACKAGE) : start + NAME_LIMIT].partition(b"\n")
            stanzas.setdefault(name.decode(errors="replace").strip(), []).append((archive, text, start))
            place = text.find(b"\n\n" + PACKAGE, start)

    @functools.cache
    def find(name: str) -> Package | None:
        rows = [(_stanza(text, start), archive) for archive, text, start in stanzas.get(name, ())]
        found = [package_of(parse_fields(stanza.decode(errors="replace")), archive) for stanza, archive in rows]
        return max(found, key=lambda package: version_key(package.version), default=None)

    return PackageIndex(stanzas, find, lambda: _providers(stanzas))


def _stanza(text: bytes, start: int) -> bytes:
    """Return the stanza that begins at the offset `start` of a Packages file."""
    end = text.find(b"\n\n", start)
    return (text[start:] if end < 0 else text[start:end]).strip(b"\n")


def _providers(stanzas: Mapping[str, list[tuple[str, bytes, int]]]) -> dict[str, list[str]]:
    """Return the packages that may provide each virtual name. Versions are not parsed here."""
    providers: dict[str, list[str]] = {}
    for name, found in stanzas.items():
        for _archive, text, begin in found:
            stanza = _stanza(text, begin)
            start = stanza.find(b"\nProvides: ")
            if start >= 0:
                line = stanza[start + 11 :].partition(b"\n")[0].decode(errors="replace")
                for virtual in re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", line):
                    providers.setdefault(virtual, []).append(name)
    return providers


def package_of(fields: Mapping[str, str], archive: str) -> Package:
    """Return the package with the fields of a stanza. Raises BaseImageError if a field is missing or invalid."""
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
