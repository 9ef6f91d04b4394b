"""Pinned files into the store: in parallel, by hash, with the login of the user's index."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import Advance, no_progress
from hatch_docker.wheels.index import Indexes, read_indexes
from hatch_docker.wheels.keyrings import with_keyring
from hatch_docker.wheels.target import Pin

PARALLEL = 4
_NOBODYS = Indexes((), (), False, "", {}, {})


def fetch(pins: Sequence[Pin], ctx: Context, *, root: Path) -> tuple[Path, ...]:
    """The files of some pins, verified, in the store, in the order of the pins; what is there is not fetched.

    `root` is the project, whose index configuration may hold a login. The files bear their digest's name:
    a wheel's own is its pin's. Raises RegistryError or TransientError, naming the package.
    """
    missing = [pin for pin in pins if not ctx.store.has(f"sha256:{pin.sha256}")]
    if not missing:
        return tuple(_fetch(pin, ctx, ctx.client, _NOBODYS, no_progress) for pin in pins)
    size = sum(pin.size or 0 for pin in missing) if all(pin.size for pin in missing) else None
    indexes = with_keyring(read_indexes(root, ctx.environ), ctx)
    client = indexes.client(ctx)
    # The largest first: it would otherwise be alone at the end.
    order = sorted(range(len(pins)), key=lambda position: -(pins[position].size or 0))
    titles = f"{missing[0].name} {missing[0].version}" if len(missing) == 1 else f"{len(missing)} packages"
    with ctx.progress.task(f"downloading {titles}", size) as task, ThreadPoolExecutor(PARALLEL) as pool:
        futures = {
            position: pool.submit(_fetch, pins[position], ctx, client, indexes, task.advance) for position in order
        }
        try:
            return tuple(futures[position].result() for position in range(len(pins)))
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch(pin: Pin, ctx: Context, client: Client, indexes: Indexes, advance: Advance) -> Path:
    try:
        digest = transport.fetch(
            ctx.store, client, pin.url, digest=f"sha256:{pin.sha256}", size=pin.size,
            headers=indexes.authorization(pin.url), advance=advance,
        )
    except RegistryError as error:
        raise error.saying(f"{pin.name} {pin.version} ({pin.filename}): {error}") from error
    return ctx.store.blob_path(digest)
