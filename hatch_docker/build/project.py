"""Open the project in a directory, of any build backend (PEP 517): hatchling, setuptools, maturin, meson-python, ...

[project] (PEP 621) means the same to all backends, and hatchling reads it. What a project leaves dynamic, or has no
table for, only its own backend knows: the sdist and the wheel are made in the builder stage, where they are needed
anyway, and the wheel's metadata complete the table.
"""

import functools
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from email import parser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from hatch_docker.bases.model import Base
from hatch_docker.bases.open import open_base
from hatch_docker.build.configs import with_options
from hatch_docker.build.plan_context import about_image, metadata_of, open_context_of, wanted_images
from hatch_docker.build.shared_cache import shared_of, with_shared_cache
from hatch_docker.core.cache.kept_file import KeptFile, given_file
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, SandboxError
from hatch_docker.core.image_lock import ImageLock
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.engines.common import located
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import host_platform
from hatch_docker.plan.defaults import make_plan
from hatch_docker.plan.model import Plan
from hatch_docker.project.hatch import hatchling_project, open_hatchling, readable_project, runs_code
from hatch_docker.project.model import Project, Sources
from hatch_docker.project.pyproject import (
    HATCHLING,
    BuildSystem,
    build_system,
    check_project,
    dynamic_fields,
    read_pyproject,
    static_table,
    with_isolated_build,
)
from hatch_docker.project.repository import run_git
from hatch_docker.project.static import static_project
from hatch_docker.project.tree import Tree, read_tree, tree_sources
from hatch_docker.wheels.target import TREE_SUFFIX, Target, target_of, version_of

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

RECIPE = 3
PROGRAMS = "data-scripts"  # a key beside those of [project]: scripts of the wheel that are no entry points
COMMITTED = frozenset({"mesonpy"})  # backends whose sdist is what is committed, and that make none elsewhere


def open_project(
    root: Path, environ: Mapping[str, str], directory: Path, *, pins: ImageLock | None = None,
    table: Mapping[str, Any] | None = None, push: bool = False,
) -> Project:
    """Return the project in a directory, whatever its backend; raises ConfigError without one.

    Its artifacts are made in `directory`. With `pins`, those of a lock that is being written, its builder stage adds
    what it asks. `table` stands for its own [tool.hatch-docker] where it is part of another project's image. With
    `push` its image will be pushed.
    """
    tables = read_pyproject(root)
    check_project(root, tables)
    if table is not None:
        table = {**table, "lock": "none", "pins": "none"}
        tables = {**tables, "tool": {**tables.get("tool", {}), "hatch-docker": table}}
    system = build_system(tables)
    if system[1] == HATCHLING:
        if not runs_code(root, tables):
            hatchling = open_hatchling(root)
            hatchling.metadata.validate_fields()
            return hatchling_project(hatchling, directory)
        tables = with_isolated_build(tables)
    if table is None:
        _check_known(root, tables, system, environ)
    stage = functools.cache(lambda: _open_stage(root, tables, system, environ, pins, push))
    completed = _completed(root, tables, stage)
    programs = tuple(completed.pop(PROGRAMS, ()))
    return replace(
        static_project(root, tables, system, completed, programs),
        wheel=functools.cache(lambda: frontend_wheel(root, directory, environ)),
        sdist=functools.cache(lambda: _sdist(stage())),
        requires=lambda: system[0],
        shared=lambda: shared_of(stage().ctx),
        sources=lambda isolated: _sources(root, tables, system, environ) if isolated else None,
    )


def _sources(root: Path, tables: Mapping[str, Any], system: BuildSystem, environ: Mapping[str, str]) -> Sources | None:
    if system[1] in COMMITTED:
        return None
    return tree_sources(root, environ, versioned="version" not in static_table(tables))


def open_static(root: Path) -> tuple[Project, bool]:
    """Return the project in a directory as its files describe it, no backend run, and whether the files say all.

    Raises ConfigError without a project.
    """
    tables = read_pyproject(root)
    check_project(root, tables)
    system = build_system(tables)
    if system[1] == HATCHLING:
        if not runs_code(root, tables):
            return readable_project(open_hatchling(root)), True
        tables = with_isolated_build(tables)
    return _static_project(root, tables, system), dynamic_fields(tables) == []


def provisional_plan(project: Project, environ: Mapping[str, str], *, pinned: bool = True) -> tuple[Plan, Context]:
    """Return a plan that is good for its base and builder stage alone, before the metadata are known, and its context.

    It is the plan of the table itself where the project has several images.
    """
    configs, ctx = open_context_of(project, environ)
    config = _provisional(configs[""])
    metadata, ctx = metadata_of(project, {"": config}, ctx, tell=False, pinned=pinned)
    return make_plan(metadata, config, host_platform(), ""), ctx


def _provisional(config: "Config", known: Container[str] = ()) -> "Config":
    """Return options without those that only the metadata allow; of these the fields of [project] in `known` decide."""
    options = {"scripts": "entrypoint", "optional-dependencies": "extras", "dependency-groups": "dependency_groups"}
    unknown = {option: () for field, option in options.items() if field not in known}
    return with_options(config, lock="none", debug=False, debug_shell=False, **unknown)


def _check_known(root: Path, tables: Mapping[str, Any], system: BuildSystem, environ: Mapping[str, str]) -> None:
    """Raise what a build would end with after the compiler, as far as the files of a project tell it.

    Its own table says that it has an image; what is a library of a workspace is not checked.
    """
    dynamic = dynamic_fields(tables)
    if not dynamic or "hatch-docker" not in tables.get("tool", {}):
        return  # nothing is known, or everything: then nothing is built to know it
    from hatch_docker.build.pipeline import check_first

    known = {"scripts", "optional-dependencies"} - set(_fields(root, tables, dynamic))
    project = _static_project(root, tables, system)
    read, ctx = open_context_of(project, environ)
    names = wanted_images(read, environ) if len(read) > 1 else read
    configs = {name: _provisional(read[name], {*known, "dependency-groups"}) for name in names}
    metadata, ctx = metadata_of(project, configs, ctx, tell=False, pinned=False)
    for name, config in configs.items():
        with about_image(name):
            remote = check_first(make_plan(metadata, config, host_platform(), name), project, ctx)
            if remote is not None:
                from hatch_docker.release.sessions import close_sessions

                close_sessions(remote)  # the build that follows has a context of its own


def _fields(root: Path, tables: Mapping[str, Any], dynamic: list[str]) -> list[str]:
    """Return the fields of [project] that only the backend knows: the dynamic ones, and scripts that are none of its.

    Where it names no script, the wheel may have others: programs in C or Rust, or scripts as files.
    """
    if tables["project"].get("scripts"):
        return dynamic
    tool = tables.get("tool", {})
    build = [tool.get(name) for name in ("setuptools", "maturin", "poetry")]
    pairs = (("hatch", "build"), ("pdm", "build"), ("uv", "build-backend"))
    build += [tool[name].get(key) for name, key in pairs if isinstance(tool.get(name), dict)]
    files = (root / name for name in ("setup.py", "setup.cfg", "CMakeLists.txt", "hatch.toml"))
    texts = [str(build), *(path.read_text("utf-8", "replace") for path in files if path.is_file())]
    brings = any(re.search(r"scripts?\b|SCRIPTS_DIR|'bin'", text) for text in texts)
    return [*dynamic, "scripts"] if brings or (root / "src/main.rs").is_file() else dynamic


def _static_project(root: Path, tables: Mapping[str, Any], system: BuildSystem) -> Project:
    return static_project(root, tables, system, {"name": root.name, "version": "0", **static_table(tables)})


@dataclass(frozen=True, slots=True)
class _Stage:
    """The builder stage of a project: its tree, its build system and the environment it is built in.

    `packed` is the name of the archive of the tree that the wheel is made of, "" where the backend makes an sdist
    first. `named` is the name that such an archive would have, TREE_SUFFIX where the project does not tell.
    """

    root: Path
    tree: Tree
    packed: str
    named: str
    system: BuildSystem
    plan: Plan
    base: Base
    target: Target
    ctx: Context


def _open_stage(
    root: Path, tables: Mapping[str, Any], system: BuildSystem, environ: Mapping[str, str], pins: ImageLock | None,
    push: bool,
) -> _Stage:
    """Return the builder stage before the project's dependencies are known: on its base, for this platform."""
    plan, ctx = provisional_plan(_static_project(root, tables, system), environ, pinned=pins is None)
    ctx = ctx if pins is None else replace(ctx, image_lock=pins)
    ctx = with_shared_cache(replace(plan, push=plan.push or push), root, ctx)
    base = open_base(located(plan.base, root), host_platform(), ctx, compression=Compression(plan.compression))
    table = static_table(tables)
    tree, packed = _read(root, table, system, ctx)
    target = target_of(base)
    return _Stage(root, tree, packed, _archive(table), system, plan, base, target, ctx)


def _read(root: Path, table: Mapping[str, Any], system: BuildSystem, ctx: Context) -> tuple[Tree, str]:
    """Return the tree of a project, and the name of the archive of it that the wheel is made of.

    The name is "" where the backend makes an sdist first. An unpacked sdist is packed as it is. meson-python's sdist
    lacks uncommitted files, so its tree is packed too, unless scripts of the project write files of the sdist.
    """
    if (root / "PKG-INFO").is_file() and not (root / ".git").exists():
        metadata = parser.BytesHeaderParser().parsebytes((root / "PKG-INFO").read_bytes())
        return read_tree(root, ctx.environ, versioned=False), _archive(dict(metadata.items()))
    if system[1] not in COMMITTED:
        return read_tree(root, ctx.environ, versioned="version" not in table), ""
    tree, whole = (read_tree(root, ctx.environ, versioned=versioned) for versioned in (False, True))
    builds = (tree.top / name for name in tree.files if name.endswith("meson.build"))
    if whole.repository is None or not any(b"add_dist_script" in path.read_bytes() for path in builds):
        return tree, _archive(table)
    if run_git(root, "status", "--porcelain", environ=ctx.environ):
        ctx.progress.warn("meson-python's sdist is made of the last commit: the image lacks uncommitted changes")
    return whole, ""


def _archive(metadata: Mapping[str, Any]) -> str:
    """Return the name of an sdist with these metadata (PEP 625), TREE_SUFFIX where they lack the version."""
    known = {name.lower(): str(value) for name, value in metadata.items()}
    name = f"{canonicalize_name(known.get('name', '')).replace('-', '_')}-{known.get('version', '')}.tar.gz"
    return name if version_of(name) and "/" not in name else TREE_SUFFIX


def _sdist(stage: _Stage) -> KeptFile:
    from hatch_docker.wheels.builder.make_sdist import packed_tree, tree_sdist

    if stage.packed:
        return given_file(packed_tree(stage.tree, stage.packed, stage.ctx))
    packages = (*stage.plan.build.packages, "git") if stage.tree.repository else stage.plan.build.packages
    build = replace(stage.plan.build, packages=tuple(sorted(set(packages))))
    try:
        return tree_sdist(stage.tree, stage.system, build, stage.base, stage.target, stage.ctx, root=stage.root)
    except SandboxError as refused:
        if stage.plan.engine != "buildkit":
            raise
        return _without_sandbox(stage, str(refused))


def _without_sandbox(stage: _Stage, refused: str) -> KeptFile:
    """Return the tree as an archive, for a stage of BuildKit, where there is no sandbox to make the sdist in."""
    from hatch_docker.wheels.builder.make_sdist import packed_tree
    from hatch_docker.wheels.builder.sandbox import ALTERNATIVES

    if stage.named == TREE_SUFFIX or stage.tree.repository:
        raise SandboxError(
            f"{refused.removesuffix(ALTERNATIVES)}or write what `dynamic` in [project] lists into the table: until it "
            "is known, no stage can be rendered, and the backend tells it in the sandbox only, whatever the engine"
        )
    stage.ctx.progress.info("the sandbox is refused here: the wheel is made of the project's files, without an sdist")
    return given_file(packed_tree(stage.tree, stage.named, stage.ctx))


def _completed(root: Path, tables: Mapping[str, Any], stage: Callable[[], _Stage]) -> dict[str, Any]:
    """Return [project], completed with what the backend says where the project leaves that to it.

    That is in the sdist, so that nothing is compiled to know a version; else it is in the wheel.
    """
    dynamic = dynamic_fields(tables)
    if dynamic == []:
        return dict(tables["project"])
    at = stage()
    fields = ["scripts"] if dynamic is None else _fields(root, tables, dynamic)

    def read() -> dict[str, Any]:
        from hatch_docker.wheels.builder.build import find_wheel
        from hatch_docker.wheels.metadata import programs, project_table, sdist_table

        sdist = _sdist(at)
        if told := sdist_table(sdist.open(), fields):
            return told
        wheel = find_wheel(sdist, at.plan.build, at.base, at.target, at.ctx, at.root).open()
        return {**project_table(wheel), PROGRAMS: programs(wheel)}

    key = key_of(RECIPE, at.tree.content, at.system, at.target.build, str(at.target), sorted(fields))
    return {**at.ctx.store.remembered("metadata", key, read), **static_table(tables)}


def frontend_wheel(root: Path, directory: Path, environ: Mapping[str, str]) -> Path:
    """Return the wheel of a project as uv makes it on this machine, with the backend in an environment of its own.

    For `isolated = "never"`. Raises BuildError with the last lines, WheelError where there is no uv.
    """
    from hatch_docker.wheels.locks.uv import find_uv

    place = directory / "wheel"
    place.mkdir()
    try:
        run([find_uv(environ), "build", "--quiet", "--wheel", "--out-dir", str(place), str(root)], cwd=root)
    except ProcessFailed as error:
        raise BuildError(f"the project's wheel cannot be made on this machine:\n{error.output}") from error
    (made,) = place.glob("*.whl")
    return made
