"""The BuildKit engine: the stages of the Dockerfile in Docker, near or far, or in Podman.

Wheels are compiled and installed there; the trees come back and are laid on the base here, by the code of the
embedded engine. So the image, its digest included, does not depend on what a builder's store can export, and a
tree that is known is not built, and nothing but new trees is ever copied.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.engines import Built, LayerNote, WheelNote
from hatch_docker.engines.dockerfile import Group, render_export
from hatch_docker.engines.frame import (
    OWN_LAYER,
    check_commands,
    check_secrets,
    finish,
    foreign,
    open_target,
    rules_of,
    size_of,
)
from hatch_docker.engines.own import OwnProject, own_projects, own_wheel
from hatch_docker.engines.recipe import (
    Handed,
    Job,
    Part,
    base_name,
    compiler_image,
    compiler_of,
    lent_to,
    make_job,
    proxies_of,
    renamed,
    stage_base,
    stages_of,
    write_certificates,
    write_context,
)
from hatch_docker.engines.settings import created_time
from hatch_docker.engines.site import note_uncompiled, remember_files
from hatch_docker.engines.system import facts_of, find_system, read_changes, with_system, write_changes
from hatch_docker.engines.trees import tree_entries
from hatch_docker.errors import BuildError, WheelError
from hatch_docker.layers import layer_by_key, making, recall_layer
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Layer, Platform
from hatch_docker.outputs import scratch
from hatch_docker.store import file_digest, key_of
from hatch_docker.wheels.install import VenvTarget, check_fits, check_made, check_owners, wheel_files
from hatch_docker.wheels.lock import pin
from hatch_docker.wheels.slim import KINDS
from hatch_docker.wheels.target import note_used

if TYPE_CHECKING:
    from hatch_docker.bases.model import Base
    from hatch_docker.context import Context
    from hatch_docker.plan import Plan
    from hatch_docker.project import Source
    from hatch_docker.wheels.target import Pin, Target

TREES = "stage tree"


def build(plan: Plan, source: Source, ctx: Context) -> tuple[Built, ...]:
    """Make one image a platform of the plan; raises a HatchDockerError that says what the user can do."""
    return tuple(_build_one(plan, Platform.parse(platform), source, ctx) for platform in plan.platforms)


def _build_one(plan: Plan, platform: Platform, source: Source, ctx: Context) -> Built:
    compression = Compression(plan.compression)
    base, target = open_target(plan, platform, compression, source, ctx)

    site = _Site(plan, base, target, (), compression, source, ctx)

    def metadata(one: Pin, sdist: Path) -> bytes:
        """Of an sdist that only its build can tell: its tree is built, which is needed anyway."""
        _, [(layer, _)] = _trees(site, lambda: [renamed(_dependency(one, sdist, plan, target, source, ctx), set())])
        return _metadata_in(layer, one)

    pins = pin(plan.lock, source.root, target, ctx, metadata=metadata)
    debs = find_system(base, ctx)
    system = [Part(Group("system", "system", debs.contents), debs=debs)] if debs else []
    site, layers = _trees(site, lambda: [*system, *make_parts(plan, pins, target, source, ctx)])
    facts = [ctx.store.recall(TREES, key) for key in site.keys]
    if debs:
        (layer, cached), *layers = layers
        created = created_time(replace(plan, created=None), base, ())
        base = replace(with_system(base, layer, facts.pop(0), debs, created), cached=base.cached and cached)
    check_owners({title: files for one in facts for title, files in one["files"].items()})
    check_commands(plan, base, frozenset(name for one in facts for name in one["programs"]), ctx)
    made = [
        (layer, LayerNote(part.group.kind, part.group.contents, cached))
        for part, (layer, cached) in zip(site.parts[len(system):], layers, strict=True)
    ]
    parts = site.parts[len(system):]
    for part in parts:
        note_used(part.job.requires if part.job else (), ctx)
    own = [WheelNote(*one["wheel"]) for one, part in zip(facts, parts, strict=True) if part.group.kind == "project"]
    tallies = [tally for one in facts for tally in one.get("left_out", {}).values()]
    return finish(plan, base, pins, made, own, source, compression, ctx, tallies)


@dataclass(frozen=True, slots=True)
class _Site:
    """What one platform's trees are made of."""

    plan: Plan
    base: Base
    target: Target
    parts: tuple[Part, ...]
    compression: Compression
    source: Source
    ctx: Context

    @property
    def keys(self) -> list[str]:
        """A key for each part's tree."""
        compiler = compiler_of(self.base, self.parts, self.ctx)
        return [part.key(self.base, compiler.key if compiler else "") for part in self.parts]


def make_parts(
    plan: Plan, pins: Sequence[Pin], target: Target, source: Source, ctx: Context
) -> list[Part]:
    """The groups of the embedded engine, in its order: large wheels, small ones, the project."""
    taken: set[str] = set()
    parts: list[Part] = []
    small: list[Pin] = []
    rules = rules_of(plan, "dependencies")
    for one in pins:
        title = f"{one.name} {one.version}"
        if not one.is_wheel:
            from hatch_docker.wheels.fetch import fetch

            (sdist,) = fetch([one], ctx, root=source.root)
            parts.append(renamed(_dependency(one, sdist, plan, target, source, ctx), taken))
            continue
        check_fits(one.filename, target)
        if size_of(one, source.root, ctx) >= OWN_LAYER:
            parts.append(renamed(Part(Group(one.name, "dependencies", (title,), rules=rules), pins=(one,)), taken))
        else:
            small.append(one)
    if small:
        titles = tuple(f"{one.name} {one.version}" for one in small)
        group = Group("packages", "dependencies", titles, rules=rules)
        parts.append(renamed(Part(group, pins=tuple(small)), taken))
    return [*parts, *(renamed(_own(one, plan, target, ctx), taken) for one in own_projects(plan, target, source))]


def _dependency(one: Pin, sdist: Path, plan: Plan, target: Target, source: Source, ctx: Context) -> Part:
    """A dependency without a wheel for the target."""
    build = foreign(plan.build)
    job = make_job(sdist, one.filename, build, target, source, ctx)
    title = f"{one.name} {one.version}"
    return Part(Group(one.name, "dependencies", (title,), build, rules=rules_of(plan, "dependencies")), job=job)


def _metadata_in(layer: Layer, one: Pin) -> bytes:
    """The METADATA of the one wheel that a layer holds."""
    from hatch_docker.oci.layer import layer_entries

    for entry, stream in layer_entries(layer):
        if entry.path.endswith(".dist-info/METADATA") and stream is not None:
            return stream.read()
    raise WheelError(f"the wheel that {one.filename} gave has no METADATA")


def _own(one: OwnProject, plan: Plan, target: Target, ctx: Context) -> Part:
    name = "project" if one.is_main else one.title.partition(" ")[0].lower()
    group = Group(name, "project", (one.title,), venv=one.is_main, rules=rules_of(plan, "project"))
    if one.build.isolated:
        sdist = one.source.sdist()
        job = make_job(sdist, sdist.name, one.build, target, one.source, ctx)
        return Part(replace(group, build=one.build), job=job)
    from hatch_docker.wheels.given import check_given

    wheel = own_wheel(one.source, target, ctx)
    check_given(wheel, target)
    check_secrets(wheel)
    return Part(group, wheel=wheel)


def _trees(site: _Site, make: Callable[[], Sequence[Part]]) -> tuple[_Site, list[tuple[Layer, bool]]]:
    """The layers of some parts; they are made anew, and built again, where a backend asks for more requirements."""
    asked: set[str] = set()
    while True:
        site = replace(site, parts=tuple(make()))
        try:
            return site, _layers(site)
        except _MoreNeeded as needed:
            sdist = needed.job.sdist
            if sdist.content in asked:
                raise BuildError(f"{sdist.name} never stops asking for build requirements: {needed}") from None
            asked.add(sdist.content)
            site.ctx.store.remember("stage-requires", key_of(sdist.content), needed.requires)


def _layers(site: _Site) -> list[tuple[Layer, bool]]:
    """The layer of each part and whether it was known; unknown trees are built, all of them in one build."""
    store, keys = site.ctx.store, site.keys
    known = [
        recall_layer(key, site.compression, site.ctx) if store.recall(TREES, key) else None for key in keys
    ]
    if all(layer is not None for layer in known):
        return [(layer, True) for layer in known if layer is not None]
    # What goes to a shared cache must be whole: its next reader may have none of our layers.
    whole = bool(site.plan.cache.targets)
    wanted = [part for part, layer in zip(site.parts, known, strict=True) if whole or layer is None]
    with scratch() as work:
        out = work / "out"
        _run(site, wanted, work, out)
        return [
            (layer, True) if layer else (_take(part, key, site, out), False)
            for part, key, layer in zip(site.parts, keys, known, strict=True)
        ]


def _run(site: _Site, parts: Sequence[Part], work: Path, out: Path) -> None:
    from hatch_docker.engines.buildx import Order, find_builder
    from hatch_docker.wheels.agent import check_agent
    from hatch_docker.wheels.variables import secret_variables

    plan, ctx = site.plan, site.ctx
    builder = find_builder(plan.builder, ctx)
    base = stage_base(site.base, parts, builder.platforms, ctx, site.compression)
    compiler = compiler_of(base, parts, ctx)
    image = compiler_image(compiler.tree, base, ctx, far=builder.far) if compiler and compiler.tree else None
    context = work / "context"
    write_context(parts, base, compiler, context, site.source, ctx)
    if any(part.debs for part in parts):
        write_changes(context)
    dockerfile = work / "Dockerfile"
    stages = stages_of(base, parts, compiler, image, certificates=write_certificates(parts, context, ctx))
    dockerfile.write_text(render_export(stages), encoding="utf-8")
    handed = [] if base.plan.kind == "registry" else [Handed(base_name(base), base.image)]
    handed += [image] if image else []
    secrets, ssh = lent_to(parts)
    secret_variables(secrets, ctx.environ)
    if ssh:
        check_agent(ctx.environ)
    order = Order(
        dockerfile, context, out, base.platform, tuple(handed), plan.cache, site.source.root, secrets, ssh,
        proxies_of(parts, ctx.environ),
    )
    try:
        builder.build(order, ctx)
    except BuildError as failure:
        more = _more_needed(str(failure), parts)
        if more is None:
            raise
        raise more from None


class _MoreNeeded(Exception):
    """A backend asks for requirements beside those of pyproject.toml."""

    def __init__(self, job: Job, requires: list[str]) -> None:
        super().__init__(", ".join(requires))
        self.job = job
        self.requires = requires


def _more_needed(output: str, parts: Sequence[Part]) -> _MoreNeeded | None:
    from hatch_docker.wheels.pep517 import MISSING

    found = re.search(rf"^{re.escape(MISSING)}(\[.*\])$", output, re.MULTILINE)
    stage = re.match(r"stage build-(\S+)", output)
    jobs = {part.group.name: part.job for part in parts if part.job}
    job = jobs.get(stage[1]) if stage else next(iter(jobs.values())) if len(jobs) == 1 else None
    if found is None or job is None:
        return None
    with contextlib.suppress(ValueError):  # anybody may print such a line
        return _MoreNeeded(job, [str(line) for line in json.loads(found[1])])
    return None


def _take(part: Part, key: str, site: _Site, out: Path) -> Layer:
    """The layer of a tree that was built, and what is to be remembered of it."""
    if part.debs:
        changes = read_changes(out / "system", site.base, site.ctx)
        title = "layer of system packages"
        layer, _ = layer_by_key(key, site.compression, site.ctx, lambda: changes, title=title)
        site.ctx.store.remember(TREES, key, facts_of(changes))
        return layer
    venv = VenvTarget(site.base.interpreter)
    root = out / "tree" / part.group.name
    # Foreign code ran where this was made: a link in it must not lead to files of this machine.
    above = [out / path for path in accumulate(("tree", part.group.name, *venv.root.split("/")), "{}/{}".format)]
    if any(path.is_symlink() or not path.is_dir() for path in above):
        raise BuildError(f"the builder handed out nothing for {', '.join(part.group.contents)}; is its disk full?")
    entries = tree_entries(root, venv.root)
    records = (entry for entry in entries if entry.kind == "file" and entry.path.endswith(".dist-info/RECORD"))
    files: dict[str, Mapping[str, str]] = {}
    for entry in records:
        assert isinstance(entry.content, Path)
        title = entry.path.split("/")[-2].removesuffix(".dist-info").replace("-", " ")
        files[title] = wheel_files([replace(entry, content=entry.content.read_bytes())], venv)
    wheel = _wheel_of(part, site.target, out)
    layer, _ = layer_by_key(key, site.compression, site.ctx, lambda: entries, title=making(part.group.contents))
    programs = sorted(path.name for path in (root / venv.root / "bin").glob("*"))
    if part.group.kind == "project" and len(files) == 1:
        (own,) = files.values()
        remember_files(venv, f"sha256:{wheel[1]}", own, site.ctx, part.group.rules)
        paths = {entry.path for entry in entries}
        note_uncompiled(venv, f"sha256:{wheel[1]}", entries, paths, site.ctx, part.group.rules)
    fact = {"files": files, "programs": programs, "wheel": wheel, "left_out": _left_out(part, out)}
    site.ctx.store.remember(TREES, key, fact)
    return layer


def _left_out(part: Part, out: Path) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """What a stage says that it left out, wheel by wheel: foreign code may have run there, so it is looked at."""
    if not part.group.rules.leave_out:
        return {}
    path = out / "slim" / part.group.name / "left-out.json"
    try:
        told = json.loads(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
        return {
            str(wheel): {kind: (int(files), int(size)) for kind, (files, size) in tally.items() if kind in KINDS}
            for wheel, tally in told.items()
        }
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise BuildError(f"the builder did not say what it left out of {part.group.name}; is its disk full?") from error


def _wheel_of(part: Part, target: Target, out: Path) -> list[str]:
    """Name and hash of a part's only wheel, for the receipt; one that was built must be of its sdist's package."""
    made: Iterable[Path] = [part.wheel] if part.wheel else (out / "wheel" / part.group.name).glob("*.whl")
    for path in sorted(path for path in made if path.is_file() and not path.is_symlink()):
        if part.job:
            check_made(path.name, part.job.sdist.name, target)
        if part.group.kind == "project":
            check_secrets(path)
        return [path.name, file_digest(path).removeprefix("sha256:")]
    return ["", ""]
