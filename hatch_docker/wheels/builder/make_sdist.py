"""A project's tree becomes its sdist, by its own backend (PEP 517) in the builder stage."""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError, ProgramError
from hatch_docker.core.files import is_cache, is_output, remove_tree
from hatch_docker.core.process import run
from hatch_docker.core.secrets import secret_part
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.build import Builder, MoreNeededError, in_builder, made_file, make_builder
from hatch_docker.wheels.builder.sandbox import Bind
from hatch_docker.wheels.builder.sdist import Sdist
from hatch_docker.wheels.locks.pin import pin_requirements
from hatch_docker.wheels.target import Pin, Target

RECIPE = 1
# Of a tree outside version control: what tools leave, and what no sdist needs.
LEFT_OUT = frozenset({
    ".git", ".hg", ".svn", ".tox", ".nox", ".venv", "node_modules", "__pycache__",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".eggs",
})
# What tools write beside these files; elsewhere such a directory is a part of the project, as src/target/ of crates is.
OUTPUTS = frozenset({"dist", "build", "target", "venv"})
PROJECT_FILES = ("pyproject.toml", "setup.py", "Cargo.toml")
SOURCES = ("__init__.py", "build.rs", "Cargo.toml", "meson.build")  # of a directory that only has an output's name
REPOSITORY = "/repository"  # .git in the builder, read-only


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a project, by their paths relative to `top`, and a key of all that its sdist depends on.

    `top` is the repository's directory where the backend may ask version control for the version, else the project's.
    `project` is the project's directory below it, "." for `top` itself.
    """

    top: Path
    project: str
    files: tuple[str, ...]
    content: str
    repository: Path | None = None        # git's directory, where the backend may ask it
    checkout: str = "."                   # the checkout's own part of it, of a linked work tree another


def read_tree(root: Path, *, versioned: bool) -> Tree:
    """The files that may matter to the sdist of the project at `root`; raises ConfigError for what cannot be read.

    In a repository of git's those that git does not ignore, else all but what tools leave (LEFT_OUT). Files in which
    people keep secrets are left out. With `versioned` the whole repository goes along, and its state is in the key.
    """
    top = next((place for place in (root, *root.parents) if (place / ".git").exists()), None)
    state, repository, checkout = "", None, "."
    if top is not None and versioned:
        state = _git(top, "describe", "--tags", "--long", "--always", "--dirty") + _git(top, "rev-parse", "HEAD")
        places = _git(top, "rev-parse", "--path-format=absolute", "--git-common-dir", "--absolute-git-dir").split("\n")
        if len(places) > 1:
            repository, checkout = Path(places[0]), os.path.relpath(places[1], places[0])
    place = top if repository is not None and top is not None else root
    files = _listed(place) if top is not None else None
    names = tuple(sorted(name for name in files or _walked(place) if not secret_part(name)))
    rows = [[name, *_fact(place / name)] for name in names]
    project = os.path.relpath(root, place)
    return Tree(place, project, names, key_of(RECIPE, project, state, rows), repository, checkout)


def _git(top: Path, *arguments: str) -> str:
    try:
        return run(["git", "-C", str(top), *arguments])
    except ProgramError:
        return ""


def _listed(place: Path) -> list[str] | None:
    """What git knows below a directory, and what else no tool left there; None where it cannot tell."""
    command = ["git", "-C", str(place), "ls-files", "-z"]
    try:
        known = run([*command, "--cached", "--recurse-submodules"]).split("\0")
        other = run([*command, "--others", "--exclude-standard"]).split("\0")
    except ProgramError:
        return None

    @functools.cache
    def left(directory: Path) -> bool:
        return directory != place and (left(directory.parent) or _left(directory))

    for name in other:
        if name.endswith("/"):  # a repository of its own
            known += [] if left(place / name) else [name + inner for inner in _walked(place / name)]
        elif name and not is_output(place / name) and not left((place / name).parent):
            known.append(name)
    return [name for name in dict.fromkeys(known) if name and os.path.lexists(place / name)]


def _left(directory: Path) -> bool:
    """Whether a tool left a directory there, which is no part of the project."""
    if directory.name in LEFT_OUT or directory.name.endswith(".egg-info") or is_cache(directory):
        return True
    beside = directory.parent
    return (
        directory.name in OUTPUTS
        and any((beside / name).is_file() for name in PROJECT_FILES)
        and not any((directory / name).is_file() for name in SOURCES)
    )


def _walked(place: Path) -> list[str]:
    found: list[str] = []
    for directory, directories, names in os.walk(place):
        directories[:] = [name for name in directories if not _left(Path(directory, name))]
        files = (Path(directory, name) for name in names)
        found += [os.path.relpath(path, place) for path in files if not is_output(path)]
    return found


def _fact(path: Path) -> list[Any]:
    """What an sdist could tell of a file."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return ["link", os.readlink(path)]  # noqa: PTH115
        if stat.S_ISDIR(status.st_mode):
            return ["submodule"]  # that is not checked out
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} of the project is no regular file; remove it, or have git ignore it")
        with path.open("rb") as stream:
            return [bool(status.st_mode & 0o100), hashlib.file_digest(stream, "sha256").hexdigest()]
    except OSError as error:
        raise ConfigError(f"cannot read {path} of the project: {error.strerror}") from error


def tree_sdist(
    tree: Tree, system: tuple[tuple[str, ...], str, tuple[str, ...]], build: BuildPlan, base: Base, target: Target,
    ctx: Context, *, root: Path,
) -> Path:
    """The sdist of a tree, from the store where it was made before; `system` is requires, backend and backend-path.

    `root` is the project whose index configuration the build requirements come from. Raises what `build_wheel` does.
    """
    source = Sdist(root, f"the sdist of {root.name}", tree.content, *system)
    builder = make_builder(source, build, base, target, ctx, root)
    pins = pin_requirements(source.requires, root, target, ctx)
    asked = key_of(builder.key, source.content, [pin.sha256 for pin in pins])
    known = (*source.requires, *(ctx.store.recall("sdist-requires", asked) or ()))
    for _ in range(2):
        pins = pin_requirements(known, root, target, ctx)
        try:
            return _stored(tree, source, builder, known, pins)
        except MoreNeededError as needed:
            ctx.store.remember("sdist-requires", asked, list(needed.requires))
            known = (*source.requires, *needed.requires)
    raise BuildError(f"{source.name} never stops asking for build requirements: {', '.join(known)}")


def packed_tree(tree: Tree, name: str, ctx: Context) -> Path:
    """A tree as it is in an archive of that name, an sdist's or TREE, for a backend to make the wheel of."""

    def make(directory: Path) -> Path:
        path = directory / name
        with (
            path.open("wb") as out,
            gzip.GzipFile("", "wb", 1, out, mtime=0) as stream,
            tarfile.open(mode="w", fileobj=stream, format=tarfile.PAX_FORMAT) as tar,
        ):
            for file in tree.files:
                info = tar.gettarinfo(tree.top / file, f"source/{file}")
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                if info.islnk():  # two names of one file
                    info.type, info.linkname, info.size = tarfile.REGTYPE, "", (tree.top / file).stat().st_size
                if info.isreg():
                    with (tree.top / file).open("rb") as content:
                        tar.addfile(info, content)
                else:
                    tar.addfile(info)
        return path

    return _kept(ctx, key_of("packed", name, tree.content), make, name)


def _stored(tree: Tree, source: Sdist, builder: Builder, known: Sequence[str], pins: Sequence[Pin]) -> Path:
    def make(directory: Path) -> Path:
        spec = {"backend": source.backend, "backend_path": source.backend_path, "known": list(known)}
        if tree.project != ".":
            spec["project"] = tree.project
        binds = [Bind(tree.repository, REPOSITORY)] if tree.repository else []

        def take(result: Mapping[str, Any], output: Path) -> Path:
            name = made_file(result, "sdist", output, source.name)
            return Path(shutil.copyfile(output / name, directory / name, follow_symlinks=False))

        return in_builder(source.name, spec, builder, pins, lambda place: _fill(tree, place), take, binds)

    key = key_of("sdist", builder.key, source.content, [pin.sha256 for pin in pins])
    return _kept(builder.ctx, key, make, source.name)


def _kept(ctx: Context, key: str, make: Callable[[Path], Path], name: str) -> Path:
    """An archive from the store, made where it is not there or damaged."""
    store = ctx.store

    def keep(directory: Path) -> None:
        made = make(directory)
        store.remember("tree-sdist", key, {"name": made.name, "digest": file_digest(made)})

    for _ in range(2):
        directory = store.tree("sdist", key, keep)
        fact = store.recall("tree-sdist", key) or {}
        path = directory / str(fact.get("name", "missing"))
        if path.is_file() and file_digest(path) == fact["digest"]:
            return path
        remove_tree(directory)  # damaged: made once more
    raise BuildError(f"the cache loses {name}; is its disk full or failing?")


def _fill(tree: Tree, place: Path) -> None:
    """Copy a tree into the builder's /build/src, with a .git that leads to the repository."""
    for name in tree.files:
        target = place / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tree.top / name
        if source.is_dir() and not source.is_symlink():
            target.mkdir(exist_ok=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    if tree.repository:
        (place / "src/.git").write_text(f"gitdir: {os.path.normpath(f'{REPOSITORY}/{tree.checkout}')}\n")
        (place / "home/.gitconfig").write_text("[safe]\n\tdirectory = *\n")
