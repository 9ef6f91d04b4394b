"""The parts of an sdist that determine its wheel: contents and build system (PEP 517, PEP 518)."""

import contextlib
import hashlib
import io
import re
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.core.streams import HashingStream, Readable, drain
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.paths import safe_path
from hatch_docker.oci.tar import Entry, read_tar
from hatch_docker.project.pyproject import without_our_table
from hatch_docker.wheels.install.archive import ZIP_ERRORS, open_archive
from hatch_docker.wheels.target import parse_requirement

LIMIT = 2 << 30         # bytes that an sdist may unpack to
MEMBERS = 200_000       # files of an sdist
NAMES = 16 << 20        # characters of their names, which are kept in memory
DOCUMENT = 1 << 20      # bytes of a pyproject.toml, PKG-INFO or Cargo.toml
TABLE = "pyproject-in-wheel"  # fact by content: the first `Sdist.table` whose wheel contained a pyproject.toml
LEGACY = "setuptools.build_meta:__legacy__"


@dataclass(frozen=True, slots=True)
class Sdist:
    """An sdist that was read. `content`: a key of its files without their times, owners and compression.

    `content` excludes [tool.hatch-docker]: the options of the builder have their own key, and the other options do not
    affect the wheel. `table`: digest of the complete pyproject.toml, for wheels that contain a copy. `subdirectory`:
    the project's directory, "" for the top directory.
    """

    open: Callable[[], Path]              # returns the path of the file; may build it
    name: str                             # the file name on the index
    content: str
    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]
    table: str = ""
    subdirectory: str = ""


def read_sdist(path: Path, name: str = "", subdirectory: str = "") -> Sdist:
    """Read an sdist. `name`: its file name if `path` has another. Raise WheelError if it cannot be read."""
    name = name or path.name
    if not name.endswith((".tar.gz", ".zip")):
        raise WheelError(f"{name} is not an sdist that can be built: only .tar.gz (PEP 625) and .zip are")
    files: list[list[object]] = []
    names = 0
    pyproject, table = b"", ""
    place = "/".join(filter(None, (subdirectory, "pyproject.toml")))
    try:
        for entry, content in sdist_members(path, name):
            hashed = HashingStream(content or io.BytesIO())
            if content is not None and entry.path.partition("/")[2] == place:
                pyproject = hashed.read(DOCUMENT)
            drain(hashed)
            names += len(entry.path) + len(entry.target)
            if len(files) >= MEMBERS or names > NAMES:
                raise WheelError(f"{name} holds more than {MEMBERS} files, or names of {NAMES >> 20} MB")
            executable, digest = bool(entry.mode & 0o100), hashed.hash.hexdigest()
            if entry.path.partition("/")[2] == place:
                table, digest = digest, _without_table(pyproject, digest)
            files.append([entry.path, entry.kind, executable, entry.target, digest])
    except (OSError, ImageError) as error:
        raise WheelError(f"cannot read the sdist {name}: {error}") from error
    key = key_of(sorted(files, key=lambda row: str(row[0])), *([subdirectory] if subdirectory else []))
    return Sdist(lambda: path, name, key, *_build_system(pyproject, name), table, subdirectory)


def _without_table(pyproject: bytes, digest: str) -> str:
    """Return the digest of a pyproject.toml without [tool.hatch-docker]; `digest` if it has no such table."""
    try:
        text = pyproject.decode() if len(pyproject) < DOCUMENT else ""  # otherwise it may be truncated
    except UnicodeDecodeError:  # _build_system raises the error
        return digest
    rest = without_our_table(text)
    return digest if rest == text else hashlib.sha256(rest.encode()).hexdigest()


def with_table(source: Sdist, store: Store) -> Sdist:
    """Return the sdist, with the complete pyproject.toml in its content key if its wheel is known to contain a copy."""
    first = store.recall(TABLE, source.content)
    return source if first in (None, source.table) else replace(source, content=key_of(source.content, source.table))


def note_table(source: Sdist, wheel: Path, store: Store) -> None:
    """Remember that a wheel contains a pyproject.toml, which may be a copy of the sdist's; see `with_table`."""
    with contextlib.suppress(*ZIP_ERRORS), open_archive(wheel) as archive:
        if any(name.rpartition("/")[2] == "pyproject.toml" for name in archive.namelist()):
            store.remember(TABLE, source.content, source.table)


def sdist_members(path: Path, name: str) -> Iterator[tuple[Entry, Readable | None]]:
    """Yield the members of an sdist with the contents of its files. The suffix of `name` decides whether it is a .zip.

    Raise OSError or ImageError if the sdist cannot be read, or unpacks to more than LIMIT bytes.
    """
    if name.endswith(".zip"):
        yield from _zip_members(path)
        return
    with path.open("rb") as stream:
        yield from read_tar(Decompressed(stream, LIMIT))


def sdist_documents(path: Path, filename: str, names: Collection[str], subdirectory: str = "") -> dict[str, bytes]:
    """Return the contents of small files in the project's directory of an sdist by name; missing `names` are skipped.

    Raise OSError or ImageError if the sdist cannot be read.
    """
    found: dict[str, bytes] = {}
    for entry, content in sdist_members(path, filename):
        directory, _, name = entry.path.partition("/")[2].rpartition("/")
        if directory == subdirectory and name in names and content is not None and entry.size < DOCUMENT:
            found[name] = content.read(DOCUMENT)
        if len(found) == len(names):
            break
    return found


def rust_version(source: Sdist) -> str:
    """Return the highest `rust-version` in the Cargo.toml files of an sdist, "" if there is none."""
    found = []
    for entry, content in sdist_members(source.open(), source.name):
        if content is not None and entry.path.endswith("/Cargo.toml"):
            found += re.findall(rb'(?m)^rust-version\s*=\s*"(\d+(?:\.\d+)*)"', content.read(DOCUMENT))
    return max(found, key=lambda text: [*map(int, text.split(b"."))], default=b"").decode()


def _zip_members(path: Path) -> Iterator[tuple[Entry, Readable | None]]:
    try:
        with open_archive(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > LIMIT:
                raise ImageError(f"it unpacks to more than {LIMIT >> 20} MB")
            for info in infos:
                mode = info.external_attr >> 16 & 0o777
                with archive.open(info) as content:
                    yield Entry(safe_path(info.filename), "file", mode, 0, size=info.file_size), content
    except ZIP_ERRORS as error:
        raise ImageError(str(error)) from error


def _build_system(pyproject: bytes, name: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    try:
        table = tomllib.loads(pyproject.decode()).get("build-system", {"requires": ["setuptools"]})
        requires, backend = table["requires"], table.get("build-backend", LEGACY)
        backend_path = table.get("backend-path", [])
        if not all(isinstance(item, str) for item in (*requires, backend, *backend_path)):
            raise WheelError(f"{name}: [build-system] of its pyproject.toml has values that are not texts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WheelError(f"{name}: [build-system] of its pyproject.toml is not valid (PEP 518): {error}") from error
    for line in requires:  # another string could be an option or a local file for the resolver
        parse_requirement(line, f"{name}: [build-system] requires")
    return tuple(requires), backend, tuple(backend_path)
