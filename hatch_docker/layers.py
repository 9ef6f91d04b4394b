"""Layers by key: the lazy layer. Its digest is known from what goes into it, its bytes are made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

from hatch_docker.context import Context
from hatch_docker.oci.layer import Compression, Entry, LayerFacts, make_layer, write_layer
from hatch_docker.oci.model import Layer
from hatch_docker.store import key_of

KIND = "layer"


def layer_by_key(
    key: str, compression: Compression, ctx: Context, make: Callable[[], Iterable[Entry]]
) -> tuple[Layer, bool]:
    """The layer remembered under a key, else made of `make()`'s entries; and whether it was remembered.

    `key` stands for the entries' contents; the compression is added to it here. Two builds that want the
    same layer at once make it once.
    """
    key = key_of(key, compression.identity)
    found = _recall(key, compression, ctx)
    if found is not None:
        return found, True
    with ctx.store.lock(f"{KIND}-{key}"):
        found = _recall(key, compression, ctx)
        if found is not None:
            return found, True
        entries = make()
        with ctx.store.writer() as writer:
            facts = write_layer(entries, writer, compression)
            writer.commit()
        ctx.store.remember(KIND, key, asdict(facts))
    return _layer(facts, compression, ctx), False


def _recall(key: str, compression: Compression, ctx: Context) -> Layer | None:
    fact = ctx.store.recall(KIND, key)
    if fact is None or not ctx.store.has(fact["digest"]):
        return None
    return _layer(LayerFacts(**fact), compression, ctx)


def _layer(facts: LayerFacts, compression: Compression, ctx: Context) -> Layer:
    return make_layer(facts, compression, lambda: ctx.store.open(facts.digest))
