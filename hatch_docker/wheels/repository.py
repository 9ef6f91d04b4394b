"""Archives of git commits, which are built like sdists. The same commit gives the same bytes.

If the project's files have no static version, the backend may compute the version with git. Then the archive has a .git
directory with the commit's history and tags.
"""

import io
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from packaging.version import InvalidVersion, Version

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.core.streams import pieces
from hatch_docker.core.tables import table_at
from hatch_docker.oci.compression import Compression
from hatch_docker.project.git_files import repository_files
from hatch_docker.project.git_remote import Commit, fetch_commit, fetch_history, submodule_source
from hatch_docker.project.git_source import GitSource
from hatch_docker.project.pyproject import static_table

RECIPE = 1
DEPTH = 8  # of nested submodules
_SUBMODULE, _TREE, _LINK = "160000", "040000", "120000"  # modes of git


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive in the store: SHA-256, size in bytes, static version.

    If the version is "", the archive has a .git directory.
    """

    sha256: str
    size: int
    version: str


def repository_archive(source: GitSource, ctx: Context) -> Archive:
    """Return the archive of a source that names a commit. Raise WheelError, and the errors of `fetch_commit`."""
    key = key_of(RECIPE, str(source))
    known = ctx.store.recall("git archive", key)
    if known and ctx.store.get(f"sha256:{known[0]}"):
        return Archive(*known)
    with fetch_commit(source, ctx) as commit, commit.files.with_name("plain.tar").open("w+b") as plain:
        version = _version(commit)
        with tarfile.open(mode="w", fileobj=plain, format=tarfile.PAX_FORMAT) as tar:
            _add_commit(tar, commit, "source", 0)
            if not version:
                _add_repository(tar, fetch_history(commit))
        plain.seek(0)
        digest_and_size = _compress(plain, ctx)
    archive = Archive(*digest_and_size, version)
    ctx.store.remember("git archive", key, [archive.sha256, archive.size, archive.version])
    return archive


def _compress(plain: IO[bytes], ctx: Context) -> tuple[str, int]:
    """Compress a tar file into the store; return the SHA-256 and the size of the result."""
    compressor, size = Compression("gzip", 1).compressor(), 0
    with ctx.store.writer() as writer:
        for piece in pieces(plain):
            size += writer.write(compressor.compress(piece))
        size += writer.write(compressor.flush())
        return writer.commit().removeprefix("sha256:"), size


def _version(commit: Commit) -> str:
    """Return the static version in a commit's pyproject.toml, "" if it has none."""
    path = "/".join(filter(None, (commit.source.subdirectory, "pyproject.toml")))
    names = {file.path: file.name for file, _ in commit.entries()}
    if path not in names:
        if commit.source.subdirectory and not any(name == commit.source.subdirectory for name in names):
            raise WheelError(f"{commit.source}: the commit has no directory {commit.source.subdirectory}")
        return ""
    return static_identity(next(iter(commit.contents([names[path]]))).content)[1]


def static_identity(pyproject: bytes) -> tuple[str, str]:
    """Return the static name and version in a pyproject.toml ([project] or Poetry's table); "" if missing."""
    try:
        tables = tomllib.loads(pyproject.decode())
    except (ValueError, RecursionError):
        return "", ""
    table = static_table(tables) or table_at(tables, "tool", "poetry")
    name, version = (value if isinstance(value := table.get(key), str) else "" for key in ("name", "version"))
    try:
        return name, str(Version(version)) if version != "0.0.0" else ""  # as poetry-dynamic-versioning requires
    except InvalidVersion:
        return name, ""


def _add_commit(tar: tarfile.TarFile, commit: Commit, place: str, depth: int) -> None:
    """Add the files of a commit and of its submodules below the directory `place`."""
    entries = [file for file, _ in commit.entries()]
    files = [file for file in entries if file.mode not in (_SUBMODULE, _TREE)]
    for file, found in zip(files, commit.contents([file.name for file in files]), strict=True):
        info = tarfile.TarInfo(f"{place}/{file.path}")
        if file.mode == _LINK:
            info.type, info.linkname = tarfile.SYMTYPE, found.content.decode(errors="surrogateescape")
            tar.addfile(info)
        else:
            _add(tar, info, found.content, 0o755 if file.mode == "100755" else 0o644)
    submodules = commit.submodules()
    for file in entries:
        if file.mode == _SUBMODULE and file.path in submodules:
            if depth == DEPTH:
                raise WheelError(f"{commit.source} has submodules of submodules, more than {DEPTH} deep")
            source = submodule_source(commit.source, submodules[file.path], file.name)
            with fetch_commit(source, commit.ctx) as inner:
                _add_commit(tar, inner, f"{place}/{file.path}", depth + 1)


def _add_repository(tar: tarfile.TarFile, commit: Commit) -> None:
    """Add a .git directory with the commit checked out, its history and its tags."""
    entries = [file for file, _ in commit.entries()]
    names = {file.name for file in entries if file.mode != _SUBMODULE}

    def objects() -> Iterator[Any]:
        yield from commit.history_objects()
        yield from commit.contents(sorted(names | {commit.root_tree()}))

    for directory in ("refs", "objects"):
        info = tarfile.TarInfo(f"source/.git/{directory}")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    files = [file for file in entries if file.mode != _TREE]
    for path, content in repository_files(commit.source.ref, files, objects(), commit.tags()):
        _add(tar, tarfile.TarInfo(f"source/.git/{path}"), content, 0o644)


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: bytes, mode: int) -> None:
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))
