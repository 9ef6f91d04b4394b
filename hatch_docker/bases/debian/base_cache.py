"""A Debian base, remembered whole: an unchanged build reads one small file, and imports nothing that makes one."""

from __future__ import annotations

import time
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from hatch_docker.bases.debian.snapshot import is_young, recall_snapshot
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.cache.store import key_of
from hatch_docker.oci.model import Descriptor, Image, Layer, Platform
from hatch_docker.plan.model import BasePlan

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.oci.compression import Compression

RECIPE = 3  # raise it when a remembered base reads otherwise
KIND = "debian-base"


def recall_base(plan: BasePlan, platform: Platform, compression: Compression, ctx: Context) -> Base | None:
    """The base of a `debian:` plan, if it was made of the lock, or of the snapshot that is in use and young."""
    if ctx.pins is not None:
        snapshot: object = None if ctx.pins.ask else ctx.pins.digest
    else:
        snapshot = _young_snapshot(plan, platform, ctx)
    if snapshot is None:
        return None
    fact = ctx.store.recall(KIND, _key(plan, platform, compression, ctx))
    if fact is None or fact["snapshot"] != snapshot:
        return None
    layers = tuple(_layer(row, ctx) for row in fact["layers"])
    if not all(ctx.store.has(layer.descriptor.digest) or ctx.lazy for layer in layers):
        return None
    descriptor, manifest, config = fact["image"]
    return Base(
        plan=plan, name=plan.name, digest=descriptor[1],
        image=Image(Descriptor(*descriptor), manifest.encode(), config.encode(), layers),
        interpreter=Interpreter(*fact["interpreter"]), libc=(fact["libc"][0], fact["libc"][1]),
        users={name: (uid, gid) for name, (uid, gid) in fact["users"].items()},
        directories=frozenset(fact["directories"]), symlinks=fact["symlinks"], suite=plan.location,
        contents=tuple(tuple(row) for row in fact["contents"]), kinds=tuple(fact["kinds"]),
        hashes=fact["hashes"],
    )  # fmt: skip


def _young_snapshot(plan: BasePlan, platform: Platform, ctx: Context) -> float | None:
    """When the mirror was asked last, if that will do."""
    snapshot = recall_snapshot(ctx.store, plan.location, platform.architecture)
    return snapshot["time"] if snapshot and not ctx.refresh and is_young(snapshot, time.time()) else None


def remember_base(base: Base, compression: Compression, ctx: Context) -> None:
    """Keep a base that was made just now, with the lock or the snapshot that it was made of."""
    if ctx.pins is not None:
        if ctx.pins.ask:
            return
        made_of: object = ctx.pins.digest
    else:
        snapshot = recall_snapshot(ctx.store, base.plan.location, base.platform.architecture)
        if snapshot is None:
            return
        made_of = snapshot["time"]
    image = base.image
    descriptor = [image.descriptor.media_type, image.descriptor.digest, image.descriptor.size]
    fact: dict[str, Any] = {
        "snapshot": made_of,
        "image": [descriptor, image.manifest.decode(), image.config.decode()],
        "layers": [_row(layer) for layer in image.layers],
        "interpreter": list(astuple(base.interpreter)), "libc": list(base.libc),
        "users": {name: list(ids) for name, ids in base.users.items()},
        "directories": sorted(base.directories), "symlinks": dict(base.symlinks),
        "contents": [list(row) for row in base.contents], "kinds": list(base.kinds),
        "hashes": dict(base.hashes),
    }  # fmt: skip
    ctx.store.remember(KIND, _key(base.plan, base.platform, compression, ctx), fact)


def _key(plan: BasePlan, platform: Platform, compression: Compression, ctx: Context) -> str:
    pinned = [ctx.pins.digest] if ctx.pins is not None else []  # a fact for each lock, or projects would take turns
    return key_of(RECIPE, plan.location, plan.slim, plan.packages, str(platform), compression.identity, *pinned)


def _row(layer: Layer) -> list[Any]:
    descriptor = layer.descriptor
    return [descriptor.media_type, descriptor.digest, descriptor.size, layer.diff_id, layer.unpacked_size]


def _layer(row: list[Any], ctx: Context) -> Layer:
    media_type, digest, size, diff_id, unpacked_size = row
    return Layer(Descriptor(media_type, digest, size), diff_id, unpacked_size, lambda: ctx.store.open(digest))
