"""The sdist of a project's tree, made by the project's backend (PEP 517) in the builder stage."""

import functools
import gzip
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hatch_docker.bases.model import Base
from hatch_docker.bases.partial_tree import with_whole_trees
from hatch_docker.core.cache.kept_file import KeptFile, existing_file
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.plan.model import BuildPlan
from hatch_docker.project.git_logins import add_git_logins, copy_repository
from hatch_docker.project.tree import Tree
from hatch_docker.wheels.builder.build import (
    BuilderStage,
    find_cached_file,
    find_with_all_requirements,
    make_builder_stage,
    make_cached_file,
    run_backend,
    with_all_requirements,
)
from hatch_docker.wheels.builder.sandbox import Bind
from hatch_docker.wheels.builder.sdist import Sdist
from hatch_docker.wheels.target import Pin, PinHash, Target

OBJECTS = "/repository"  # git objects in the builder, read-only
KINDS = ("sdist", "tree-sdist")  # of the tree and of the fact in the cache
FACT = "sdist-requires"


def tree_sdist(
    tree: Tree, system: tuple[tuple[str, ...], str, tuple[str, ...]], build: BuildPlan, base: Base, target: Target,
    ctx: Context, *, root: Path,
) -> KeptFile:
    """Return the sdist of a tree; it is not made if its digest is known. `system`: requires, backend, backend-path.

    `root`: the project whose index configuration the build requirements come from. Raise what `find_wheel` raises.
    """
    source = Sdist(lambda: root, f"the sdist of {root.name}", tree.content, *system)
    stage = functools.partial(make_builder_stage, source, build, base, target, ctx, root)
    packed_stage = stage(unpacked=False)

    def make() -> Path:
        return with_whole_trees(lambda: _make_sdist(tree, source, stage()))

    def find(pins: Sequence[PinHash]) -> KeptFile | None:
        return find_cached_file(ctx.store, KINDS, _key(packed_stage, source, pins), make)

    return find_with_all_requirements(FACT, source, packed_stage, find) or existing_file(make())


def _key(stage: BuilderStage, source: Sdist, pins: Sequence[Pin | PinHash]) -> str:
    return key_of("sdist", stage.key, source.content, [pin.sha256 for pin in pins])


def _make_sdist(tree: Tree, source: Sdist, stage: BuilderStage) -> Path:
    ctx = stage.ctx
    add_git_logins(tree.top, ctx)
    binds = [Bind(tree.repository / "objects", OBJECTS)] if tree.repository else []
    spec = {} if tree.project == "." else {"project": tree.project}

    def make(known: Sequence[str], pins: Sequence[Pin]) -> Path:
        def write(directory: Path) -> Path:
            return run_backend(
                "sdist", source, stage, known, pins, directory, lambda build: _copy_tree(tree, build, ctx), spec,
                binds,
            )

        return make_cached_file(ctx.store, KINDS, _key(stage, source, pins), source.name, write)

    return with_all_requirements(FACT, source, stage, make)


def packed_tree(tree: Tree, name: str, ctx: Context) -> Path:
    """Return an archive named `name` that contains a tree unchanged. The backend builds the wheel from it."""

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
                if info.islnk():  # the second name of a file
                    info.type, info.linkname, info.size = tarfile.REGTYPE, "", (tree.top / file).stat().st_size
                if info.isreg():
                    with (tree.top / file).open("rb") as content:
                        tar.addfile(info, content)
                else:
                    tar.addfile(info)
        return path

    return make_cached_file(ctx.store, KINDS, key_of("packed", name, tree.content), name, make)


def _copy_tree(tree: Tree, build: Path, ctx: Context) -> None:
    """Copy a tree to /build/src of the builder. Its .git file points to a copy of the repository without logins."""
    for name in tree.files:
        target = build / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tree.top / name
        if source.is_dir() and not source.is_symlink():
            target.mkdir(exist_ok=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    if tree.repository:
        copy_repository(tree.top, OBJECTS, build / "repository", ctx.environ)
        (build / "src/.git").write_text("gitdir: /build/repository\n")
        (build / "home/.gitconfig").write_text("[safe]\n\tdirectory = *\n")
