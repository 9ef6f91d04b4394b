"""Layers by key: the lazy layer. Its digest is known from what goes into it, its bytes are made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

from hatch_docker.context import Context
from hatch_docker.oci.layer import Compression, Entry, LayerFacts, make_layer, write_layer
from hatch_docker.oci.model import Layer
from hatch_docker.store import key_of

KIND = "layer"


def recall_layer(key: str, compression: Compression, ctx: Context) -> Layer | None:
    """The layer remembered under a key, if the store still has its bytes."""
    fact = ctx.store.recall(KIND, _full(key, compression))
    if fact is None or not ctx.store.has(fact["digest"]):
        return None
    return _layer(LayerFacts(**fact), compression, ctx)


def layer_by_key(
    key: str, compression: Compression, ctx: Context, make: Callable[[], Iterable[Entry]]
) -> tuple[Layer, bool]:
    """The layer remembered under a key, else made of `make()`'s entries; and whether it was remembered.

    `key` stands for the entries' contents; the compression is added to it here. Two builds that want the
    same layer at once make it once.
    """
    found = recall_layer(key, compression, ctx)
    if found is not None:
        return found, True
    with ctx.store.lock(f"{KIND}-{_full(key, compression)}"):
        found = recall_layer(key, compression, ctx)
        if found is not None:
            return found, True
        entries = make()
        with ctx.store.writer() as writer:
            facts = write_layer(entries, writer, compression)
            writer.commit()
        ctx.store.remember(KIND, _full(key, compression), asdict(facts))
    return _layer(facts, compression, ctx), False


def _full(key: str, compression: Compression) -> str:
    return key_of(key, compression.identity)


def _layer(facts: LayerFacts, compression: Compression, ctx: Context) -> Layer:
    return make_layer(facts, compression, lambda: ctx.store.open(facts.digest))
