"""The embedded engine. Layers: the base, one for each large wheel, one for all small wheels, the project, its files.

It needs no daemon. Each layer has a cache key computed from its contents; only layers with a new key are made, and
nothing is fetched, compiled or compressed for the others.

Independent work runs in parallel:

    base -- resolution -+- downloads -- layers of dependencies -+- layer of the project -- image
    builder ------------+- wheel of the project ----------------+
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.bases.model import Base
from hatch_docker.core.beside import in_background
from hatch_docker.core.cache.kept_file import KeptFile, existing_file
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.core.text import plural
from hatch_docker.engines.common import (
    check_commands,
    check_contents,
    checked_groups,
    dependency_build_plan,
    finish,
    open_inputs,
    slim_rules,
)
from hatch_docker.engines.early_builder import early_builder
from hatch_docker.engines.model import BuiltImage, Inputs, LayerInfo, WheelInfo
from hatch_docker.engines.project_wheels import PURE, OwnProject, own_projects, own_wheel
from hatch_docker.engines.wheel_layers import (
    Site,
    Wheel,
    check_records,
    check_wheels,
    left_out,
    make_wheels,
    recall_wheels,
)
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Layer, Platform, host_platform
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin

WORKERS = 4


@dataclass(frozen=True, slots=True)
class Group:
    """The wheels of one layer. `kind`: its kind in the receipt. `venv`: add the virtual environment's own files."""

    kind: str
    wheels: tuple[Wheel, ...]
    venv: bool = False


def build(plan: Plan, project: Project, ctx: Context) -> tuple[BuiltImage, ...]:
    """Return one image for each platform of the plan; raises HatchDockerError."""
    return tuple(_build_one(plan, Platform.parse(platform), project, ctx) for platform in plan.platforms)


def gather(plan: Plan, platform: Platform, project: Project, ctx: Context) -> tuple[Base, tuple[Pin, ...], list[Group]]:
    """Return the base of an image, its pins and the groups of wheels; fetches and builds what is necessary for that."""
    inputs, pins = _resolve(plan, platform, project, ctx)
    own = [_own_group(own, inputs) for own in own_projects(plan, inputs.target, project)]
    return inputs.base, pins, [*_dependencies(pins, inputs, ctx), *own]


def _resolve(plan: Plan, platform: Platform, project: Project, ctx: Context) -> tuple[Inputs, tuple[Pin, ...]]:
    """Return the inputs of an image, and the pins of its dependencies."""
    inputs = open_inputs(plan, platform, project, ctx)

    def metadata(pinned: Pin, sdist: Path) -> bytes:
        """Return the METADATA of an sdist by building its wheel, which the image needs anyway."""
        from hatch_docker.wheels.metadata import metadata_of

        return metadata_of(_build_wheel(pinned, lambda: sdist, inputs).open())

    return inputs, pin(plan.lock, project.root, inputs.target, ctx, metadata=metadata)


def _dependencies(pins: Sequence[Pin], inputs: Inputs, ctx: Context) -> list[Group]:
    """Return the groups of the dependencies' wheels; a dependency without a wheel for the target is built."""
    inputs = replace(inputs, ctx=ctx)
    alone, small = checked_groups(pins, inputs, len(own_projects(inputs.plan, inputs.target, inputs.project)))
    return [
        Group("dependencies", tuple(_dependency(pinned, inputs) for pinned in group))
        for group in (*([pinned] for pinned in alone), small) if group
    ]  # fmt: skip


def _dependency(pinned: Pin, inputs: Inputs) -> Wheel:
    """Return the wheel of a dependency; if there is none for the target, it is built in the builder stage."""

    def get() -> Path:
        from hatch_docker.wheels.fetch import fetch

        return fetch([pinned], inputs.ctx, root=inputs.project.root)[0]

    rules = slim_rules(inputs.plan, "dependencies")
    if pinned.is_wheel:
        return Wheel(pinned.title, pinned.filename, f"sha256:{pinned.sha256}", get, rules, published=True)
    wheel = _build_wheel(pinned, get, inputs)
    return Wheel(pinned.title, wheel.name, wheel.digest, wheel.open, rules)


def _build_wheel(pinned: Pin, get: Callable[[], Path], inputs: Inputs) -> KeptFile:
    """Return the wheel of a pinned sdist, built in the builder stage. `get`: returns the path of the sdist."""
    from hatch_docker.wheels.builder.build import find_wheel

    sdist = KeptFile(pinned.filename, f"sha256:{pinned.sha256}", get, pinned.subdirectory)
    build = dependency_build_plan(inputs.plan.build, pinned)
    return find_wheel(sdist, build, inputs.base, inputs.target, inputs.ctx, inputs.project.root)


def _build_one(plan: Plan, platform: Platform, project: Project, ctx: Context) -> BuiltImage:
    with early_builder(plan, platform, ctx) as ctx:
        inputs, pins = _resolve(plan, platform, project, ctx)
        site = Site(inputs.base, VenvTarget(inputs.base.interpreter), Compression(plan.compression), ctx)

        def dependencies(ctx: Context) -> tuple[list[Group], list[tuple[Layer, bool]]]:
            found = _dependencies(pins, inputs, ctx)
            return found, _layers(found, pins, replace(site, ctx=ctx), project.root)

        ours = own_projects(plan, inputs.target, project)
        if any(own.build.isolated for own in ours):
            with in_background(ctx, dependencies) as result:
                own = [_own_group(own, inputs) for own in ours]
                groups, layers = result()
        else:  # hatchling builds the wheel in this process, in a short time
            own = [_own_group(own, inputs) for own in ours]
            groups, layers = dependencies(ctx)
    reused = sum(cached for _, cached in layers)
    groups, layers = [*groups, *own], layers + _layers(own, pins, site, project.root, reused=reused)
    check_records(pins, ctx, refuse=plan.wheel_records == "refuse")
    programs = check_wheels(site, [wheel for group in groups for wheel in group.wheels])
    check_commands(plan, inputs.base, programs, ctx)
    noted_layers = [
        (layer, LayerInfo(group.kind, tuple(wheel.title for wheel in group.wheels), cached))
        for group, (layer, cached) in zip(groups, layers, strict=True)
    ]
    notes = [WheelInfo(wheel.filename, wheel.digest.removeprefix("sha256:")) for group in own for wheel in group.wheels]
    tallies = [left_out(site, wheel) for group in groups for wheel in group.wheels]
    steps = None
    if plan.steps:
        from hatch_docker.engines.step_sandbox import run_in_sandbox
        from hatch_docker.engines.steps import Steps, host_image_of

        host_image = host_image_of(lambda host: _build_one(plan, host, project, ctx), platform)
        steps = Steps("embedded", run_in_sandbox, host_image)
    return finish(inputs, pins, noted_layers, notes, tallies, steps)


def _own_group(own: OwnProject, inputs: Inputs) -> Group:
    """Return the group of the project's or a member's wheel, built by hatchling in this process or from its sdist.

    For another architecture than this machine's, the builder stage builds on this machine: a pure wheel fits, a
    compiled wheel is a BuildError.
    """
    target, ctx = inputs.target, inputs.ctx
    if own.build.isolated:
        from hatch_docker.wheels.builder.build import find_wheel

        sdist, here = own.project.sdist(), target.builds_here
        builder = inputs if here else open_inputs(inputs.plan, host_platform(), own.project, ctx)
        file = find_wheel(sdist, own.build, builder.base, builder.target, ctx, own.project.root)
        if not here and not file.name.endswith(PURE):
            where = inputs.base.platform
            raise BuildError(f"{sdist.name} cannot be compiled for {where} on this machine; build it there")
        key = key_of("contents", file.digest, str(target))
        if ctx.store.recall("fits", key) is None:
            check_contents(file.open(), target)
            ctx.store.remember("fits", key, True)
    else:
        from hatch_docker.wheels.install.compatibility import check_prebuilt

        file = existing_file(own_wheel(own.project, target, ctx))
        check_prebuilt(file.open(), target)
        check_contents(file.open(), target)
    wheel = Wheel(own.title, file.name, file.digest, file.open, slim_rules(inputs.plan, "project"))
    return Group("project", (wheel,), venv=own.is_main)


def _layers(
    groups: Sequence[Group], pins: Sequence[Pin], site: Site, root: Path, *, reused: int = 0
) -> list[tuple[Layer, bool]]:
    """Return the layer of each group, and whether it was cached. Missing layers are made in parallel.

    `reused`: the number of other cached layers, for the progress message.
    """
    known = [recall_wheels(site, group.wheels, venv=group.venv) for group in groups]
    costly = any(layer is None and group.kind != "project" for group, layer in zip(groups, known, strict=True))
    if costly and site.ctx.store.load_shared():
        known = [recall_wheels(site, group.wheels, venv=group.venv) for group in groups]
    if all(layer is not None for layer in known):
        return [(layer, True) for layer in known if layer is not None]
    from concurrent.futures import ThreadPoolExecutor

    from hatch_docker.wheels.fetch import fetch

    missing = [group for group, layer in zip(groups, known, strict=True) if layer is None]
    digests = {wheel.digest for group in missing for wheel in group.wheels}
    wanted = [pinned for pinned in pins if f"sha256:{pinned.sha256}" in digests and pinned.is_wheel]
    fetch(wanted, site.ctx, root=root)
    reused += len(known) - len(missing)
    title = f"making {plural(len(missing), 'layer')}{f' ({reused} reused)' if reused else ''}"
    with (
        site.ctx.progress.task(title, len(missing), unit="layers", quick=True) as task,
        ThreadPoolExecutor(WORKERS, initializer=task.become_parent) as pool,
    ):

        def make(group: Group) -> tuple[Layer, bool]:
            layer, cached = make_wheels(site, group.wheels, venv=group.venv)
            task.advance(not cached)
            return layer, cached

        return list(pool.map(make, groups))
