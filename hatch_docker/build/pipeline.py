"""The steps of a build, in order: plan -> engine -> image -> checks -> archive, daemon, registries -> receipt."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hatch_docker.build.checks.hints import find_hints
from hatch_docker.build.checks.machine import check_daemon, check_machine, check_paths
from hatch_docker.build.checks.named import check_named
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
from hatch_docker.core.files import ARCHIVE, RECEIPT, atomic_write, check_free, remove_leftovers, temporary_directory
from hatch_docker.core.streams import CountingStream
from hatch_docker.engines.model import BuiltImage, Engine
from hatch_docker.oci.archive import archive_matches, write_archive
from hatch_docker.oci.daemon import Loaded, load
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

Made = tuple[Receipt, Loaded | None, Image | Index]
"""The receipt of a build, what a daemon made of the image, None if none has it, and the image."""


def run(
    plan: Plan, project: Project, engine: Engine, directory: Path, ctx: Context, notes: Notes | None = None
) -> Receipt:
    """Build the images of a plan and bring them where it says: an archive, a daemon, registries. Return the receipt.

    Everything is made and checked before the first file of an earlier build is replaced, and all of that comes
    before the push. An error of a push is raised once the receipt, which names it, is written. `notes` gets what was
    made.
    """
    ctx.progress.long.clear()  # those of another image
    early = with_shared_cache(plan, project.root, ctx)
    remote = check_first(plan, project, ctx, functools.partial(read_if_new, plan, early))
    archive, path = output_paths(plan, directory)
    dotenv = report_path(project.root, plan.dotenv, ctx.environ)
    for output in (archive, path):
        check_free(output)
        remove_leftovers(output)
    before = previous_receipt(path, plan) if ctx.progress.verbosity >= 0 else None
    known = project.shared() if plan.build.isolated else None
    ctx = with_shared_cache(plan, project.root, ctx, known or shared_of(early))
    ctx = replace(ctx, used={}, readers=base_readers(plan))
    attempt = functools.partial(_make, plan, project, engine, directory, {}, remote)
    lazy = not plan.archive and plan.load == "never"
    receipt, loaded, item = _make_again_if_damaged(attempt, replace(ctx, lazy=lazy))
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


def _make(
    plan: Plan, project: Project, engine: Engine, directory: Path, timings: dict[str, float], remote: Remote | None,
    ctx: Context,
) -> Made:  # fmt: skip
    """Make the image in one attempt, with the times of all attempts."""
    archive, path = output_paths(plan, directory)
    with _timed(timings, "build"), _reachable(plan, remote, ctx) as watched:
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

    loaded: Loaded | None = None
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
                    made=None if plan.sign is not None else _made(built),  # cosign needs the image to be there
                    remote=remote, later=later,
                )  # fmt: skip
        if shared_of(ctx) is not None and push_error(deliveries) is None:
            with _timed(timings, "cache"):
                write_shared_cache(plan, project, built, plan.repositories if plan.push else (), ctx, remote)
        if any(later.values()):
            with _timed(timings, "push"):
                deliveries = end_pushes(deliveries, later)
    finally:  # the archive is written in any case, and needs its receipt
        receipt = make_receipt(
            plan, item, built, archive=archive.name if plan.archive else "", documents=documents,
            loaded=loaded.references if loaded else (), deliveries=deliveries, timings=timings,
            steps=ctx.progress.long, hints=hints,
        )  # fmt: skip
        ctx.secrets.check("the receipt", receipt.to_json())
        receipt.write(path)
    return receipt, loaded, item


def _check(plan: Plan, built: Sequence[BuiltImage], ctx: Context, timings: dict[str, float]) -> tuple[str, ...]:
    """Raise BuildError if an image must not leave this machine; return hints that do not stop a build."""
    check_named(plan, built, ctx)
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


def _reachable(plan: Plan, remote: Remote | None, ctx: Context) -> contextlib.AbstractContextManager[Context]:
    """Return the block in which the image is made; a push to a registry that is not running ends it."""
    if remote is None:
        return contextlib.nullcontext(ctx)
    from hatch_docker.release.sessions import stop_if_refused

    return stop_if_refused(remote, plan.repositories, ctx)


def check_first(
    plan: Plan, project: Project, ctx: Context, then: Callable[[], object] = lambda: None
) -> Remote | None:
    """Raise what a build would end with, as far as nothing has to be made or downloaded to know it.

    Return the access to the registries of a push, which were asked; None without a push. `then` is called when they
    accept it, while a sandbox is still tried.
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

    opened: list[Remote] = []

    def ask() -> None:
        opened.append(open_sessions(plan.repositories, ctx))
        then()

    try:  # at once: the registries answer while a sandbox is tried
        at_once(lambda: check_machine(plan, ctx), ask)
    except HatchDockerError:
        for remote in opened:
            close_sessions(remote)
        raise
    return opened[0]


def _make_again_if_damaged(attempt: Callable[[Context], Made], ctx: Context) -> Made:
    """Return what an attempt makes, after another one for each blob of the cache that was missing or damaged.

    A damaged blob has been removed by then, so the next attempt makes or fetches it again. The same blob twice is an
    error.
    """
    damages: set[str] = set()
    while True:
        try:
            return attempt(ctx)
        except DamagedBlobError as damage:
            if ctx.lazy:  # no registry has that layer
                ctx.progress.detail(f"a layer that is not in the cache is needed: {damage}")
                ctx = replace(ctx, lazy=False)
                continue
            if str(damage) in damages:
                raise
            damages.add(str(damage))
            ctx.progress.warn(str(damage))


def base_readers(plan: Plan) -> tuple[Callable[[Context, Layer], LayerReader | None], ...]:
    """Return the readers of a new base, so that its layers are not decompressed again for checks and documents."""

    def libraries(ctx: Context, layer: Layer) -> LayerReader | None:
        from hatch_docker.build.checks.loader import NativeReader

        return NativeReader(ctx.store, layer).if_new()

    def inventory(ctx: Context, layer: Layer) -> LayerReader | None:
        from hatch_docker.release.sbom.inventory import InventoryReader

        return InventoryReader(ctx.store, layer).if_new()

    return (libraries,) * (plan.native_libraries != "off") + (inventory,) * bool(plan.sbom)


def _made(built: Sequence[BuiltImage]) -> frozenset[str]:
    """Return the digests of the layers that this build made."""
    return frozenset(
        layer.descriptor.digest for result in built
        for layer, note in zip(result.image.layers, result.notes, strict=True) if not note.cached
    )  # fmt: skip


def image_or_index(built: Sequence[BuiltImage]) -> Image | Index:
    """Return the only image that an engine built, or the index of several."""
    images = [result.image for result in built]
    return images[0] if len(images) == 1 else make_index(images, index_annotations(images))


def output_paths(plan: Plan, directory: Path) -> tuple[Path, Path]:
    """Return the paths of the archive and of the receipt."""
    return directory / f"{plan.stem}{ARCHIVE}", directory / f"{plan.stem}{RECEIPT}"


@contextlib.contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + time.perf_counter() - started


def write_archive_file(item: Image | Index, references: Sequence[str], path: Path, ctx: Context) -> None:
    """Write an archive, unless the file at `path` already is this very archive."""
    host = host_platform()
    if archive_matches(path, item, references, host=host):
        return
    layers = {layer.descriptor.digest: layer for image in images_of(item) for layer in image.layers}
    size = sum(layer.descriptor.size for layer in layers.values())
    with ctx.progress.task(f"writing {path.name}", size, part=True) as task, atomic_write(path) as stream:
        write_archive(item, references, CountingStream(stream, task.advance), host=host)


def _load(plan: Plan, item: Image | Index, archive: Path, ctx: Context) -> Loaded | None:
    """Load the image into Docker or Podman if one answers; return None if it was not loaded."""
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

            whole = archive if plan.archive else written
            loaded = load(daemons[0], item, plan.references, whole, host=host, log=ctx.progress.detail, task=task)
    except DaemonError as error:
        if plan.load == "always" or daemons[0].url:
            raise
        # Podman is a program: only running it shows whether it works for this user.
        ctx.progress.warn(f'not loaded: {" ".join(str(error).split())}; load = "never" does not ask Podman')
        return None
    ctx.progress.info(loaded_line(loaded))
    return loaded
