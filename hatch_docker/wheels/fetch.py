"""Download of pinned files to the store: in parallel, verified by hash, with the logins of the user's indexes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import Advance
from hatch_docker.project.git_source import parse_git
from hatch_docker.wheels.index import Indexes, read_indexes, with_keyring
from hatch_docker.wheels.repository import repository_archive
from hatch_docker.wheels.target import Pin

PARALLEL = 4


def fetch(pins: Sequence[Pin], ctx: Context, *, root: Path) -> tuple[Path, ...]:
    """Return the files of `pins` in the same order. Files that are not in the store are downloaded and verified.

    `root`: the project whose index configuration may have logins. The files are named by their digests; the pins have
    the names of the wheels. Raise RegistryError or TransientError, which names the package.
    """
    if missing := [pin for pin in pins if ctx.store.get(f"sha256:{pin.sha256}") is None]:
        size = sum(pin.size or 0 for pin in missing) if all(pin.size for pin in missing) else None
        indexes = with_keyring(read_indexes(root, ctx.environ), ctx)
        client = indexes.client(ctx)
        title = missing[0].title if len(missing) == 1 else f"{len(missing)} packages"
        with ctx.progress.task(f"downloading {title}", size) as task, ThreadPoolExecutor(PARALLEL) as pool:
            # The largest first: at the end it would occupy one worker alone.
            futures = [
                pool.submit(_download, pin, ctx, client, indexes, task.advance)
                for pin in sorted(missing, key=lambda pin: -(pin.size or 0))
            ]
            try:
                for future in futures:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    return tuple(ctx.store.blob_path(f"sha256:{pin.sha256}") for pin in pins)


def _download(pin: Pin, ctx: Context, client: Client, indexes: Indexes, advance: Advance) -> None:
    try:
        if pin.url.startswith("git+"):
            _archive_commit(pin, ctx)
            return
        transport.fetch(
            ctx.store, client, pin.url.partition("#")[0], digest=f"sha256:{pin.sha256}", size=pin.size,
            headers=indexes.authorization(pin.url), advance=advance,
        )
    except RegistryError as error:
        raise error.with_message(f"{pin.title} ({pin.filename}): {error}") from error


def _archive_commit(pin: Pin, ctx: Context) -> None:
    """Make the archive of a commit again. Its bytes depend only on the commit and on the tags before it."""
    archive = repository_archive(parse_git(pin.url, pin.title), ctx)
    if archive.sha256 != pin.sha256:
        raise RegistryError(f"{pin.url} has other tags than when it was locked, perhaps another version: lock again")
