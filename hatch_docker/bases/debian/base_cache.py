"""Debian bases in the cache, and the snapshots from which they are made.

A snapshot is the list of a suite's signed indexes at one time. All projects on this machine use it for a day. An
unchanged build reads one small file, and imports no module that makes bases or reads archives.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from hatch_docker.bases.debian.steps import Step, builder_step
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.context import Context
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Descriptor, Image, Layer, Platform
from hatch_docker.plan.model import DEBIAN_PYTHONS, PYTHON_MIRROR, BasePlan

LIFETIME = 24 * 3600  # seconds for which a snapshot is used
LAYER_RECIPE = 2      # raise it when the same packages give a different layer
RECIPE = 4            # raise it when the format of a base in the store changes
KIND = "debian-base"
SNAPSHOT_RECIPE = 3   # raise it when the content of a snapshot changes
SNAPSHOT = "debian-snapshot"
RESOLUTION = "debian-resolution"
BUILDER = "builder-resolution"  # facts: the key of the resolution for a builder root, and the time of its snapshot


def snapshot_key(suite: str, architecture: str) -> str:
    """Return the key under which a suite's snapshot is in the store."""
    return key_of("snapshot", SNAPSHOT_RECIPE, suite, architecture)


def recall_snapshot(store: Store, suite: str, architecture: str) -> dict[str, Any] | None:
    """Return the snapshot of a suite, None if there is none.

    "time" is the time of the requests to the mirror, in seconds since the epoch. "indexes" has the fields of each
    `ArchiveFile`. "dates" maps the name of each release to the time of its signature.
    """
    known: dict[str, Any] | None = store.recall(SNAPSHOT, snapshot_key(suite, architecture))
    return known


def note_snapshot(ctx: Context, suite: str, architecture: str, snapshot: Mapping[str, Any]) -> None:
    """Record in the context that the build uses the snapshot of a suite."""
    ctx.note_response_time(SNAPSHOT, snapshot_key(suite, architecture), snapshot["time"])


def is_young(snapshot: Mapping[str, Any], now: float) -> bool:
    """Return whether a snapshot is young enough to be used without a request to the mirror."""
    taken: float = snapshot["time"]
    return 0 <= now - taken < LIFETIME


def note_builder(step: Step, suite: str, platform: Platform, resolution: str, ctx: Context) -> None:
    """Put the key of a builder root's resolution into the shared cache, unless it has a young fact with this key."""
    snapshot = recall_snapshot(ctx.store, suite, platform.architecture) if ctx.image_lock is None else None
    if snapshot is None:
        return
    key = _builder_step_key(step, suite, platform)
    known = ctx.store.recall(BUILDER, key) if ctx.store.uses_shared else None
    if not known or known["resolution"] != resolution or not is_young(known, time.time()):
        ctx.store.note(BUILDER, key, {"time": int(snapshot["time"]), "resolution": resolution})


def find_builder(
    plan: BasePlan, platform: Platform, packages: Sequence[str], ctx: Context, *, suite: str
) -> Path | None:
    """Return the name of a builder root from the shared cache, without a request to the mirror.

    The name serves only to look up results in the cache; no root is made from these packages. Returns None if this
    build did not use a shared cache, or if this machine has a young snapshot. See `base.builder_root`.
    """
    if ctx.image_lock is not None or ctx.refresh or not ctx.store.uses_shared or suite not in DEBIAN_PYTHONS:
        return None
    snapshot = recall_snapshot(ctx.store, suite, platform.architecture)
    if snapshot is not None and is_young(snapshot, time.time()):
        return None
    key = _builder_step_key(builder_step(plan, suite, packages), suite, platform)
    fact = ctx.store.recall(BUILDER, key)
    found = ctx.store.recall(RESOLUTION, fact["resolution"]) if fact and is_young(fact, time.time()) else None
    if not found:
        return None
    ctx.note_response_time(BUILDER, key, fact["time"])
    rows = [(name, f"{name} {version} {arch}", digest) for name, version, arch, _path, _size, digest, _archive in found]
    note_used(((title, digest) for _, title, digest in rows), suite, ctx)
    return Path(builder_key([[name, digest] for name, _, digest in rows]))


def _builder_step_key(step: Step, suite: str, platform: Platform) -> str:
    names = sorted(set(step.names)), sorted(step.ignored)
    return key_of("builder", SNAPSHOT_RECIPE, suite, platform.architecture, *names)


def builder_key(packages: Sequence[Sequence[str]]) -> str:
    """Return the name of a builder root. `packages`: pairs of name and digest."""
    return key_of("builder root", LAYER_RECIPE, packages)


def note_used(packages: Iterable[tuple[str, str]], suite: str, ctx: Context) -> None:
    """Record in the context that wheels are built with some packages. `packages`: pairs of title and digest."""
    ctx.materials.update({("deb", title, suite): digest.removeprefix("sha256:") for title, digest in packages})


def recall_base(plan: BasePlan, platform: Platform, compression: Compression, ctx: Context) -> Base | None:
    """Return the base of a `debian:` plan, None if the cache has none for the image lock or for a young snapshot."""
    origin = _origin(plan, platform, ctx, young=True)
    fact = ctx.store.recall(KIND, _key(plan, platform, compression, ctx)) if origin is not None else None
    if fact is None or fact["snapshot"] != origin:
        return None
    layers = tuple(
        Layer(Descriptor(media_type, digest, size), diff_id, unpacked_size, partial(ctx.store.open, digest))
        for media_type, digest, size, diff_id, unpacked_size in fact["layers"]
    )
    digests = [layer.descriptor.digest for layer in layers]
    if not all(ctx.store.has(digest) or ctx.lazy or ctx.store.is_available(digest) for digest in digests):
        return None
    descriptor, manifest, config = fact["image"]
    return Base(
        plan=plan, name=plan.name, digest=descriptor[1],
        image=Image(Descriptor(*descriptor), manifest.encode(), config.encode(), layers),
        interpreter=Interpreter(*fact["interpreter"]), libc=(fact["libc"][0], fact["libc"][1]),
        users={name: (uid, gid) for name, (uid, gid) in fact["users"].items()},
        directories=frozenset(fact["directories"]), symlinks=fact["symlinks"], suite=plan.location,
        contents=tuple(tuple(row) for row in fact["contents"]), kinds=tuple(fact["kinds"]),
        archive=(fact["archive"][0], fact["archive"][1]), bundled=fact["bundled"],
        hashes=fact["hashes"], fact_keys=tuple((kind, key) for kind, key in fact.get("made_of", ())),
    )  # fmt: skip


def remember_base(base: Base, compression: Compression, ctx: Context) -> None:
    """Put a new base into the cache, together with the image lock or the snapshot from which it was made."""
    origin = _origin(base.plan, base.platform, ctx)
    if origin is None:
        return
    image = base.image
    fact: dict[str, Any] = {
        "snapshot": origin,
        "image": [_row(image.descriptor), image.manifest.decode(), image.config.decode()],
        "layers": [[*_row(layer.descriptor), layer.diff_id, layer.unpacked_size] for layer in image.layers],
        "interpreter": astuple(base.interpreter), "libc": base.libc, "users": dict(base.users),
        "directories": sorted(base.directories), "symlinks": dict(base.symlinks), "contents": base.contents,
        "kinds": base.kinds, "hashes": dict(base.hashes), "made_of": base.fact_keys,
        "archive": base.archive, "bundled": dict(base.bundled),
    }  # fmt: skip
    ctx.store.remember(KIND, _key(base.plan, base.platform, compression, ctx), fact)


def _origin(plan: BasePlan, platform: Platform, ctx: Context, *, young: bool = False) -> object:
    """Return the digest of the image lock, or without a lock the time of the snapshot. They select the packages.

    Returns None if there is neither. With `young`, a snapshot counts only if it may be used without a new request.
    """
    if ctx.image_lock is not None:
        return None if ctx.image_lock.update else ctx.image_lock.digest
    snapshot = recall_snapshot(ctx.store, plan.location, platform.architecture)
    if snapshot is None or (young and (ctx.refresh or not is_young(snapshot, time.time()))):
        return None
    note_snapshot(ctx, plan.location, platform.architecture, snapshot)
    return snapshot["time"]


def _key(plan: BasePlan, platform: Platform, compression: Compression, ctx: Context) -> str:
    # A base for each lock: otherwise projects with different locks would replace each other's base.
    pinned = [ctx.image_lock.digest] if ctx.image_lock is not None else []
    recipes = (RECIPE, LAYER_RECIPE)
    made_as = (plan.location, plan.python, plan.slim, plan.packages)
    python = (*astuple(plan.standalone), ctx.environ.get(PYTHON_MIRROR, "")) if plan.standalone else None
    return key_of(recipes, *made_as, python, str(platform), compression.identity, *pinned)


def _row(descriptor: Descriptor) -> list[Any]:
    return [descriptor.media_type, descriptor.digest, descriptor.size]
