"""The layer of a CPython out of an archive: its files in /usr/local, and what a service does not use left out."""

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from hatch_docker.bases.debian.files import without_slim
from hatch_docker.bases.debian.layer import DebianLayer, LayerContents
from hatch_docker.bases.debian.ldconfig import find_libraries
from hatch_docker.bases.debian.maintainer_scripts import BUNDLE, loader_cache
from hatch_docker.bases.debian.python_archive import PythonArchive
from hatch_docker.bases.debian.rootfs import Entries, symlink, text_file, with_parents, write_into
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry, read_tar

RECIPE = 1               # raise it when the same archive gives another layer or other libraries
LIMIT = 2 << 30          # bytes unpacked; an archive has 150 MB
PREFIX = "usr/local"
_LIBRARY = "lib/python3\\.\\d+t?"
# An installer, its wheel and its marker; documentation; programs that are scripts of a developer's.
_NEVER = re.compile(
    rf"share(/.*)?|lib/pkgconfig(/.*)?|{_LIBRARY}/(ensurepip|site-packages/.+|EXTERNALLY-MANAGED)(/.*)?"
    rf"|bin/(?!python3(\.\d+)?t?$).*|(.*/)?__pycache__(/.*)?|{_LIBRARY}/config-[^/]*(/.*)?|lib/[^/]*\.a"
)
# Tk, which needs a display, and is a fifth of an archive.
_NOT_SLIM = re.compile(
    rf"lib/(lib(tcl|tk)|(tcl|tk|itcl|thread|tdbc)\d)[^/]*(/.*)?|{_LIBRARY}/tkinter(/.*)?|.*/_tkinter\.[^/]*"
)
_EMBEDDING = re.compile(r"lib/libpython3[^/]*\.so[.0-9]*")
# Texts that libraries have of themselves: name, pattern of the version, and a text that must be there too.
_BUNDLED = (
    ("openssl", rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) \d{1,2} [A-Z][a-z]{2} 20\d\d", b"OpenSSL"),
    ("sqlite", rb"\0(3\.[3-9]\d\.\d{1,2})\0", b"SQLite format 3"),
    ("zlib", rb"deflate (1\.\d[\d.]{0,8}) Copyright", b"Gailly"),
    ("bzip2", rb"\0(1\.\d\.\d{1,2}), \d{1,2}-[A-Z][a-z]{2}-20\d\d", b"bzip2"),
    ("expat", rb"expat_(\d\.\d{1,2}\.\d{1,2})\0", b"expat_"),
    ("ncurses", rb"ncurses (\d\.\d{1,2}\.\d{8})\0", b"ncurses"),
)


def members(path: Path, name: str) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """Yield the members of an archive below its `python/`, with paths relative to that. Raises BaseImageError."""
    try:
        with path.open("rb") as stream:
            for entry, content in read_tar(Decompressed(stream, LIMIT)):
                top, _, below = entry.path.partition("/")
                if top != "python":
                    raise BaseImageError(f"{name} has /{entry.path} beside python/: it is no install_only archive")
                if below and entry.kind in ("file", "directory", "symlink", "hardlink"):
                    yield replace(entry, path=below), content
    except ImageError as error:
        raise BaseImageError(f"{name} cannot be read: {error}") from error


def bundled_libraries(path: Path, name: str) -> dict[str, str]:
    """Return the libraries that an archive has in its programs and shared libraries, with their versions."""
    found: dict[str, str] = {}
    for entry, content in members(path, name):
        if content is not None and re.search(r"^bin/python|\.so[.0-9]*$", entry.path):
            data = content.read()
            for library, pattern, needed in _BUNDLED if data.startswith(b"\x7fELF") else ():
                if needed in data and (match := re.search(pattern, data)):
                    found.setdefault(library, match[1].decode())
    return dict(sorted(found.items()))


def archive_entries(path: Path, archive: PythonArchive, place: Path, *, slim: bool) -> Entries:
    """Return the entries of an archive's layer, their contents written to `place`, which has the layer below.

    Raises BaseImageError for an archive without the interpreter that its name promises.
    """
    entries: Entries = {}
    for entry, content in members(path, archive.filename):
        if _NEVER.fullmatch(entry.path) or (slim and _NOT_SLIM.fullmatch(entry.path)):
            continue
        made = _placed(entry, place)
        if slim and without_slim(made.path):
            continue
        if content is not None:
            file = place / made.path
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                out = file.open("xb")
            except (FileExistsError, NotADirectoryError):
                raise BaseImageError(f"{archive.filename} has python/{entry.path} twice, or below a file") from None
            with out:
                while block := content.read(1 << 18):
                    out.write(block)
            file.chmod(made.mode)
        entries[made.path] = made
    program = archive.interpreter.path.lstrip("/")
    plain = program.removesuffix("t")
    if plain in entries and entries[plain].kind == "file" and entries.get(program, entries[plain]).kind == "symlink":
        # `make install` gives the free-threaded one two names, and tar calls the second a link to the first.
        (place / plain).rename(place / program)
        entries[program] = replace(entries[plain], path=program, content=place / program)
        entries[plain] = symlink(plain, posixpath.basename(program))
    if entries.get(program) is None or entries[program].kind != "file":
        raise BaseImageError(f"{archive.filename} has no python/{program.removeprefix(f'{PREFIX}/')}")
    with (place / program).open("rb") as stream:
        elf = read_elf(stream)
    needed = frozenset(elf.needed if elf is not None else ())
    if slim:  # what embeds Python is no program of a wheel
        keep = any(_EMBEDDING.fullmatch(f"lib/{name}") for name in needed)
        drop = [name for name in entries if _EMBEDDING.fullmatch(name.removeprefix(f"{PREFIX}/")) and not keep]
        entries = {name: entry for name, entry in entries.items() if name not in drop}
    entries["etc/ssl/cert.pem"] = symlink("etc/ssl/cert.pem", f"/{BUNDLE}")
    write_into(place, [entry for entry in entries.values() if entry.kind == "symlink"])
    return entries


def _placed(entry: Entry, place: Path) -> Entry:
    """Return an entry as the image has it: in /usr/local, of root, who alone may write; a hard link as a link."""
    path = f"{PREFIX}/{entry.path}"
    common = replace(entry, path=path, uid=0, gid=0, mtime=SOURCE_DATE)
    if entry.kind == "hardlink":
        target = posixpath.relpath(entry.target.partition("/")[2], posixpath.dirname(entry.path))
        return replace(common, kind="symlink", mode=0o777, target=target)
    if entry.kind == "file":
        return replace(common, mode=0o755 if entry.mode & 0o111 else 0o644, content=place / path)
    return replace(common, mode=0o777 if entry.kind == "symlink" else 0o755)


def finished(entries: Entries, archive: PythonArchive, below: DebianLayer) -> LayerContents:
    """Return the layer with the loader's cache of all libraries, and with a bill of materials that scanners find."""
    known = {item.soname: item for item in below.libraries}
    known |= {item.soname: item for item in find_libraries(entries, below.search) if item.soname not in known}
    libraries = sorted(known.values())
    more = [text_file(f"{PREFIX}/share/sbom/python.cdx.json", _document(archive))]
    more += [loader_cache(libraries)] if len(libraries) > len(below.libraries) else []
    added = with_parents({**entries, **{entry.path: entry for entry in more}})
    kept = {path: entry for path, entry in added.items() if entry.kind != "directory" or path not in below.directories}
    return LayerContents(kept, libraries, list(below.search))


def _document(archive: PythonArchive) -> str:
    """Return a CycloneDX document (1.5) of an archive: the interpreter, and the libraries in it."""
    version = archive.interpreter.version
    sums = [{"alg": "SHA-256", "content": archive.digest.removeprefix("sha256:")}]
    rows = [("application", "python", version), *(("library", name, value) for name, value in archive.bundled)]
    components = [
        {"type": kind, "name": name, "version": value, "purl": f"pkg:generic/{name}@{value}",
         "bom-ref": f"pkg:generic/{name}@{value}"} for kind, name, value in rows
    ]  # fmt: skip
    components[0]["hashes"] = sums  # type: ignore[assignment]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    return json.dumps(document, indent=1) + "\n"
