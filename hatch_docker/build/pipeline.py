"""The steps of a build, in order: plan -> engine -> image -> checks -> archive, daemon, registries -> receipt."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hatch_docker.build.checks.hints import find_hints
from hatch_docker.build.checks.machine import check_daemon, check_machine, check_paths
from hatch_docker.build.checks.named import check_references
from hatch_docker.build.ci_outputs import is_one_of_several, report_path, write_ci_outputs
from hatch_docker.build.inputs import loaded_line, note_image
from hatch_docker.build.notes import Notes
from hatch_docker.build.receipt import Receipt, make_receipt, size_table
from hatch_docker.build.shared_cache import read_if_new, shared_of, with_shared_cache, write_shared_cache
from hatch_docker.build.summary import closing_lines, previous_receipt
from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.store import DamagedBlobError
from hatch_docker.core.context import Context
from hatch_docker.core.errors import DaemonError, HatchDockerError
from hatch_docker.core.files import ARCHIVE, RECEIPT, atomic_write, check_file, remove_leftovers, temporary_directory
from hatch_docker.core.streams import CountingStream
from hatch_docker.engines.model import BuiltImage, Engine
from hatch_docker.oci.archive import archive_matches, write_archive
from hatch_docker.oci.daemon import LoadResult, load
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.layer import LayerReader
from hatch_docker.oci.make_image import make_index
from hatch_docker.oci.model import Image, Index, Layer, Platform, host_platform, images_of
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import Plan
from hatch_docker.plan.naming import index_annotations
from hatch_docker.project.model import Project
from hatch_docker.release.attachments import attach_and_sign, check_secrets, make_documents, write_documents
from hatch_docker.release.push import Later, PushResult, check_push, end_pushes, push_error, push_to_all

BuildResult = tuple[Receipt, LoadResult | None, Image | Index]
"""The receipt of a build, the image as loaded into a daemon (None if it was not loaded), and the image."""


def run(
    plan: Plan, project: Project, engine: Engine, directory: Path, ctx: Context, notes: Notes | None = None
) -> Receipt:
    """Build the image of a plan, check it, write or send it to archive, daemon and registries; return the receipt.

    All checks precede the first change of a file, and all files are written before the push. A failed push raises its
    error after the receipt, which contains the error, is written. `notes` collects the results.
    """
    ctx.progress.long_tasks.clear()  # tasks of the previous image
    first = with_shared_cache(plan, project.root, ctx)
    remote = check_before_build(plan, project, ctx, functools.partial(read_if_new, plan, first))
    archive, path = output_paths(plan, directory)
    dotenv = report_path(project.root, plan.dotenv, ctx.environ)
    for output in (archive, path):
        check_file(output)
        remove_leftovers(output)
    before = previous_receipt(path, plan) if ctx.progress.verbosity >= 0 else None
    stage_cache = project.shared() if plan.build.isolated else None
    ctx = with_shared_cache(plan, project.root, ctx, stage_cache or shared_of(first))
    ctx = replace(ctx, materials={}, layer_readers=base_readers(plan))
    attempt = functools.partial(_build, plan, project, engine, directory, {}, remote)
    lazy = not plan.archive and plan.load == "never"
    receipt, loaded, item = _repeat_if_damaged(attempt, replace(ctx, lazy=lazy))
    if ctx.progress.verbosity >= 0:
        for line in (
            *size_table(receipt, short=ctx.progress.screen is not None),
            *closing_lines(before, receipt, plan, archive, loaded.daemon.kind if loaded else "", ctx),
        ):
            ctx.progress.info(line)
    several = is_one_of_several(project.root, ctx.environ)
    write_ci_outputs(receipt, directory, dotenv, ctx.environ, several=several)
    if error := push_error(receipt.deliveries):
        raise error
    if not (plan.archive or plan.push or loaded):
        ctx.progress.warn("the image is only in the cache: archive = false, and it is not loaded and not pushed")
    if notes is not None:
        note_image(notes, plan, receipt, item, (archive, path), loaded, ctx)
    return receipt


def _build(
    plan: Plan, project: Project, engine: Engine, directory: Path, timings: dict[str, float], remote: Remote | None,
    ctx: Context,
) -> BuildResult:  # fmt: skip
    """Build, check and deliver the image in one attempt. `timings`: seconds by step, summed over the attempts."""
    archive, path = output_paths(plan, directory)
    with _timed(timings, "build"), _stopped_if_refused(plan, remote, ctx) as watched:
        built = engine(plan, project, watched)
    item = image_or_index(built)
    hints = _check(plan, built, ctx, timings)
    with _timed(timings, "documents"):
        documents = make_documents(plan, item, built, project, ctx)
        check_secrets(item, built, documents, ctx)

    if plan.archive:
        with _timed(timings, "archive"):
            write_archive_file(item, plan.references, archive, ctx)
    write_documents(documents, directory, ctx)

    loaded: LoadResult | None = None
    deliveries: tuple[PushResult, ...] = ()
    later: Later = {}
    try:
        if plan.load != "never":
            with _timed(timings, "load"):
                loaded = _load(plan, item, archive, ctx)
        if plan.push:
            with _timed(timings, "push"):
                on_pushed = attach_and_sign(plan.sign, item, documents, project.root, ctx)
                below = [layer.descriptor.digest for result in built for layer in result.base.image.layers]
                mount = dict.fromkeys(below, built[0].base.source) if built[0].base.source else {}
                deliveries = push_to_all(
                    item, plan.repositories, plan.tags, ctx, mount=mount, on_pushed=on_pushed,
                    made=None if plan.sign is not None else _new_layers(built),  # cosign needs the pushed image
                    remote=remote, later=later,
                )  # fmt: skip
        if shared_of(ctx) is not None and push_error(deliveries) is None:
            with _timed(timings, "cache"):
                write_shared_cache(plan, project, built, plan.repositories if plan.push else (), ctx, remote)
        if any(later.values()):
            with _timed(timings, "push"):
                deliveries = end_pushes(deliveries, later)
    finally:  # the archive exists even if load or push failed: write its receipt
        receipt = make_receipt(
            plan, item, built, archive=archive.name if plan.archive else "", documents=documents,
            loaded=loaded.references if loaded else (), deliveries=deliveries, timings=timings,
            steps=ctx.progress.long_tasks, hints=hints,
        )  # fmt: skip
        ctx.secrets.check("the receipt", receipt.to_json())
        receipt.write(path)
    return receipt, loaded, item


def _check(plan: Plan, built: Sequence[BuiltImage], ctx: Context, timings: dict[str, float]) -> tuple[str, ...]:
    """Run the checks of the finished images; return hints. Raises BuildError and ConfigError."""
    check_references(plan, built, ctx)
    hints: tuple[str, ...] = ()
    if plan.native_libraries != "off":
        with _timed(timings, "libraries"):
            from hatch_docker.build.checks.shared_libraries import check_native

            hints = check_native(plan, built, ctx)
    hints += find_hints(plan, built, ctx)
    if plan.check:
        with _timed(timings, "check"):
            from hatch_docker.build.checks.command import run_check

            for image, base in ((result.image, result.base) for result in built):
                if image.platform == host_platform():
                    run_check(image, base, plan.check.command, ctx, timeout=plan.check.timeout)
                else:
                    ctx.progress.warn(f"the check was not run for {image.platform}: this machine is {host_platform()}")
    if plan.budget:
        from hatch_docker.build.checks.budget import check_budget

        check_budget(plan, built, ctx)
    return hints


def _stopped_if_refused(plan: Plan, remote: Remote | None, ctx: Context) -> contextlib.AbstractContextManager[Context]:
    """Return a context manager for the build. If a registry of the push refuses connections, it stops the build."""
    if remote is None:
        return contextlib.nullcontext(ctx)
    from hatch_docker.release.sessions import stop_if_refused

    return stop_if_refused(remote, plan.repositories, ctx)


def check_before_build(
    plan: Plan, project: Project, ctx: Context, then: Callable[[], object] = lambda: None
) -> Remote | None:
    """Raise now the errors of the build that can be found without building or downloading anything.

    Return the client of the registries, with sessions opened for the push; None without a push. `then` is called when
    the registries have accepted the push, in parallel with the check of the sandbox.
    """
    if plan.push:
        check_push(
            plan.repositories, plan.image, plan.dirty, plan.sign, project.root, ctx, allow_dirty=plan.allow_dirty
        )
    check_paths(plan, project.root)
    if not plan.push:
        check_machine(plan, ctx)
        return None
    from hatch_docker.release.sessions import close_sessions, open_sessions

    remotes: list[Remote] = []

    def check_registries() -> None:
        remotes.append(open_sessions(plan.repositories, ctx))
        then()

    try:
        at_once(lambda: check_machine(plan, ctx), check_registries)
    except HatchDockerError:
        for remote in remotes:
            close_sessions(remote)
        raise
    return remotes[0]


def _repeat_if_damaged(attempt: Callable[[Context], BuildResult], ctx: Context) -> BuildResult:
    """Return the result of `attempt`; repeat it after each blob of the cache that is missing or damaged.

    The cache has removed that blob, so the next attempt creates it again. A second damage of the same blob is raised.
    """
    damages: set[str] = set()
    while True:
        try:
            return attempt(ctx)
        except DamagedBlobError as damage:
            if ctx.lazy:  # the layer was assumed to be in a registry, and is not
                ctx.progress.detail(f"a layer that is not in the cache is needed: {damage}")
                ctx = replace(ctx, lazy=False)
                continue
            if str(damage) in damages:
                raise
            damages.add(str(damage))
            ctx.progress.warn(str(damage))


def base_readers(plan: Plan) -> tuple[Callable[[Context, Layer], LayerReader | None], ...]:
    """Return the layer readers of checks and SBOM; a new base runs them, so that its layers are decompressed once."""

    def libraries(ctx: Context, layer: Layer) -> LayerReader | None:
        from hatch_docker.build.checks.loader import NativeReader

        return NativeReader(ctx.store, layer).unless_stored()

    def inventory(ctx: Context, layer: Layer) -> LayerReader | None:
        from hatch_docker.release.sbom.inventory import InventoryReader

        return InventoryReader(ctx.store, layer).unless_stored()

    return (libraries,) * (plan.native_libraries != "off") + (inventory,) * bool(plan.sbom)


def _new_layers(built: Sequence[BuiltImage]) -> frozenset[str]:
    """Return the digests of the layers that this build created."""
    return frozenset(
        layer.descriptor.digest for result in built
        for layer, note in zip(result.image.layers, result.notes, strict=True) if not note.cached
    )  # fmt: skip


def image_or_index(built: Sequence[BuiltImage]) -> Image | Index:
    """Return the image if an engine built one, or an index of several."""
    images = [result.image for result in built]
    return images[0] if len(images) == 1 else make_index(images, index_annotations(images))


def output_paths(plan: Plan, directory: Path) -> tuple[Path, Path]:
    """Return the paths of the archive and of the receipt."""
    return directory / f"{plan.stem}{ARCHIVE}", directory / f"{plan.stem}{RECEIPT}"


@contextlib.contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the duration of the block, in seconds, to the time of a step."""
    started = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + time.perf_counter() - started


def write_archive_file(item: Image | Index, references: Sequence[str], path: Path, ctx: Context) -> None:
    """Write the archive of an image, unless the file at `path` already has this content."""
    host = host_platform()
    if archive_matches(path, item, references, host=host):
        return
    layers = {layer.descriptor.digest: layer for image in images_of(item) for layer in image.layers}
    size = sum(layer.descriptor.size for layer in layers.values())
    with ctx.progress.task(f"writing {path.name}", size, part=True) as task, atomic_write(path) as stream:
        write_archive(item, references, CountingStream(stream, task.advance), host=host)


def _load(plan: Plan, item: Image | Index, archive: Path, ctx: Context) -> LoadResult | None:
    """Load the image into Docker or Podman if one is running; return None if it was not loaded."""
    daemons = find_daemons(ctx.environ)
    if not daemons:
        check_daemon(plan, ctx)
        return None
    host = host_platform()
    if host not in {Platform.parse(platform) for platform in plan.platforms}:
        ctx.progress.detail(f"not loaded: no image for {host} was made")
        return None
    try:
        with (
            ctx.progress.task(f"loading the image into {daemons[0]}", part=True) as task,
            contextlib.ExitStack() as stack,
        ):  # fmt: skip

            @functools.cache
            def written() -> Path:
                path = stack.enter_context(temporary_directory()) / archive.name
                write_archive_file(item, plan.references, path, ctx)
                return path

            source = archive if plan.archive else written
            loaded = load(daemons[0], item, plan.references, source, host=host, log=ctx.progress.detail, task=task)
    except DaemonError as error:
        if plan.load == "always" or daemons[0].url:
            raise
        # Only running Podman's program shows whether it works for this user: without load = "always", only warn.
        ctx.progress.warn(f'not loaded: {" ".join(str(error).split())}; load = "never" leaves Podman out')
        return None
    ctx.progress.info(loaded_line(loaded))
    return loaded
