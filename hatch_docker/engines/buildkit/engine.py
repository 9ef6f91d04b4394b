"""The BuildKit engine: it runs the stages of the Dockerfile in Docker, local or remote, or in Podman.

Wheels are compiled and installed in the stages, and the resulting trees are exported. This process makes layers of them
and adds them to the base, with the code of the embedded engine. So the image's digest does not depend on the builder,
and only trees that are not cached are built and copied.
"""

import contextlib
import json
import re
import secrets as random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from hatch_docker.core.cache.kept_file import existing_file
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, WheelError
from hatch_docker.core.files import temporary_directory
from hatch_docker.engines.buildkit.build_request import BuildRequest, PreloadedImage
from hatch_docker.engines.buildkit.builders import find_builder
from hatch_docker.engines.buildkit.context import (
    CopyStep,
    Job,
    base_name,
    compiler_image,
    compiler_of,
    make_job,
    proxies_of,
    secrets_and_ssh,
    stage_base,
    stages_of,
    write_certificates,
    write_context,
)
from hatch_docker.engines.buildkit.dockerfile import Group, render_export
from hatch_docker.engines.buildkit.run_step import run_in_stage
from hatch_docker.engines.buildkit.system_packages import Compiler, find_system, layer_facts, read_changes, with_system
from hatch_docker.engines.common import (
    check_commands,
    check_contents,
    checked_groups,
    created_time,
    dependency_build_plan,
    finish,
    open_inputs,
    slim_rules,
)
from hatch_docker.engines.layer_cache import layer_by_key, layer_title, recall_layer
from hatch_docker.engines.model import BuiltImage, Inputs, LayerInfo, WheelInfo
from hatch_docker.engines.project_wheels import OwnProject, own_projects, own_wheel
from hatch_docker.engines.steps import Steps, host_image_of
from hatch_docker.engines.wheel_layers import check_records, note_uncompiled, remember_files
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.filesystem import tree_entries
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Layer, Platform
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.builder.pep517 import MISSING
from hatch_docker.wheels.builder.sdist import note_table
from hatch_docker.wheels.builder.ssh_agent import check_agent
from hatch_docker.wheels.builder.variables import secret_variables
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.install.compatibility import check_built, check_prebuilt
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import KINDS
from hatch_docker.wheels.install.venv import check_owners, wheel_files
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin, note_used

TREES = "stage tree"
CACHE_NAME = "compiler-cache"


def build(plan: Plan, project: Project, ctx: Context) -> tuple[BuiltImage, ...]:
    """Return one image for each platform of the plan; raises HatchDockerError."""
    return tuple(_build_one(plan, Platform.parse(platform), project, ctx) for platform in plan.platforms)


def _build_one(plan: Plan, platform: Platform, project: Project, ctx: Context) -> BuiltImage:
    inputs = open_inputs(plan, platform, project, ctx)
    base = inputs.base

    def metadata(pinned: Pin, sdist: Path) -> bytes:
        """Return the METADATA of an sdist by building its tree, which the image needs anyway."""
        _, [(layer, _)] = _trees(inputs, lambda: [_dependency(pinned, sdist, inputs)])
        for entry, stream in layer_entries(layer):
            if VenvTarget(base.interpreter).is_metadata(entry.path, "METADATA") and stream is not None:
                return stream.read()
        raise WheelError(f"the wheel that {pinned.filename} gave has no METADATA")

    pins = pin(plan.lock, project.root, inputs.target, ctx, metadata=metadata)
    debs = find_system(base, ctx)
    system = [CopyStep(Group("system", "system", debs.contents), debs=debs)] if debs else []
    steps, layers = _trees(inputs, lambda: [*system, *make_steps(pins, inputs)])
    facts = [ctx.store.recall(TREES, key) for key in _keys(inputs, steps)]
    if debs:
        (layer, cached), *layers = layers
        created = created_time(replace(plan, created=None), base, ())
        base = replace(with_system(base, layer, facts.pop(0), debs, created), cached=base.cached and cached)
    check_records(pins, ctx, refuse=plan.wheel_records == "refuse")
    check_owners({title: files for fact in facts for title, files in fact["files"].items()})
    check_commands(plan, base, frozenset(name for fact in facts for name in fact["programs"]), ctx)
    steps = steps[len(system):]
    noted_layers = [
        (layer, LayerInfo(step.group.kind, step.group.contents, cached))
        for step, (layer, cached) in zip(steps, layers, strict=True)
    ]
    for step in steps:
        note_used(step.job.requires if step.job else (), ctx)
    own = [WheelInfo(*fact["wheel"]) for fact, step in zip(facts, steps, strict=True) if step.group.kind == "project"]
    tallies = [tally for fact in facts for tally in fact.get("left_out", {}).values()]
    host_image = host_image_of(lambda host: _build_one(plan, host, project, ctx), platform)
    run = Steps("buildkit", partial(run_in_stage, builder_name=plan.builder), host_image)
    return finish(replace(inputs, base=base), pins, noted_layers, own, tallies, run)


def _keys(inputs: Inputs, steps: Sequence[CopyStep]) -> list[str]:
    """Return the cache key of each step's tree."""
    compiler = compiler_of(inputs.base, steps, inputs.ctx)
    return [step.key(inputs.base, compiler.key if compiler else "") for step in steps]


def make_steps(pins: Sequence[Pin], inputs: Inputs) -> list[CopyStep]:
    """Return a step for each layer of the embedded engine, in the same order and with unique names."""
    own_steps = [_own_step(own, inputs) for own in own_projects(inputs.plan, inputs.target, inputs.project)]
    alone, small = checked_groups(pins, inputs, len(own_steps))
    rules = slim_rules(inputs.plan, "dependencies")
    steps: list[CopyStep] = []
    for pinned in alone:
        if pinned.is_wheel:
            steps.append(CopyStep(Group(pinned.name, "dependencies", (pinned.title,), rules=rules), pins=(pinned,)))
        else:
            sdist, = fetch([pinned], inputs.ctx, root=inputs.project.root)
            steps.append(_dependency(pinned, sdist, inputs))
    if small:
        group = Group("packages", "dependencies", tuple(pinned.title for pinned in small), rules=rules)
        steps.append(CopyStep(group, pins=tuple(small)))
    steps += own_steps
    taken: set[str] = set()
    for number, step in enumerate(steps):
        name, count = step.group.name, 2
        while name in taken:
            name, count = f"{step.group.name}-{count}", count + 1
        taken.add(name)
        steps[number] = replace(step, group=replace(step.group, name=name))
    return steps


def _dependency(pinned: Pin, sdist: Path, inputs: Inputs) -> CopyStep:
    """Return the step of a dependency without a wheel for the target."""
    build = dependency_build_plan(inputs.plan.build, pinned)
    file = replace(existing_file(sdist), name=pinned.filename, subdirectory=pinned.subdirectory)
    job = make_job(file, build, inputs.target, inputs.project, inputs.ctx)
    rules = slim_rules(inputs.plan, "dependencies")
    return CopyStep(Group(pinned.name, "dependencies", (pinned.title,), build, rules=rules), job=job)


def _own_step(own: OwnProject, inputs: Inputs) -> CopyStep:
    target, ctx = inputs.target, inputs.ctx
    name = "project" if own.is_main else own.title.partition(" ")[0].lower()
    group = Group(name, "project", (own.title,), venv=own.is_main, rules=slim_rules(inputs.plan, "project"))
    if own.build.isolated:
        job = make_job(own.project.sdist(), own.build, target, own.project, ctx)
        return CopyStep(replace(group, build=own.build), job=job)
    wheel = own_wheel(own.project, target, ctx)
    check_prebuilt(wheel, target)
    check_contents(wheel, target)
    return CopyStep(group, wheel=wheel)


def _trees(
    inputs: Inputs, make: Callable[[], Sequence[CopyStep]]
) -> tuple[Sequence[CopyStep], list[tuple[Layer, bool]]]:
    """Return the steps and their layers; if a backend requests more build requirements, everything is built again."""
    extended: set[str] = set()
    while True:
        steps = make()
        try:
            return steps, _layers(inputs, steps)
        except _MissingRequirements as missing:
            sdist = missing.job.sdist
            if sdist.content in extended:
                raise BuildError(f"{sdist.name} requests more build requirements each time: {missing}") from None
            extended.add(sdist.content)
            inputs.ctx.store.remember("stage-requires", key_of(sdist.content), missing.requires)


def _layers(inputs: Inputs, steps: Sequence[CopyStep]) -> list[tuple[Layer, bool]]:
    """Return the layer of each step and whether it was cached; all missing trees are built in one build."""
    store, keys, compression = inputs.ctx.store, _keys(inputs, steps), Compression(inputs.plan.compression)
    known = [recall_layer(key, compression, inputs.ctx) if store.recall(TREES, key) else None for key in keys]
    if all(layer is not None for layer in known):
        return [(layer, True) for layer in known if layer is not None]
    # A shared cache must be complete, because other machines have none of the cached layers: build all trees.
    build_all = bool(inputs.plan.cache.targets)
    wanted = [step for step, layer in zip(steps, known, strict=True) if build_all or layer is None]
    with temporary_directory() as work:
        out = work / "out"
        _run(inputs, wanted, work, out)
        return [
            (layer, True) if layer else (_read_layer(step, key, inputs, out), False)
            for step, key, layer in zip(steps, keys, known, strict=True)
        ]


def _run(inputs: Inputs, steps: Sequence[CopyStep], work: Path, out: Path) -> None:
    plan, ctx = inputs.plan, inputs.ctx
    builder = find_builder(plan.builder, ctx)
    base = stage_base(inputs.base, steps, builder.platforms, ctx, Compression(plan.compression))
    compiler = compiler_of(base, steps, ctx)
    image = compiler_image(compiler, base, ctx, remote=builder.remote)
    context = work / "context"
    steps = [_with_compiler_cache(step, compiler, inputs) for step in steps]
    write_context(steps, base, compiler, context, inputs.project, ctx)
    dockerfile = work / "Dockerfile"
    network = any(step.job.plan.network for step in steps if step.job)
    trusted = write_certificates(context, ctx, network=network)
    stages = stages_of(base, steps, compiler, image, certificates=trusted)
    dockerfile.write_text(render_export(stages), encoding="utf-8")
    images = [] if base.plan.kind == "registry" else [PreloadedImage(base_name(base), base.image)]
    images += [image] if image else []
    secrets, ssh = secrets_and_ssh(steps)
    secret_variables(secrets, ctx.environ)
    if ssh:
        check_agent(ctx.environ)
    request = BuildRequest(
        dockerfile, context, out, base.platform, tuple(images), plan.cache, inputs.project.root, secrets, ssh,
        proxies_of(steps, ctx.environ),
    )
    try:
        builder.build(request, ctx)
    except BuildError as failure:
        if missing := _find_missing_requirements(str(failure), steps):
            raise missing from None
        raise


def _with_compiler_cache(step: CopyStep, compiler: Compiler | None, inputs: Inputs) -> CopyStep:
    """Return the step with the id of a cache mount of the builder for the project's compiler cache, if it may use one.

    The id contains a random number from the store, so that other machines and other users of the builder cannot guess
    it. There is no compiler cache with a shared cache: the id would make the stage different on each machine, and
    foreign contents must not influence the compiler cache.
    """
    store, shared = inputs.ctx.store, inputs.plan.cache.sources or inputs.plan.cache.targets
    if step.job is None or compiler is None or not step.job.plan.compiler_cache or shared:
        return step
    unversioned = compiler.debs is not None and compiler.debs.packages is None  # a new compiler has the same key
    if unversioned or inputs.ctx.no_cache or store.uses_shared:
        return step
    own = store.recall_or_make(CACHE_NAME, CACHE_NAME, lambda: random.token_hex(16))
    requires = [pinned.sha256 for pinned in step.job.requires]
    interpreter = inputs.base.interpreter.path, inputs.base.interpreter_trust_key
    key = key_of(own, str(inputs.project.root.resolve()), step.group.name, compiler.key, *interpreter, requires)
    return replace(step, group=replace(step.group, cache=f"hatch-docker-{key[:32]}"))


class _MissingRequirements(Exception):
    """Exception: a backend requests build requirements in addition to [build-system] requires (PEP 517)."""

    def __init__(self, job: Job, requires: list[str]) -> None:
        super().__init__(", ".join(requires))
        self.job = job
        self.requires = requires


def _find_missing_requirements(output: str, steps: Sequence[CopyStep]) -> _MissingRequirements | None:
    found = re.search(rf"^{re.escape(MISSING)}(\[.*\])$", output, re.MULTILINE)
    stage = re.match(r"stage build-(\S+)", output)
    jobs = {step.group.name: step.job for step in steps if step.job}
    job = jobs.get(stage[1]) if stage else next(iter(jobs.values())) if len(jobs) == 1 else None
    if found is None or job is None:
        return None
    with contextlib.suppress(ValueError):  # a line that a program of the build printed
        return _MissingRequirements(job, [str(line) for line in json.loads(found[1])])
    return None


def _read_layer(step: CopyStep, key: str, inputs: Inputs, out: Path) -> Layer:
    """Return the layer of an exported tree, and store the facts about its files, programs and wheel."""
    compression = Compression(inputs.plan.compression)
    if step.debs:
        changes = read_changes(out / "system", inputs.base, inputs.ctx)
        title = "layer of system packages"
        layer, _ = layer_by_key(key, compression, inputs.ctx, lambda: changes, title=title)
        inputs.ctx.store.remember(TREES, key, layer_facts(changes))
        return layer
    venv = VenvTarget(inputs.base.interpreter)
    root = out / "tree" / step.group.name
    # The build is foreign code: do not follow a symlink in the tree, which could point to files of this machine.
    above = [out / path for path in accumulate(("tree", step.group.name, *venv.root.split("/")), "{}/{}".format)]
    if any(path.is_symlink() or not path.is_dir() for path in above):
        raise BuildError(f"the builder exported nothing for {', '.join(step.group.contents)}; is its disk full?")
    entries = tree_entries(root, venv.root)
    records = (entry for entry in entries if entry.kind == "file" and venv.is_metadata(entry.path, "RECORD"))
    files: dict[str, Mapping[str, str]] = {}
    for entry in records:
        assert isinstance(entry.content, Path)
        title = entry.path.split("/")[-2].removesuffix(".dist-info").replace("-", " ")
        files[title] = wheel_files([replace(entry, content=entry.content.read_bytes())], venv)
    wheel = _wheel_of(step, inputs, out)
    title = layer_title(step.group.contents)
    layer, _ = layer_by_key(key, compression, inputs.ctx, lambda: entries, title=title)
    programs = sorted(path.name for path in (root / venv.root / "bin").glob("*"))
    if step.group.kind == "project" and len(files) == 1:
        (own,) = files.values()
        remember_files(venv, f"sha256:{wheel[1]}", own, inputs.ctx, step.group.rules)
        paths = {entry.path for entry in entries}
        note_uncompiled(venv, f"sha256:{wheel[1]}", entries, paths, inputs.ctx, step.group.rules)
    fact = {"files": files, "programs": programs, "wheel": wheel, "left_out": _left_out(step, out)}
    inputs.ctx.store.remember(TREES, key, fact)
    return layer


def _left_out(step: CopyStep, out: Path) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Return the report about the files left out of each wheel; it is validated, because foreign code may change it."""
    if not step.group.rules.leave_out:
        return {}
    path = out / "slim" / step.group.name / "left-out.json"
    try:
        report = json.loads(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
        return {
            str(wheel): {kind: (int(files), int(size)) for kind, (files, size) in tally.items() if kind in KINDS}
            for wheel, tally in report.items()
        }
    except (ValueError, TypeError, AttributeError, OSError) as error:
        message = f"the builder did not report which files it left out of {step.group.name}; is its disk full?"
        raise BuildError(message) from error


def _wheel_of(step: CopyStep, inputs: Inputs, out: Path) -> list[str]:
    """Return the file name and hash of a step's own wheel, ["", ""] for none; raises WheelError for a wrong wheel."""
    wheels: Iterable[Path] = [step.wheel] if step.wheel else (out / "wheel" / step.group.name).glob("*.whl")
    for path in sorted(path for path in wheels if path.is_file() and not path.is_symlink()):
        if step.job:
            check_built(path.name, step.job.sdist.name, inputs.target)
            note_table(step.job.sdist, path, inputs.ctx.store)
        if step.group.kind == "project":
            check_contents(path, inputs.target)
        return [path.name, file_digest(path).removeprefix("sha256:")]
    return ["", ""]
