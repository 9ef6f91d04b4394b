"""The whole story on one screen: plan -> engine -> image -> check -> sinks -> receipt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hatch_docker.afterword import last_lines, previous_receipt
from hatch_docker.context import Context
from hatch_docker.engines.model import BuiltImage, Engine
from hatch_docker.errors import DaemonError
from hatch_docker.hints import find_hints
from hatch_docker.oci.model import Image, Index, Platform, images_of
from hatch_docker.oci.mutate import make_index
from hatch_docker.oci.reference import parse_reference
from hatch_docker.outputs import ARCHIVE, RECEIPT, check_free, remove_leftovers, replacing
from hatch_docker.plan import Plan
from hatch_docker.project import Source
from hatch_docker.receipt import Receipt, make_receipt, size_table
from hatch_docker.release.attachments import attach_and_sign, check_secrets, make_documents, write_documents
from hatch_docker.release.deliver import (
    MountSource,
    PushResult,
    add_push_secrets,
    check_destinations,
    push_error,
    push_to_all,
)
from hatch_docker.release.names import index_annotations
from hatch_docker.report import write_ci_outputs
from hatch_docker.store import DamagedBlobError
from hatch_docker.streams import CountingStream


def run(plan: Plan, source: Source, engine: Engine, directory: Path, host: Platform, ctx: Context) -> Receipt:
    """Build the image of a plan, check it, write archive and receipt, load it where a daemon answers, push it.

    Everything is made and checked before the first file of an earlier build is replaced, and all of that comes
    before the push. Raises, once the receipt is written, what kept the image from a registry.
    """
    if plan.push:
        check_destinations(plan.repositories, plan.image, plan.dirty, allow_dirty=plan.allow_dirty)
        if plan.sign is not None:
            from hatch_docker.release.cosign import check_signing

            check_signing(plan.sign, source.root, ctx.environ)
        add_push_secrets(plan.repositories, plan.sign, ctx)
    timings: dict[str, float] = {}
    for path in outputs(plan, directory):
        check_free(path)
        remove_leftovers(path)
    told: set[str] = set()
    before = previous_receipt(outputs(plan, directory)[1], plan) if ctx.progress.verbosity >= 0 else None
    ctx = replace(ctx, lazy=not plan.archive and plan.load == "never", used={})
    while True:
        try:
            receipt, daemon = _run(plan, source, engine, directory, host, ctx, timings)
            break
        except DamagedBlobError as damaged:
            # The bad entry is gone by now; what it held is made or fetched again, once.
            if ctx.lazy:
                ctx.progress.detail(f"what is not here is wanted: {damaged}")
                ctx = replace(ctx, lazy=False)
                continue
            if str(damaged) in told:
                raise
            told.add(str(damaged))
            ctx.progress.warn(str(damaged))
    if ctx.progress.verbosity >= 0:
        for line in (
            *size_table(receipt, short=ctx.progress.screen is not None),
            *last_lines(before, receipt, plan, outputs(plan, directory)[0], daemon, host, ctx),
        ):
            ctx.progress.info(line)
    _report(receipt, plan, source, directory, ctx)
    if error := push_error(receipt.deliveries):
        raise error
    return receipt


def _run(
    plan: Plan, source: Source, engine: Engine, directory: Path, host: Platform, ctx: Context,
    timings: dict[str, float],
) -> tuple[Receipt, str]:
    """What was made, and the daemon that has it: "docker", "podman" or ""."""
    with _timed(timings, "build"):
        built = engine(plan, source, ctx)
    item = image_or_index(built)

    if plan.native_libraries != "off":
        with _timed(timings, "libraries"):
            from hatch_docker.native.check import check_native

            check_native(plan, built, ctx)

    hints = find_hints(plan, built, ctx)

    if plan.check:
        with _timed(timings, "check"):
            _check(plan, built, host, ctx)

    if plan.budget:
        from hatch_docker.release.budget import check_budget

        check_budget(plan, built, ctx)

    with _timed(timings, "documents"):
        documents = make_documents(plan, item, built, source, ctx)
        check_secrets(item, built, documents, ctx)

    archive, facts = outputs(plan, directory)
    if plan.archive:
        with _timed(timings, "archive"):
            write_archive_file(item, plan.references, archive, host, ctx)
    write_documents(documents, directory, ctx)

    loaded: tuple[str, ...] = ()
    daemon = ""
    deliveries: tuple[PushResult, ...] = ()
    try:
        if plan.load != "never":
            with _timed(timings, "load"):
                loaded, daemon = _load(plan, item, archive, host, ctx)
        if plan.push:
            with _timed(timings, "push"):
                on_pushed = attach_and_sign(plan.sign, item, documents, source.root, ctx)
                deliveries = push_to_all(
                    item, plan.repositories, plan.tags, ctx, mount=_mount_source(built), on_pushed=on_pushed
                )
    finally:  # the archive is there in any case, and the receipt is its own
        receipt = make_receipt(
            plan, item, built, archive=archive.name if plan.archive else "", documents=documents, loaded=loaded,
            deliveries=deliveries, timings=timings, hints=hints,
        )  # fmt: skip
        ctx.secrets.check("the receipt", receipt.to_json())
        receipt.write(facts)
    return receipt, daemon


def _report(receipt: Receipt, plan: Plan, source: Source, directory: Path, ctx: Context) -> None:
    several = False
    if ctx.environ.get("GITHUB_OUTPUT"):
        from hatch_docker.workspace import is_member

        several = is_member(source.root)
    write_ci_outputs(
        receipt, directory, source.root / plan.dotenv if plan.dotenv else None, ctx.environ, several=several
    )


def _mount_source(built: Sequence[BuiltImage]) -> MountSource:
    """The layers of the base: where it came from, its registry need not be sent them."""
    layers = (layer.descriptor.digest for one in built for layer in one.base.image.layers)
    return MountSource(built[0].base.source, frozenset(layers))


def image_or_index(built: Sequence[BuiltImage]) -> Image | Index:
    """What an engine built as one thing: an image, or the index of several."""
    images = [one.image for one in built]
    return images[0] if len(images) == 1 else make_index(images, index_annotations(images))


def outputs(plan: Plan, directory: Path) -> tuple[Path, Path]:
    """The archive and the receipt."""
    return directory / f"{plan.stem}{ARCHIVE}", directory / f"{plan.stem}{RECEIPT}"


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - started


def _check(plan: Plan, built: Sequence[BuiltImage], host: Platform, ctx: Context) -> None:
    from hatch_docker.check import run_check

    assert plan.check is not None
    for one in built:
        if one.image.platform == host:
            run_check(one.image, one.base, plan.check.command, ctx, timeout=plan.check.timeout)
        else:
            ctx.progress.warn(f"the check was not run for {one.image.platform}: this machine is {host}")


def write_archive_file(
    item: Image | Index, references: Sequence[str], path: Path, host: Platform, ctx: Context
) -> None:
    """Write the archive, unless the file that is there is this very archive."""
    from hatch_docker.oci.archive import archive_matches, write_archive

    if archive_matches(path, item, references, host=host):
        return
    layers = {layer.descriptor.digest: layer for one in images_of(item) for layer in one.layers}
    size = sum(layer.descriptor.size for layer in layers.values())
    with ctx.progress.task(f"writing {path.name}", size, part=True) as task, replacing(path) as stream:
        write_archive(item, references, CountingStream(stream, task.advance), host=host)


def _load(
    plan: Plan, item: Image | Index, archive: Path, host: Platform, ctx: Context
) -> tuple[tuple[str, ...], str]:
    """Load the image into Docker or Podman where one answers; returns the names it has there, and which it is."""
    from hatch_docker.oci.daemon import find_daemons, load

    daemons = find_daemons(ctx.environ)
    if not daemons:
        if plan.load == "always":
            raise DaemonError("no Docker or Podman answers, and tool.hatch-docker.load asks for one; start it")
        return (), ""
    if host not in {Platform.parse(platform) for platform in plan.platforms}:
        ctx.progress.detail(f"not loaded: no image for {host} was made")
        return (), ""
    try:
        with ctx.progress.task(f"loading the image into {daemons[0]}", part=True):
            loaded = load(daemons[0], item, plan.references, archive, host=host, log=ctx.progress.detail)
    except DaemonError as error:
        if plan.load == "always" or daemons[0].url:
            raise
        # Podman by its program: whether it works for this user is not known before.
        ctx.progress.warn(f'not loaded: {" ".join(str(error).split())}; load = "never" does not ask Podman')
        return (), ""
    names = (parse_reference(name).familiar for name in loaded.references)
    ctx.progress.info(f"{loaded.daemon}: {', '.join(names)}")
    return loaded.references, loaded.daemon.kind
