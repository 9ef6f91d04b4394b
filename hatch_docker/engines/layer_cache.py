"""Layers by key: the lazy layer. Its digest is known from what goes into it, its bytes are made once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import SecretError
from hatch_docker.core.secrets import PIECE, mark
from hatch_docker.core.streams import pieces
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import OCI_LAYER, Descriptor, Layer

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.oci.compression import Compression
    from hatch_docker.oci.layer import Entry

KIND = "layer"
SEARCHED = "layer-searched"  # what was looked for in a layer, by its digest and the key of the marks


def recall_layer(key: str, compression: Compression, ctx: Context) -> Layer | None:
    """The layer remembered under a key, if the store still has its bytes, or nobody may want them."""
    fact = ctx.store.recall(KIND, _full(key, compression))
    if fact is None or not (ctx.store.has(fact["digest"]) or ctx.lazy):
        return None
    return _layer(fact, compression, ctx)


def layer_by_key(
    key: str, compression: Compression, ctx: Context, make: Callable[[], Iterable[Entry]], *, title: str = ""
) -> tuple[Layer, bool]:
    """The layer remembered under a key, else made of `make()`'s entries; and whether it was remembered.

    `key` stands for the entries' contents; the compression is added to it here; `title` is what users read while the
    layer is made. Two builds that want the same one at once make it once. Raises SecretError where a secret of the
    build is in it; then it is not kept.
    """
    found = recall_layer(key, compression, ctx)
    if found is not None:
        return found, True
    with ctx.store.lock(f"{KIND}-{_full(key, compression)}"):
        found = recall_layer(key, compression, ctx)
        if found is not None:
            return found, True
        from hatch_docker.oci.layer import without_setid, write_layer

        shown = ctx.progress.task(title, part=True) if title else contextlib.nullcontext()
        with shown, ctx.store.writer() as writer:
            fact = asdict(write_layer(map(without_setid, make()), writer, compression, ctx.secrets.watch()))
            writer.commit()
        ctx.store.remember(KIND, _full(key, compression), fact)
    return _layer(fact, compression, ctx), False


def search_layers(layers: Iterable[Layer], ctx: Context, new: Collection[str] = ()) -> None:
    """Raise SecretError where a secret is in a layer that was made when nobody looked for that value; it is not kept.

    `new` are the digests of those that were made just now, and searched as they were.
    """
    sought = ctx.secrets.sought
    for layer in layers:
        digest = layer.descriptor.digest
        key = key_of(digest, mark())
        searched = set(ctx.store.recall(SEARCHED, key) or ())
        if sought <= searched or (ctx.lazy and not ctx.store.has(digest)):
            continue  # who wants what is not here makes it anew
        if digest not in new:
            try:
                _search(layer, ctx)
            except SecretError:
                ctx.store.blob_path(digest).unlink(missing_ok=True)
                raise
        ctx.store.remember(SEARCHED, key, sorted(sought | searched))


def _search(layer: Layer, ctx: Context) -> None:
    watch = ctx.secrets.watch()
    if watch is None:
        return
    from hatch_docker.oci.layer import layer_entries

    for entry, content in layer_entries(layer):
        feed = watch(entry.path)
        feed(f"{entry.path}\0{entry.target}\0".encode(errors="surrogateescape"))
        for piece in pieces(content, PIECE) if content is not None else ():
            feed(piece)


def making(titles: Sequence[str]) -> str:
    """What users read while the layer of some packages is made."""
    return f"layer of {abbreviate(titles)}"


def _full(key: str, compression: Compression) -> str:
    return key_of(key, compression.identity)


def _layer(fact: dict[str, Any], compression: Compression, ctx: Context) -> Layer:
    """The Layer of what `LayerFacts` says, its bytes in the store."""
    digest = fact["digest"]
    descriptor = Descriptor(OCI_LAYER + compression.media_suffix, digest, fact["size"])
    return Layer(descriptor, fact["diff_id"], fact["unpacked_size"], lambda: ctx.store.open(digest))
