"""Projects of any build backend (PEP 517): setuptools, maturin, scikit-build-core, meson-python, flit, ...

The [project] table (PEP 621) means the same to all of them, and hatchling reads it. What a project leaves dynamic, or
has no table for, is asked of its own backend: its sdist and wheel are made in the builder stage, where they are needed
anyway, and the wheel's metadata complete the table.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email import parser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.build.api import provisional_plan
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import BuildError, ConfigError, SandboxError
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.oci.model import host_platform
from hatch_docker.plugin.target import DockerBuilder
from hatch_docker.project.metadata import Source
from hatch_docker.project.workspace import workspace_members

if TYPE_CHECKING:
    from hatch_docker.bases.model import Base
    from hatch_docker.core.context import Context
    from hatch_docker.core.lockfile import Pins
    from hatch_docker.plan.model import Plan
    from hatch_docker.wheels.builder.make_sdist import Tree
    from hatch_docker.wheels.target import Target

RECIPE = 2
HATCHLING = "hatchling.build"
PROGRAMS = "data-scripts"  # beside what [project] can say
LEGACY_FILES = ("setup.py", "setup.cfg")
LEGACY = (("setuptools",), "setuptools.build_meta:__legacy__", ())  # without [build-system] (PEP 517)
COMMITTED = frozenset({"mesonpy"})  # backends whose sdist is what is committed, and that make none elsewhere
System = tuple[tuple[str, ...], str, tuple[str, ...]]


def open_project(
    root: Path, environ: Mapping[str, str], *, pins: Pins | None = None, table: Mapping[str, Any] | None = None
) -> DockerBuilder:
    """The project in a directory, whatever its backend, as the hatch target sees it; raises ConfigError without one.

    Whoever writes its lock gives the `pins` that are to take what its builder stage asks. `table` is there instead of
    its own [tool.hatch-docker] where it is a part of another project's image.
    """
    config = read_pyproject(root)
    check_project(root, config)
    if table is not None:
        table = {**table, "lock": "none", "pins": "none"}
        config = {**config, "tool": {**config.get("tool", {}), "hatch-docker": table}}
    system = build_system(config)
    if system[1] == HATCHLING:
        builder = DockerBuilder(str(root))
        if not _lacks_plugins(builder):
            return builder
        config = _isolated(config)
    stage = functools.cache(lambda: _open_stage(root, config, system, environ, pins))
    table = _completed(config, stage)
    builder = _view(root, config, system, {name: value for name, value in table.items() if name != PROGRAMS})
    builder.programs = tuple(table.get(PROGRAMS, ()))

    def source(directory: Path) -> Source:
        wheel = functools.cache(lambda: frontend_wheel(root, directory, environ))
        return Source(root, wheel, functools.cache(lambda: _sdist(stage())), lambda: system[0])

    builder.source = source  # type: ignore[method-assign]
    return builder


def open_static(root: Path) -> tuple[DockerBuilder, bool]:
    """The project in a directory as far as its files tell, no code of its backend run, and whether they tell all.

    Raises ConfigError without one.
    """
    config = read_pyproject(root)
    check_project(root, config)
    system = build_system(config)
    if system[1] == HATCHLING:
        builder = DockerBuilder(str(root))
        if not _lacks_plugins(builder):
            return builder, True
        config = _isolated(config)
    table = config.get("project")
    whole = isinstance(table, dict) and not table.get("dynamic")
    return _view(root, config, system, {"name": root.name, "version": "0", **_static(config)}), whole


def _lacks_plugins(builder: DockerBuilder) -> bool:
    """Whether hatchling needs plugins for the metadata that are not installed here; they are in the builder stage."""
    from hatchling.plugin.exceptions import UnknownPluginError

    try:
        _ = builder.metadata.core, builder.metadata.version
    except UnknownPluginError:
        return True
    except Exception:  # noqa: BLE001 - whatever else is wrong is told where the metadata are read
        return False
    return False


def _isolated(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose wheel is made in the builder stage, unless it says another thing itself."""
    tool = config.get("tool", {})
    table = tool.get("hatch-docker", {})
    build = table.get("build", {}) if isinstance(table, dict) else {}
    if not isinstance(build, dict):
        return dict(config)
    return {**config, "tool": {**tool, "hatch-docker": {**table, "build": {"isolated": "always", **build}}}}


def read_pyproject(root: Path) -> dict[str, Any]:
    """The pyproject.toml of a directory, empty where there is only a setup.py; raises ConfigError without either."""
    path = root / "pyproject.toml"
    if not path.is_file():
        if (root / "setup.py").is_file():
            return {}
        raise ConfigError(
            f"there is no pyproject.toml and no setup.py in {root}: go to the project's directory{above(root)}, or "
            "have `hatch-docker init` write one"
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    config = parse_toml(path, text)
    check_tables(config)
    return config


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """What a file says whose text is known; raises ConfigError for one that is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why = "it begins with a byte order mark, which TOML has not; save it without" if text[:1] == "\ufeff" else error
        raise ConfigError(f"cannot read {path}: {why}") from error


def check_tables(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a pyproject.toml whose first tables are none."""
    for name in ("build-system", "project", "tool"):
        if not isinstance(config.get(name, {}), dict):
            raise ConfigError(f"pyproject.toml: {name} must be a table")


def above(root: Path) -> str:
    """Where a project is that a directory is a part of, for the end of a clause; "" for none."""
    found = next((place for place in root.resolve().parents if (place / "pyproject.toml").is_file()), None)
    return f", which may be {found}" if found else ""


def check_project(root: Path, config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a pyproject.toml of other tools' tables: setuptools would make a wheel of no name."""
    if config.keys() & {"project", "build-system"} or any((root / name).is_file() for name in LEGACY_FILES):
        return
    if members := [os.path.relpath(path, root) for path in workspace_members(root, config)]:
        raise ConfigError(
            f"{root} is a workspace, and no project itself: go to one of its members ({', '.join(members[:5])})"
        )
    raise ConfigError(
        f"{root / 'pyproject.toml'} has neither [project] nor [build-system]: have `hatch-docker init` write them"
    )


def build_system(config: Mapping[str, Any]) -> System:
    """requires, build-backend and backend-path of a pyproject.toml (PEP 518); raises ConfigError."""
    table = config.get("build-system")
    if table is None:
        return LEGACY
    requires, backend = table.get("requires"), table.get("build-backend", LEGACY[1])
    paths = table.get("backend-path", [])
    wrong = "" if isinstance(backend, str) else "build-backend must be a string"
    for name, value in (("requires", requires), ("backend-path", paths)):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            wrong = f"{name} must be a list of strings"
    if wrong:
        raise ConfigError(f"pyproject.toml: [build-system] is not valid (PEP 518): {wrong}")
    return tuple(requires), backend, tuple(paths)


@dataclass(frozen=True, slots=True)
class _Stage:
    """The builder stage of a project: its tree, where it is built, and by what.

    `packed` is the name of an archive of the tree as it is, which a wheel is made of; "" where the backend makes an
    sdist of the tree before. `named` is what that archive would be called, TREE where the project does not tell.
    """

    root: Path
    tree: Tree
    packed: str
    named: str
    system: System
    plan: Plan
    base: Base
    target: Target
    ctx: Context


def _open_stage(
    root: Path, config: Mapping[str, Any], system: System, environ: Mapping[str, str], pins: Pins | None
) -> _Stage:
    """The builder stage before the project's needs are known: on its base, of this machine's architecture."""
    from hatch_docker.bases.open import open_base
    from hatch_docker.engines.common import located
    from hatch_docker.oci.compression import Compression
    from hatch_docker.wheels.target import Target

    table = _static(config)
    first = {"name": root.name, "version": "0", **table}
    plan, ctx = provisional_plan(_view(root, config, system, first), environ, pinned=pins is None)
    ctx = ctx if pins is None else replace(ctx, pins=pins)
    base = open_base(located(plan.base, root), host_platform(), ctx, compression=Compression(plan.compression))
    tree, packed = _read(root, table, system, ctx)
    target = Target(base.interpreter.version, base.platform, base.libc)
    return _Stage(root, tree, packed, _archive(table), system, plan, base, target, ctx)


def _read(root: Path, table: Mapping[str, Any], system: System, ctx: Context) -> tuple[Tree, str]:
    """The tree of a project, and the name of the archive that its wheel is made of, "" for an sdist of its backend.

    An unpacked sdist is one already. meson-python's sdist lacks what is not committed, so there the tree is better,
    unless scripts of the project have to write files of the sdist.
    """
    from hatch_docker.wheels.builder.make_sdist import read_tree

    if (root / "PKG-INFO").is_file() and not (root / ".git").exists():
        metadata = parser.BytesHeaderParser().parsebytes((root / "PKG-INFO").read_bytes())
        return read_tree(root, versioned=False), _archive(dict(metadata.items()))
    if system[1] not in COMMITTED:
        return read_tree(root, versioned="version" not in table), ""
    tree, whole = read_tree(root, versioned=False), read_tree(root, versioned=True)
    builds = (tree.top / name for name in tree.files if name.endswith("meson.build"))
    if whole.repository is None or not any(b"add_dist_script" in path.read_bytes() for path in builds):
        return tree, _archive(table)
    if run(["git", "-C", str(root), "status", "--porcelain"]):
        ctx.progress.warn("meson-python's sdist is made of what is committed: the image lacks what is not")
    return whole, ""


def _archive(metadata: Mapping[str, Any]) -> str:
    """The name of an sdist with these metadata (PEP 625), TREE where they lack the version."""
    from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

    from hatch_docker.wheels.install.venv import TREE

    known = {name.lower(): str(value) for name, value in metadata.items()}
    name = f"{canonicalize_name(known.get('name', '')).replace('-', '_')}-{known.get('version', '')}.tar.gz"
    try:
        parse_sdist_filename(name)
    except InvalidSdistFilename:
        return TREE
    return name if "/" not in name else TREE


def _sdist(stage: _Stage) -> Path:
    from hatch_docker.wheels.builder.make_sdist import packed_tree, tree_sdist

    if stage.packed:
        return packed_tree(stage.tree, stage.packed, stage.ctx)
    packages = (*stage.plan.build.packages, "git") if stage.tree.repository else stage.plan.build.packages
    build = replace(stage.plan.build, packages=tuple(sorted(set(packages))))
    try:
        return tree_sdist(stage.tree, stage.system, build, stage.base, stage.target, stage.ctx, root=stage.root)
    except SandboxError as refused:
        if stage.plan.engine != "buildkit":
            raise
        return _without_sandbox(stage, str(refused))


def _without_sandbox(stage: _Stage, refused: str) -> Path:
    """What BuildKit's stage makes the wheel of where this machine cannot make the sdist: the tree as it is."""
    from hatch_docker.wheels.builder.make_sdist import packed_tree
    from hatch_docker.wheels.builder.sandbox import WAYS_OUT
    from hatch_docker.wheels.install.venv import TREE

    if stage.named == TREE or stage.tree.repository:
        raise SandboxError(
            f"{refused.removesuffix(WAYS_OUT)}or write what `dynamic` in [project] lists into the table: until it is "
            "known, no stage can be rendered, and the backend tells it in the sandbox only, whatever the engine"
        )
    stage.ctx.progress.info("the sandbox is refused here: the wheel is made of the project's files, without an sdist")
    return packed_tree(stage.tree, stage.named, stage.ctx)


def _static(config: Mapping[str, Any]) -> dict[str, Any]:
    """What [project] says itself (PEP 621)."""
    table = config.get("project")
    return {name: value for name, value in table.items() if name != "dynamic"} if isinstance(table, dict) else {}


def _completed(config: Mapping[str, Any], stage: Callable[[], _Stage]) -> dict[str, Any]:
    """[project] with what the backend says where the project leaves that to it."""
    table = config.get("project")
    if isinstance(table, dict) and not table.get("dynamic"):
        return table
    at = stage()
    key = key_of(RECIPE, at.tree.content, at.system, at.target.python, str(at.target))
    found = at.ctx.store.recall("metadata", key)
    if found is None:
        from hatch_docker.wheels.builder.build import build_wheel
        from hatch_docker.wheels.metadata import programs, project_table

        wheel = build_wheel(_sdist(at), at.plan.build, at.base, at.target, at.ctx, root=at.root)
        found = {**project_table(wheel), PROGRAMS: programs(wheel)}
        at.ctx.store.remember("metadata", key, found)
    return {**found, **_static(config)}


def _view(root: Path, config: Mapping[str, Any], system: System, table: Mapping[str, Any]) -> DockerBuilder:
    """hatchling's view of a project with a [project] table in which nothing is dynamic."""
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    manager = PluginManager()
    build = {"requires": list(system[0]), "build-backend": system[1]}
    tool = {name: value for name, value in config.get("tool", {}).items() if name != "hatch"}  # and its plugins
    view = {**config, "project": dict(table), "build-system": build, "tool": tool}
    metadata = ProjectMetadata(str(root), manager, view)
    return DockerBuilder(str(root), plugin_manager=manager, metadata=metadata)


def frontend_wheel(root: Path, directory: Path, environ: Mapping[str, str]) -> Path:
    """The wheel of a project as uv makes it on this machine, with the backend in an environment of its own.

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
