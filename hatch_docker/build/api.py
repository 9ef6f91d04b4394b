"""What the doors share: what hatchling knows of a project becomes plan and context, then an image, or one line."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from hatch_docker.core.errors import ConfigError, HatchDockerError
from hatch_docker.core.files import scratch

if TYPE_CHECKING:
    from hatchling.builders.plugin.interface import BuilderInterface

    from hatch_docker.build.receipt import Receipt
    from hatch_docker.config.options import Config
    from hatch_docker.core.context import Context
    from hatch_docker.core.lockfile import Pins
    from hatch_docker.oci.model import Image, Index
    from hatch_docker.plan.model import Plan
    from hatch_docker.project.metadata import Project, Source

Result = TypeVar("Result")

# What was made, image by image, by hatchling's metadata object: all targets of one `hatch build` have the same one.
_made: WeakKeyDictionary[Any, dict[str, Receipt]] = WeakKeyDictionary()


def guarded(app: Any, work: Callable[[], Result]) -> Result:
    """Do the work of a door; a failure that the user can do something about ends the program with one line."""
    from hatch_docker.core.os_errors import told_faults
    from hatch_docker.core.progress import plain
    from hatch_docker.core.signals import stoppable

    try:
        with stoppable(), hatchling_errors(), told_faults():
            return work()
    except HatchDockerError as error:
        # A file's name may be no text at all, or orders to a terminal; what prints the line need not know.
        app.abort(plain(str(error)), code=error.exit_status)
        raise


@contextlib.contextmanager
def about_image(part: str) -> Iterator[None]:
    """Have a failure say which of a project's images it is about; "" is that of the table itself."""
    try:
        yield
    except HatchDockerError as error:
        if part:
            error.args = (f"image {part!r}: {error}",)
        raise


@contextlib.contextmanager
def hatchling_errors() -> Iterator[None]:
    """Turn what hatchling finds wrong in a project's metadata or files into a ConfigError.

    Only where hatchling, or the standard library for it, raised it: what a plugin or we did keeps its traceback.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        import traceback

        modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
        while modules and modules[-1].partition(".")[0] in sys.stdlib_module_names:
            modules.pop()
        if not modules or modules[-1].partition(".")[0] != "hatchling":
            raise
        if isinstance(error, OSError) and error.filename:
            raise ConfigError(f"cannot read or write {error.filename}: {error.strerror}") from error
        text = re.sub(r"\n[ ~^]+$", "", str(error))  # packaging points at a place in the line above
        raise ConfigError(f"pyproject.toml: {' '.join(text.split())}") from error


def provisional_plan(
    builder: BuilderInterface[Any, Any], environ: Mapping[str, str], *, pinned: bool = True
) -> tuple[Plan, Context]:
    """A plan that is good for its base and builder stage alone: what the project needs and runs is not known yet.

    It is that of the table itself, where there are several images; see `open_plans`.
    """
    from hatch_docker.config.options import load_config

    root = Path(builder.root)
    config = load_config(_table(builder), environ, root / "pyproject.toml")
    config = replace(
        config, entrypoint=(), extras=(), dependency_groups=(), lock="none", debug=False, debug_shell=False
    )
    opening = _Opening(root, given=False, push=False, tell=False)
    plans, ctx = _open({"": config}, builder, environ, opening, pinned=pinned)
    return plans[0], ctx


def open_plans(
    builder: BuilderInterface[Any, Any], environ: Mapping[str, str], *, root: Path | None = None, given: bool = False,
    pins: Pins | None = None, pinned: bool = True, push: bool = False, every: bool = False,
) -> tuple[tuple[Plan, ...], Context]:
    """The plans of a project's images and the context of their build; `every` one, whichever are asked for.

    `given` is where the project's wheel is there, so that none is built. `root` is the directory of locks, files and
    revision, where hatchling was started in another. The context has `pins`, or those that the plans name if `pinned`.
    With `push` the images go to their registries and nowhere else.
    """
    from hatch_docker.config.options import load_configs

    configs = load_configs(_table(builder), environ, (root or Path(builder.root)) / "pyproject.toml")
    if len(configs) > 1 and not every:
        from hatch_docker.config.images import wanted

        configs = dict(wanted(configs, environ))
    opening = _Opening(root or Path(builder.root), given, push, tell=True)
    return _open(configs, builder, environ, opening, pinned=pinned, pins=pins)


def _table(builder: BuilderInterface[Any, Any]) -> Mapping[str, Any]:
    table: Mapping[str, Any] = builder.metadata.config.get("tool", {}).get("hatch-docker", {})
    return table


class _Opening(NamedTuple):
    """How the plans of a project are made; see `open_plans`."""

    root: Path
    given: bool
    push: bool
    tell: bool


def _open(
    configs: Mapping[str, Config], builder: BuilderInterface[Any, Any], environ: Mapping[str, str], opening: _Opening,
    *, pinned: bool, pins: Pins | None = None,
) -> tuple[tuple[Plan, ...], Context]:
    from hatch_docker.core.context import open_context
    from hatch_docker.core.progress import open_progress
    from hatch_docker.oci.model import host_platform
    from hatch_docker.plan.defaults import make_plan
    from hatch_docker.project.metadata import DIST, read_project

    progress = open_progress(builder.app.display_warning, builder.app.verbosity, environ)
    ctx = open_context(environ, progress)
    ignored = [path for path in (DIST, *(config.dotenv for config in configs.values())) if path]
    project = read_project(builder, environ, opening.root, ignored, progress.warn if opening.tell else progress.detail)
    ctx = replace(ctx, pins=pins) if pins or not pinned else _pinned(ctx, configs, project)
    if _may_have_members(project, builder.metadata.config.get("tool", {})):
        from hatch_docker.build.members import find_members

        project = find_members(project, builder.metadata.config, ctx)
    plans = []
    for part, config in configs.items():
        if opening.given:
            config = replace(config, build=replace(config.build, isolated="never", args={}, env={}, ssh=False))
        if opening.push:
            config = replace(config, push=True, load="never")
        with about_image(part):
            plan = replace(make_plan(project, config, host_platform(), part), archive=not opening.push)
        plans.append(plan)
        title = f"{part}: " if part else ""
        for guess in plan.guesses if opening.tell else ():
            progress.detail(f"{title}{guess.option} = {guess.value} ({guess.reason})")
        for note in plan.notes if opening.tell else ():
            progress.info(f"{title}{note}")
    if len(plans) > 1:
        _check_names(plans)
    return tuple(plans), ctx


def _may_have_members(project: Project, tool: Mapping[str, Any]) -> bool:
    """Whether it is worth a look: a project alone, which most are, shall not pay for it."""
    if not (project.dependencies or project.extras or project.groups):
        return False
    hatch = (project.root / "hatch.toml").is_file()
    if hatch or any({"sources", "workspace", "envs"} & set(tool.get(name, {})) for name in ("uv", "hatch")):
        return True
    for place in project.root.parents:
        if any((place / name).is_file() for name in ("pyproject.toml", "hatch.toml")):
            return True
        if (place / ".git").exists():
            break
    return False


def _check_names(plans: Sequence[Plan]) -> None:
    """Raise ConfigError where two images of a project would have one name."""
    taken: dict[str, str] = {}
    parts = [plan.part for plan in plans]
    if twice := next((part for part in parts if parts.count(part) > 1), ""):
        raise ConfigError(
            f"tool.hatch-docker.debug: there would be two images called {twice!r}; build one: HATCH_DOCKER_IMAGES=..."
        )
    for plan in plans:
        pushed = (f"{repository}:{tag}" for repository in plan.repositories for tag in plan.tags)
        for name in (*plan.references, *pushed):
            if taken.setdefault(name, plan.part) != plan.part:
                raise ConfigError(
                    f"tool.hatch-docker.images.{plan.part}: {name} is another image's name too; set `image`, "
                    "`registries` or `tags`"
                )


def _pinned(ctx: Context, configs: Mapping[str, Config], project: Project) -> Context:
    """The context with the pins of a project, where it has some and wants them."""
    names = {project.pins if config.pins == "auto" else config.pins for config in configs.values()}
    if len(names) > 1:
        raise ConfigError("tool.hatch-docker.images: `pins` must be the same for every image")
    (name,) = names
    if name in ("", "none"):
        return ctx
    from hatch_docker.core.lockfile import read_pins

    return replace(ctx, pins=read_pins(project.root / name, name, ctx.store))


def make_image(
    builder: BuilderInterface[Any, Any], plan: Plan, source: Source, directory: Path, ctx: Context
) -> Receipt:
    """Make the image of a plan, with everything that follows from it in `directory`."""
    from hatch_docker.build.pipeline import run
    from hatch_docker.core.cache.prune import prune_now_and_then
    from hatch_docker.engines.select import select_engine
    from hatch_docker.oci.model import host_platform

    with about_image(plan.part), _whole(source, plan, builder, ctx) as whole:
        receipt = run(plan, whole, select_engine(plan.engine), directory, host_platform(), ctx)
    prune_now_and_then(ctx.store)
    _made.setdefault(builder.metadata, {})[plan.part] = receipt
    return receipt


def _whole(
    source: Source, plan: Plan, builder: BuilderInterface[Any, Any], ctx: Context
) -> contextlib.AbstractContextManager[Source]:
    """The source of a project with those of the members of its workspace that a plan names."""
    if not plan.members:
        return contextlib.nullcontext(source)
    from hatch_docker.build.members import with_members

    return with_members(source, [plan], builder.metadata.config, ctx)


def rebuild(
    builder: BuilderInterface[Any, Any], source: Callable[[Path], Source], archive: Path, environ: Mapping[str, str]
) -> Image | Index:
    """The image of an archive once more, by the project's lock; nothing that follows from it: no file, no check.

    `source` gives what makes the project's artifacts in a directory. Raises ConfigError for a project without a lock.
    """
    from hatch_docker.build.existing import plan_of
    from hatch_docker.build.pipeline import image_or_index
    from hatch_docker.core.lockfile import NAME, RELOCK
    from hatch_docker.engines.select import select_engine

    plans, ctx = open_plans(builder, environ, every=True)
    plan = plan_of(str(archive), plans)
    if ctx.pins is None:
        raise ConfigError(f"there is no {NAME} to rebuild from: {RELOCK}, and build by it")
    with (
        scratch() as temporary,
        _whole(source(temporary), plan, builder, ctx) as whole,
    ):
        return image_or_index(select_engine(plan.engine)(plan, whole, ctx))


def rebase_image(
    builder: BuilderInterface[Any, Any], image: str, directory: Path, environ: Mapping[str, str]
) -> Receipt:
    """Put an image that was built, an archive or one in a registry, on the base that a build would take now.

    The lock says which that is where there is one, else the registry or the mirror is asked. What follows is as after
    a build; where it came from a registry, a push brings it back there.
    """
    from hatch_docker.build.existing import open_existing, plan_of
    from hatch_docker.build.pipeline import run
    from hatch_docker.core.context import REFRESH
    from hatch_docker.engines.rebase import rebase
    from hatch_docker.oci.model import host_platform
    from hatch_docker.project.metadata import open_source

    plans, ctx = open_plans(builder, environ, every=True)
    if ctx.pins is None:
        ctx = replace(ctx, environ={**environ, REFRESH: "1"})
    existing = open_existing(image, ctx)
    with scratch() as temporary:
        source = open_source(builder, temporary)
        engine = rebase(existing.item, existing.wheel, existing.left_out)
        plan = existing.plan(plan_of(image, plans))
        return run(plan, source, engine, directory, host_platform(), ctx)


def archives_of(builder: BuilderInterface[Any, Any], environ: Mapping[str, str]) -> list[Path]:
    """Where a build of this project puts the archives of its images, if nobody tells it another directory."""
    from hatch_docker.build.pipeline import output_paths

    plans, _ctx = open_plans(builder, environ, pinned=False)
    return [output_paths(plan, Path(builder.config.directory))[0] for plan in plans]


def made_already(builder: BuilderInterface[Any, Any]) -> Mapping[str, Receipt]:
    """What another target of the same `hatch build` made, by the image's name, "" for that of the table itself."""
    return _made.get(builder.metadata, {})
