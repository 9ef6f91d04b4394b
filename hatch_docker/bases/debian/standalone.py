"""The CPython of python-build-standalone: finding and downloading an archive, and making a layer of it.

A mirror has a directory for each release, with `SHA256SUMS` and the archives, which are named as in `_NAME`. Archives
with the layout "install_only_stripped" are used: a tree `python/` with bin, include, lib and share. uv installs from
the same mirrors. In the layer the files are in /usr/local, without documentation and developers' tools.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from packaging.version import Version

from hatch_docker.bases.debian.files import excluded_from_slim
from hatch_docker.bases.debian.layer import DebianLayer, LayerContents
from hatch_docker.bases.debian.ldconfig import find_libraries
from hatch_docker.bases.debian.maintainer_scripts import BUNDLE, loader_cache
from hatch_docker.bases.debian.rootfs import Entries, symlink, text_file, with_parents, write_into
from hatch_docker.bases.model import Interpreter
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.model import Platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry, read_tar
from hatch_docker.plan.model import PYTHON_MIRROR, BasePlan, StandalonePlan

ARCHIVE_RECIPE = 1     # raise it when the same mirror gives another archive
SUMS = "SHA256SUMS"
SUMS_LIMIT = 4 << 20   # bytes; a release has 150 KB
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_NAME = re.compile(
    r"cpython-(?P<version>3\.\d+\.\d+(?:(?:a|b|rc)\d+)?)\+(?P<release>\d{8})-(?P<machine>x86_64|aarch64)"
    r"-unknown-linux-gnu(?P<free>-freethreaded)?-install_only_stripped\.tar\.gz"
)
PYTHON_RECIPE = 1      # raise it when the same archive gives another layer or other libraries
LIMIT = 2 << 30        # bytes unpacked; an archive has 150 MB
PREFIX = "usr/local"
_LIBRARY = "lib/python3\\.\\d+t?"
# pip with its bundled wheel and its marker file, documentation, scripts for developers, and files for linking.
_NEVER = re.compile(
    rf"share(/.*)?|lib/pkgconfig(/.*)?|{_LIBRARY}/(ensurepip|site-packages/.+|EXTERNALLY-MANAGED)(/.*)?"
    rf"|bin/(?!python3(\.\d+)?t?$).*|(.*/)?__pycache__(/.*)?|{_LIBRARY}/config-[^/]*(/.*)?|lib/[^/]*\.a"
)
# Tk needs a display, and is a fifth of an archive.
_NOT_SLIM = re.compile(
    rf"lib/(lib(tcl|tk)|(tcl|tk|itcl|thread|tdbc)\d)[^/]*(/.*)?|{_LIBRARY}/tkinter(/.*)?|.*/_tkinter\.[^/]*"
)
_EMBEDDING = re.compile(r"lib/libpython3[^/]*\.so[.0-9]*")
# Version strings inside libraries: name, pattern with the version, and another string that must be there too.
_BUNDLED = (
    ("openssl", rb"OpenSSL (\d+\.\d+\.\d+[a-z]?) \d{1,2} [A-Z][a-z]{2} 20\d\d", b"OpenSSL"),
    ("sqlite", rb"\0(3\.[3-9]\d\.\d{1,2})\0", b"SQLite format 3"),
    ("zlib", rb"deflate (1\.\d[\d.]{0,8}) Copyright", b"Gailly"),
    ("bzip2", rb"\0(1\.\d\.\d{1,2}), \d{1,2}-[A-Z][a-z]{2}-20\d\d", b"bzip2"),
    ("expat", rb"expat_(\d\.\d{1,2}\.\d{1,2})\0", b"expat_"),
    ("ncurses", rb"ncurses (\d\.\d{1,2}\.\d{8})\0", b"ncurses"),
)


@dataclass(frozen=True, slots=True)
class PythonArchive:
    """An archive of CPython: its path relative to the mirror, its digest, and pairs of bundled library and version."""

    path: str                                 # "20261003/cpython-3.14.8+20261003-x86_64-unknown-linux-gnu-...tar.gz"
    digest: str
    bundled: tuple[tuple[str, str], ...] = ()

    @property
    def filename(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter of the archive, at its path in /usr/local."""
        found = _NAME.fullmatch(self.filename)
        assert found is not None  # find_archive returns no other names
        plain = Interpreter("", found["version"], "t" if found["free"] else "")
        return Interpreter(f"/usr/local/bin/python{plain.name}", plain.version, plain.abi)


def find_archive(plan: BasePlan, platform: Platform, ctx: Context) -> PythonArchive:
    """Return the archive for a base and a platform: from the image lock, else the newest archive on the mirror.

    Raises BaseImageError if there is no archive, ConfigError for a lock that is out of date, and RegistryError.
    """
    assert plan.standalone is not None
    question = {"name": plan.name, "platform": str(platform)}
    pins = ctx.image_lock
    if pins is not None and (entry := pins.find("python", question)) is not None:
        return PythonArchive(entry["file"], f"sha256:{entry['sha256']}")
    mirror = _mirror(plan, ctx)
    own, release = plan.standalone, plan.standalone.release
    if mirror.startswith("file:") and not release:
        found = _newest(own, platform, _local(mirror))
    elif release:
        key = key_of("python archive", ARCHIVE_RECIPE, mirror, release, own.python, str(platform))
        found = ctx.store.recall_or_make("python-archive", key, lambda: _released(own, platform, mirror, ctx))
    else:
        raise BaseImageError(
            f"base {plan.name}: a mirror has many releases; set [tool.hatch-docker.standalone] release to one of them, "
            'such as "20261003"'
        )
    path, digest = found
    if pins is not None:
        pins.note("python", {**question, "file": path, "sha256": digest.removeprefix("sha256:")})
    return PythonArchive(path, digest)


def fetch_archive(archive: PythonArchive, plan: BasePlan, ctx: Context) -> Path:
    """Download and verify an archive, unless it is in the store, and return its file. Raises RegistryError."""
    if not ctx.store.has(archive.digest):
        with ctx.progress.task(f"downloading {archive.filename}"):
            url = f"{_mirror(plan, ctx)}/{quote(archive.path)}"
            transport.fetch(ctx.store, ctx.client, url, digest=archive.digest)
    return ctx.store.blob_path(archive.digest)


def mirror_origin(plan: BasePlan) -> str:
    """Return the name of the option or of the variable that sets the mirror of a base."""
    own = plan.standalone is not None and plan.standalone.mirror
    return "tool.hatch-docker.standalone.mirror" if own else PYTHON_MIRROR


def _mirror(plan: BasePlan, ctx: Context) -> str:
    """Return the URL of the mirror without a slash at the end. Raises BaseImageError if no mirror is configured."""
    assert plan.standalone is not None
    mirror = plan.standalone.mirror or ctx.environ.get(PYTHON_MIRROR, "")
    if mirror.startswith("/"):
        mirror = Path(mirror).as_uri()
    if not re.match(r"https?://[^/]|file:///", mirror):
        raise BaseImageError(
            f"base {plan.name} needs a mirror of python-build-standalone, and "
            f"{f'{redact_url(mirror)!r} is not the URL of one' if mirror else 'none is set'}; set "
            f"[tool.hatch-docker.standalone] mirror or {PYTHON_MIRROR}: an http, https or file URL"
        )
    return mirror.rstrip("/")


def _local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _released(plan: StandalonePlan, platform: Platform, mirror: str, ctx: Context) -> tuple[str, str]:
    """Return path and digest of the newest archive in the SHA256SUMS of a release."""
    url = f"{mirror}/{plan.release}/{SUMS}"
    text = transport.read_document(ctx.client, url, limit=SUMS_LIMIT)
    if text is None:
        raise BaseImageError(
            f"{redact_url(url)} does not exist; check `release` and `mirror` of [tool.hatch-docker.standalone], and "
            f"{PYTHON_MIRROR}"
        )
    rows = {f"{plan.release}/{name}": digest for name, digest in _sums(text.decode(errors="replace"))}
    path = _best(plan, platform, list(rows), redact_url(url))
    return path, rows[path]


def _sums(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and digests in the text of a file in sha256sum(1)'s format."""
    for line in text.splitlines():
        if found := re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line.strip()):
            yield found[2], f"sha256:{found[1]}"


def _newest(plan: StandalonePlan, platform: Platform, directory: Path) -> tuple[str, str]:
    """Return path and digest of the newest archive in a local mirror: in the directory or one of its subdirectories."""
    files = {str(path.relative_to(directory)): path for place in ("*", "*/*") for path in directory.glob(place)}
    path = _best(plan, platform, list(files), str(directory))
    sums = files[path].with_name(SUMS)
    rows = dict(_sums(sums.read_text(encoding="utf-8", errors="replace"))) if sums.is_file() else {}
    return path, rows.get(files[path].name) or file_digest(files[path])


def _best(plan: StandalonePlan, platform: Platform, paths: list[str], where: str) -> str:
    """Return the path of the newest archive for a plan. Raises BaseImageError, which lists the available versions."""
    known: dict[str, set[str]] = {}
    found: list[tuple[Version, str, str]] = []
    for path in paths:
        if match := _NAME.fullmatch(path.rpartition("/")[2]):
            python = match["version"].rpartition(".")[0] + ("t" if match["free"] else "")
            known.setdefault(match["machine"], set()).add(python)
            if (python, match["machine"]) == (plan.python, MACHINES[platform.architecture]):
                found.append((Version(match["version"]), match["release"], path))
    if not found:
        others = sorted(known.get(MACHINES[platform.architecture], ()), key=lambda text: (len(text), text))
        raise BaseImageError(
            f"{where} has no install_only_stripped archive of CPython {plan.python} for {platform}; it has "
            f"{abbreviate(others) or 'none for that platform'}"
        )
    return max(found)[2]


def members(path: Path, name: str) -> Iterator[tuple[Entry, BinaryIO | None]]:
    """Yield the members of an archive, with paths relative to its directory `python/`. Raises BaseImageError."""
    try:
        with path.open("rb") as stream:
            for entry, content in read_tar(Decompressed(stream, LIMIT)):
                top, _, below = entry.path.partition("/")
                if top != "python":
                    raise BaseImageError(f"{name} has /{entry.path} beside python/: it is not an install_only archive")
                if below and entry.kind in ("file", "directory", "symlink", "hardlink"):
                    yield replace(entry, path=below), content
    except ImageError as error:
        raise BaseImageError(f"{name} cannot be read: {error}") from error


def bundled_libraries(path: Path, name: str) -> dict[str, str]:
    """Return the libraries that an archive's programs and shared libraries contain, with their versions."""
    found: dict[str, str] = {}
    for entry, content in members(path, name):
        if content is not None and re.search(r"^bin/python|\.so[.0-9]*$", entry.path):
            data = content.read()
            for library, pattern, needed in _BUNDLED if data.startswith(b"\x7fELF") else ():
                if needed in data and (match := re.search(pattern, data)):
                    found.setdefault(library, match[1].decode())
    return dict(sorted(found.items()))


def archive_entries(path: Path, archive: PythonArchive, place: Path, *, slim: bool) -> Entries:
    """Extract an archive into `place`, where the layer below is already extracted, and return the layer's entries.

    Raises BaseImageError if the archive does not have the interpreter that is in its name.
    """
    entries: Entries = {}
    for entry, content in members(path, archive.filename):
        if _NEVER.fullmatch(entry.path) or (slim and _NOT_SLIM.fullmatch(entry.path)):
            continue
        image_entry = _image_entry(entry, place)
        if slim and excluded_from_slim(image_entry.path):
            continue
        if content is not None:
            file = place / image_entry.path
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                out = file.open("xb")
            except (FileExistsError, NotADirectoryError):
                raise BaseImageError(f"{archive.filename} has python/{entry.path} twice, or below a file") from None
            with out:
                while block := content.read(1 << 18):
                    out.write(block)
            file.chmod(image_entry.mode)
        entries[image_entry.path] = image_entry
    program = archive.interpreter.path.lstrip("/")
    plain = program.removesuffix("t")
    if plain in entries and entries[plain].kind == "file" and entries.get(program, entries[plain]).kind == "symlink":
        # `make install` makes two hard links to a free-threaded interpreter. In the tar, the second name is a link to
        # the first one, python3.14. Swap them, so that the file is python3.14t.
        (place / plain).rename(place / program)
        entries[program] = replace(entries[plain], path=program, content=place / program)
        entries[plain] = symlink(plain, posixpath.basename(program))
    if entries.get(program) is None or entries[program].kind != "file":
        raise BaseImageError(f"{archive.filename} has no python/{program.removeprefix(f'{PREFIX}/')}")
    with (place / program).open("rb") as stream:
        elf = read_elf(stream)
    needed = frozenset(elf.needed if elf is not None else ())
    if slim:  # libpython is needed only by programs that embed Python, unless the interpreter itself links to it
        keep = any(_EMBEDDING.fullmatch(f"lib/{name}") for name in needed)
        drop = [name for name in entries if _EMBEDDING.fullmatch(name.removeprefix(f"{PREFIX}/")) and not keep]
        entries = {name: entry for name, entry in entries.items() if name not in drop}
    entries["etc/ssl/cert.pem"] = symlink("etc/ssl/cert.pem", f"/{BUNDLE}")
    write_into(place, [entry for entry in entries.values() if entry.kind == "symlink"])
    return entries


def _image_entry(entry: Entry, place: Path) -> Entry:
    """Return an entry for the image: in /usr/local, owned and writable by root only; hard links become symlinks."""
    path = f"{PREFIX}/{entry.path}"
    common = replace(entry, path=path, uid=0, gid=0, mtime=SOURCE_DATE)
    if entry.kind == "hardlink":
        target = posixpath.relpath(entry.target.partition("/")[2], posixpath.dirname(entry.path))
        return replace(common, kind="symlink", mode=0o777, target=target)
    if entry.kind == "file":
        return replace(common, mode=0o755 if entry.mode & 0o111 else 0o644, content=place / path)
    return replace(common, mode=0o777 if entry.kind == "symlink" else 0o755)


def finish_layer(entries: Entries, archive: PythonArchive, below: DebianLayer) -> LayerContents:
    """Return the contents of the layer: the entries, the loader's cache, and an SBOM for vulnerability scanners."""
    known = {item.soname: item for item in below.libraries}
    known |= {item.soname: item for item in find_libraries(entries, below.search) if item.soname not in known}
    libraries = sorted(known.values())
    more = [text_file(f"{PREFIX}/share/sbom/python.cdx.json", _document(archive))]
    more += [loader_cache(libraries)] if len(libraries) > len(below.libraries) else []
    added = with_parents({**entries, **{entry.path: entry for entry in more}})
    kept = {path: entry for path, entry in added.items() if entry.kind != "directory" or path not in below.directories}
    return LayerContents(kept, libraries, list(below.search))


def _document(archive: PythonArchive) -> str:
    """Return an SBOM (CycloneDX 1.5) of an archive: the interpreter and its bundled libraries."""
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
