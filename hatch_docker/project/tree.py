"""Files of a project that its build backend may read to build the sdist or the wheel."""

import functools
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import ConfigError, ProgramError
from hatch_docker.core.files import is_cache, is_output
from hatch_docker.core.secrets import secret_part
from hatch_docker.project.model import Sources
from hatch_docker.project.repository import ignore_files, own_repository, repository_of, run_git

RECIPE = 1
# Directories that tools create and no sdist needs; they are skipped unless git tracks their files.
TOOL_DIRECTORIES = frozenset({
    ".git", ".hg", ".svn", ".tox", ".nox", ".venv", "node_modules", "__pycache__",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".eggs",
})
# Directories that tools create beside one of PROJECT_FILES. Elsewhere they are sources, such as src/target/ of a crate.
OUTPUT_NAMES = frozenset({"dist", "build", "target", "venv"})
PROJECT_FILES = ("pyproject.toml", "setup.py", "Cargo.toml")
SOURCE_MARKERS = ("__init__.py", "build.rs", "Cargo.toml", "meson.build")  # an OUTPUT_NAMES directory with one: sources


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a project, as paths relative to `top`. `content`: the cache key of everything that its sdist needs.

    `top`: the repository's directory if the backend may read the version from git, else the project's directory.
    `project`: the project's directory relative to `top`, "." for `top` itself.
    """

    top: Path
    project: str
    files: tuple[str, ...]
    content: str
    repository: Path | None = None        # git's common directory, if the backend may run git


def read_tree(root: Path, environ: Mapping[str, str], *, versioned: bool) -> Tree:
    """Return the files that the sdist of the project at `root` may need; raises ConfigError for an unreadable file.

    In a git repository these are the files that git does not ignore, elsewhere all files outside TOOL_DIRECTORIES and
    similar directories. Files that may contain secrets (`secret_part`) are left out. `versioned`: include the whole
    repository, and its commit and tags in the key.
    """
    top = repository_of(root)
    state, repository = "", None
    if top is not None and versioned and _git(top, environ, "rev-parse", "--git-dir"):
        state = _git(top, environ, "describe", "--tags", "--long", "--always", "--dirty")
        state += _git(top, environ, "rev-parse", "HEAD")
        repository = own_repository(top, environ)  # not the repository of another checkout, which may be private
    start = top if repository is not None and top is not None else root
    files = _git_files(start, environ) if top is not None else None
    names = tuple(sorted(name for name in files or _walk(start) if not secret_part(name)))
    rows = [[name, *_file_key(start / name)] for name in names]
    project = os.path.relpath(root, start)
    return Tree(start, project, names, key_of(RECIPE, project, state, rows), repository)


def _git(top: Path, environ: Mapping[str, str], *arguments: str) -> str:
    try:
        return run_git(top, *arguments, environ=environ)
    except ProgramError:
        return ""


def _git_files(start: Path, environ: Mapping[str, str]) -> list[str] | None:
    """Return the tracked files below a directory, and the untracked ones that no tool created; None if git fails."""
    try:
        known = run_git(start, "ls-files", "-z", "--cached", "--recurse-submodules", environ=environ).split("\0")
        other = run_git(start, "ls-files", "-z", "--others", "--exclude-standard", environ=environ).split("\0")
    except ProgramError:
        return None

    @functools.cache
    def in_tool_directory(directory: Path) -> bool:
        return directory != start and (in_tool_directory(directory.parent) or _is_tool_directory(directory))

    @functools.cache
    def is_real(directory: Path) -> bool:
        if directory == start:
            return True
        return directory.name != ".." and not directory.is_symlink() and is_real(directory.parent)

    for name in other:
        if name.endswith("/"):  # git prints another repository inside this one as a directory
            known += [] if in_tool_directory(start / name) else [name + inner for inner in _walk(start / name)]
        elif name and not is_output(start / name) and not in_tool_directory((start / name).parent):
            known.append(name)
    # The index may contain hand-made paths such as ../x, or a directory that is a symlink now: stay inside `start`.
    names = (name for name in dict.fromkeys(known) if name and not name.startswith("/"))
    return [name for name in names if os.path.lexists(start / name) and is_real((start / name).parent)]


def tree_sources(root: Path, environ: Mapping[str, str], *, versioned: bool) -> Sources | None:
    """Return the files that `read_tree` may include; None if it reads a repository in another directory."""
    top = repository_of(root)
    start, tracked = root, set[str]()
    others: tuple[Path, ...] = ()
    if top is not None:
        others = tuple(ignore_files(top, environ))
        if versioned:
            if not (top / ".git").is_dir():
                return None
            start = top
            others += tuple(top / ".git" / name for name in ("refs/tags", "packed-refs", "reftable", "shallow"))
        known = _git(start, environ, "ls-files", "-z", "--cached", "--recurse-submodules").split("\0")
        tracked = {str(place) for name in known for place in PurePath(name).parents}

    def is_skipped(path: str) -> bool:
        return path.rpartition("/")[2] == ".git" or (path not in tracked and _is_tool_directory(start / path))

    return Sources(start, is_skipped, others, marker_names=(*SOURCE_MARKERS, "CACHEDIR.TAG"))


def _is_tool_directory(directory: Path) -> bool:
    """Return whether a tool created a directory, so that it is not part of the project."""
    if directory.name in TOOL_DIRECTORIES or directory.name.endswith(".egg-info") or is_cache(directory):
        return True
    return (
        directory.name in OUTPUT_NAMES
        and any((directory.parent / name).is_file() for name in PROJECT_FILES)
        and not any((directory / name).is_file() for name in SOURCE_MARKERS)
    )


def _walk(start: Path) -> list[str]:
    found: list[str] = []
    for directory, directories, names in os.walk(start):
        directories[:] = [name for name in directories if not _is_tool_directory(Path(directory, name))]
        files = (Path(directory, name) for name in names)
        found += [os.path.relpath(path, start) for path in files if not is_output(path)]
    return found


def _file_key(path: Path) -> list[Any]:
    """Return the properties of a file that an sdist stores: executable bit and digest, or a symlink's target."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return ["link", os.readlink(path)]  # noqa: PTH115
        if stat.S_ISDIR(status.st_mode):
            return ["submodule"]  # one that is not checked out
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} of the project is not a regular file; remove it, or have git ignore it")
        with path.open("rb") as stream:
            return [bool(status.st_mode & 0o100), hashlib.file_digest(stream, "sha256").hexdigest()]
    except OSError as error:
        raise ConfigError(f"cannot read {path} of the project: {error.strerror}") from error
