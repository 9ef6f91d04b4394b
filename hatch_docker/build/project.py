"""Open the project in a directory, of any build backend (PEP 517): hatchling, setuptools, maturin, meson-python, ...

Static fields of [project] (PEP 621) are the same for all backends, and hatchling reads them. The other fields need the
project's backend: the builder stage makes the sdist, and if necessary the wheel, and their metadata complete the table.
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
from hatch_docker.build.plan_context import configs_and_context, metadata_of, naming_image_in_errors, selected_images
from hatch_docker.build.shared_cache import shared_of, with_shared_cache
from hatch_docker.core.cache.kept_file import KeptFile, existing_file
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, SandboxError
from hatch_docker.core.image_lock import ImageLock
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.engines.common import with_absolute_paths
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
PROGRAMS = "data-scripts"  # an extra key in the table: scripts of the wheel that are no entry points
COMMITTED = frozenset({"mesonpy"})  # backends whose sdist contains the committed files, and needs a git repository


def open_project(
    root: Path, environ: Mapping[str, str], directory: Path, *, pins: ImageLock | None = None,
    table: Mapping[str, Any] | None = None, push: bool = False,
) -> Project:
    """Return the project in `root`, of any backend. Raises ConfigError if there is no valid project.

    `directory`: the directory for its sdist and wheel. `pins`: an image lock that is being written; the builder stage
    adds entries to it. `table`: replaces the project's [tool.hatch-docker], for a member in another project's image.
    `push`: the image will be pushed.
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
        _check_before_stage(root, tables, system, environ)
    stage = functools.cache(lambda: _open_stage(root, tables, system, environ, pins, push))
    metadata = _complete_table(root, tables, stage)
    programs = tuple(metadata.pop(PROGRAMS, ()))
    return replace(
        static_project(root, tables, system, metadata, programs),
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
    """Return the project in `root` without running its backend, and whether its files contain all metadata.

    Raises ConfigError if there is no valid project.
    """
    tables = read_pyproject(root)
    check_project(root, tables)
    system = build_system(tables)
    if system[1] == HATCHLING:
        if not runs_code(root, tables):
            return readable_project(open_hatchling(root)), True
        tables = with_isolated_build(tables)
    return _static_project(root, tables, system), dynamic_fields(tables) == []


def provisional_plan(project: Project, environ: Mapping[str, str], *, use_lock: bool = True) -> tuple[Plan, Context]:
    """Return a plan made before the metadata are known, and its context. Only its base and builder stage are valid.

    If the project has several images, it is the plan of the main table.
    """
    configs, ctx = configs_and_context(project, environ)
    config = _provisional(configs[""])
    metadata, ctx = metadata_of(project, {"": config}, ctx, warn=False, use_lock=use_lock)
    return make_plan(metadata, config, host_platform(), ""), ctx


def _provisional(config: "Config", known: Container[str] = ()) -> "Config":
    """Return options without those that need unknown metadata. `known`: fields of [project] that are known."""
    options = {"scripts": "entrypoint", "optional-dependencies": "extras", "dependency-groups": "dependency_groups"}
    unknown = {option: () for field, option in options.items() if field not in known}
    return with_options(config, lock="none", debug=False, debug_shell=False, **unknown)


def _check_before_stage(root: Path, tables: Mapping[str, Any], system: BuildSystem, environ: Mapping[str, str]) -> None:
    """Raise errors in the options and of this machine before the builder stage runs to complete dynamic metadata.

    Projects without [tool.hatch-docker] are not checked: they may be libraries of a workspace.
    """
    dynamic = dynamic_fields(tables)
    if not dynamic or "hatch-docker" not in tables.get("tool", {}):
        return  # without [project] no field is known; with complete metadata no stage runs
    from hatch_docker.build.pipeline import check_before_build

    known = {"scripts", "optional-dependencies"} - set(_fields(root, tables, dynamic))
    project = _static_project(root, tables, system)
    read, ctx = configs_and_context(project, environ)
    names = selected_images(read, environ) if len(read) > 1 else read
    configs = {name: _provisional(read[name], {*known, "dependency-groups"}) for name in names}
    metadata, ctx = metadata_of(project, configs, ctx, warn=False, use_lock=False)
    for name, config in configs.items():
        with naming_image_in_errors(name):
            remote = check_before_build(make_plan(metadata, config, host_platform(), name), project, ctx)
            if remote is not None:
                from hatch_docker.release.sessions import close_sessions

                close_sessions(remote)  # the build opens its own sessions


def _fields(root: Path, tables: Mapping[str, Any], dynamic: list[str]) -> list[str]:
    """Return the fields of [project] that need the backend: the dynamic ones, and perhaps "scripts".

    Without scripts in [project], the build configuration shows whether the wheel may have programs (in C, Rust, ...).
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
    """The builder stage of a project: its files, its build system and the environment of the build.

    `archive`: the name of the archive of `tree` from which the wheel is built, "" if the backend makes an sdist first.
    `sdist_name`: the name that an sdist would have, TREE_SUFFIX if the version is unknown.
    """

    root: Path
    tree: Tree
    archive: str
    sdist_name: str
    system: BuildSystem
    plan: Plan
    base: Base
    target: Target
    ctx: Context


def _open_stage(
    root: Path, tables: Mapping[str, Any], system: BuildSystem, environ: Mapping[str, str], pins: ImageLock | None,
    push: bool,
) -> _Stage:
    """Return the builder stage for this machine's platform. The project's dependencies need not be known."""
    plan, ctx = provisional_plan(_static_project(root, tables, system), environ, use_lock=pins is None)
    ctx = ctx if pins is None else replace(ctx, image_lock=pins)
    ctx = with_shared_cache(replace(plan, push=plan.push or push), root, ctx)
    located = with_absolute_paths(plan.base, root)
    base = open_base(located, host_platform(), ctx, compression=Compression(plan.compression))
    table = static_table(tables)
    tree, archive = _read_sources(root, table, system, ctx)
    target = target_of(base)
    return _Stage(root, tree, archive, _sdist_name(table), system, plan, base, target, ctx)


def _read_sources(root: Path, table: Mapping[str, Any], system: BuildSystem, ctx: Context) -> tuple[Tree, str]:
    """Return the tree of a project and `_Stage.archive`: the name of its archive, "" if the backend makes an sdist.

    The tree is archived if it is an unpacked sdist, or for meson-python, whose sdists lack uncommitted files. An sdist
    of meson-python is made only if scripts of the project generate files of it.
    """
    if (root / "PKG-INFO").is_file() and not (root / ".git").exists():
        metadata = parser.BytesHeaderParser().parsebytes((root / "PKG-INFO").read_bytes())
        return read_tree(root, ctx.environ, versioned=False), _sdist_name(dict(metadata.items()))
    if system[1] not in COMMITTED:
        return read_tree(root, ctx.environ, versioned="version" not in table), ""
    tree, clone = (read_tree(root, ctx.environ, versioned=versioned) for versioned in (False, True))
    builds = (tree.top / name for name in tree.files if name.endswith("meson.build"))
    if clone.repository is None or not any(b"add_dist_script" in path.read_bytes() for path in builds):
        return tree, _sdist_name(table)
    if run_git(root, "status", "--porcelain", environ=ctx.environ):
        ctx.progress.warn("meson-python's sdist is made of the last commit: the image lacks uncommitted changes")
    return clone, ""


def _sdist_name(metadata: Mapping[str, Any]) -> str:
    """Return the file name of an sdist with these metadata (PEP 625), TREE_SUFFIX if they lack the version."""
    known = {name.lower(): str(value) for name, value in metadata.items()}
    name = f"{canonicalize_name(known.get('name', '')).replace('-', '_')}-{known.get('version', '')}.tar.gz"
    return name if version_of(name) and "/" not in name else TREE_SUFFIX


def _sdist(stage: _Stage) -> KeptFile:
    from hatch_docker.wheels.builder.make_sdist import packed_tree, tree_sdist

    if stage.archive:
        return existing_file(packed_tree(stage.tree, stage.archive, stage.ctx))
    packages = (*stage.plan.build.packages, "git") if stage.tree.repository else stage.plan.build.packages
    build = replace(stage.plan.build, packages=tuple(sorted(set(packages))))
    try:
        return tree_sdist(stage.tree, stage.system, build, stage.base, stage.target, stage.ctx, root=stage.root)
    except SandboxError as refused:
        if stage.plan.engine != "buildkit":
            raise
        return _without_sandbox(stage, str(refused))


def _without_sandbox(stage: _Stage, refused: str) -> KeptFile:
    """Return an archive of the tree instead of an sdist, for BuildKit. Raises SandboxError if its name is unknown."""
    from hatch_docker.wheels.builder.make_sdist import packed_tree
    from hatch_docker.wheels.builder.sandbox import ALTERNATIVES

    if stage.sdist_name == TREE_SUFFIX or stage.tree.repository:
        raise SandboxError(
            f"{refused.removesuffix(ALTERNATIVES)}or give the `dynamic` fields of [project] static values: without "
            "them no stage can be rendered, and with each engine the backend can compute them only in the sandbox"
        )
    stage.ctx.progress.info(
        "the sandbox cannot be used here: the wheel is made from the project's files, without an sdist"
    )
    return existing_file(packed_tree(stage.tree, stage.sdist_name, stage.ctx))


def _complete_table(root: Path, tables: Mapping[str, Any], open_stage: Callable[[], _Stage]) -> dict[str, Any]:
    """Return [project], completed with the dynamic fields, and with PROGRAMS if the wheel was built.

    The fields are read from the sdist's metadata, so that no code is compiled; if they lack a field, from the wheel's.
    """
    dynamic = dynamic_fields(tables)
    if dynamic == []:
        return dict(tables["project"])
    stage = open_stage()
    fields = ["scripts"] if dynamic is None else _fields(root, tables, dynamic)

    def read() -> dict[str, Any]:
        from hatch_docker.wheels.builder.build import find_wheel
        from hatch_docker.wheels.metadata import programs, project_table, sdist_table

        sdist = _sdist(stage)
        if table := sdist_table(sdist.open(), fields):
            return table
        wheel = find_wheel(sdist, stage.plan.build, stage.base, stage.target, stage.ctx, stage.root).open()
        return {**project_table(wheel), PROGRAMS: programs(wheel)}

    key = key_of(RECIPE, stage.tree.content, stage.system, stage.target.build, str(stage.target), sorted(fields))
    return {**stage.ctx.store.recall_or_make("metadata", key, read), **static_table(tables)}


def frontend_wheel(root: Path, directory: Path, environ: Mapping[str, str]) -> Path:
    """Build the wheel of a project with `uv build` on this machine (`isolated = "never"`); return its path.

    Raises BuildError with the last lines of the output, and WheelError if uv is not installed.
    """
    from hatch_docker.wheels.locks.uv import find_uv

    place = directory / "wheel"
    place.mkdir()
    try:
        run([find_uv(environ), "build", "--quiet", "--wheel", "--out-dir", str(place), str(root)], cwd=root)
    except ProcessFailed as error:
        raise BuildError(f"the project's wheel cannot be made on this machine:\n{error.output}") from error
    (wheel,) = place.glob("*.whl")
    return wheel
