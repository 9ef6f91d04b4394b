"""A suite of Debian: its signed indexes, the resolution of package names, and downloads of .debs.

The indexes are fetched once a day for all projects, so that projects share the layers of their bases. An unchanged
build needs neither the network nor the Packages files. No key or fact in the cache contains a mirror. With an image
lock, the packages come from the lock and not from the suite.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from hatch_docker.bases.debian.apt_config import Mirrors, find_mirrors
from hatch_docker.bases.debian.archive import KEYRING, ArchiveFile, fetch_file, fetch_package_index, fetch_releases
from hatch_docker.bases.debian.base_cache import (
    RESOLUTION,
    SNAPSHOT,
    is_young,
    note_snapshot,
    recall_snapshot,
    snapshot_key,
)
from hatch_docker.bases.debian.deb import Deb, open_deb
from hatch_docker.bases.debian.resolver import Package, PackageIndex, resolve
from hatch_docker.bases.debian.steps import Step
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.image_lock import NotPinnedError
from hatch_docker.core.progress import Advance, no_progress
from hatch_docker.core.text import plural
from hatch_docker.plan.model import BasePlan

TRANSFERS = 4  # parallel downloads of .debs
RECIPE = 1  # raise it when the resolution of the same names changes
# The names of a package's first seven fields in the image lock.
_LOCKED = ("name", "version", "architecture", "path", "size", "sha256", "archive")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite for one Debian architecture, on the mirrors of a plan. `keyring` has the trusted keys."""

    plan: BasePlan
    codename: str
    architecture: str
    ctx: Context
    keyring: Path = KEYRING

    @property
    def name(self) -> str:
        """The name in messages: "debian:trixie (amd64)"."""
        return f"debian:{self.codename} ({self.architecture})"

    def mirrors(self) -> Mirrors:
        """Return the mirrors. Call it only for a download, because it raises BaseImageError if there are none."""
        return find_mirrors(self.plan, self.ctx.environ)


def with_snapshot(suite: Suite, use: Callable[[tuple[ArchiveFile, ...]], Result]) -> Result:
    """Call `use` with the archive's indexes and return its result. With an image lock, `use` gets no indexes.

    If `use` fails because the mirror does not have a file, call it again with new indexes: mirrors remove a .deb soon
    after a newer version appears. Raises BaseImageError and RegistryError, also from `use`.
    """
    if suite.ctx.image_lock is not None:
        try:
            return use(())
        except NotPinnedError:
            pass  # `hatch-docker lock` is writing the lock, and it has no entry yet
    indexes, fresh = _indexes(suite, now=False)
    try:
        return use(indexes)
    except TransientError:
        raise
    except RegistryError:
        if fresh:
            raise
        return use(_indexes(suite, now=True)[0])


def current_indexes(suite: Suite) -> tuple[ArchiveFile, ...]:
    """Return the archive's indexes, at most a day old, also with a lock. Raises BaseImageError, RegistryError."""
    return _indexes(suite, now=False)[0]


def _indexes(suite: Suite, *, now: bool) -> tuple[tuple[ArchiveFile, ...], bool]:
    """Return the indexes of a suite, and whether they were fetched just now. With `now`, fetch them again."""
    ctx = suite.ctx
    key = snapshot_key(suite.codename, suite.architecture)
    now = now or ctx.refresh
    start = time.time()
    with ctx.store.lock(f"debian-snapshot-{key}"):
        known = recall_snapshot(ctx.store, suite.codename, suite.architecture) or {}
        indexes = tuple(ArchiveFile(*row) for row in known.get("indexes", ()))
        # Another build may have fetched them while this build waited for the lock.
        if known and (start <= known["time"] or (not now and is_young(known, start))):
            note_snapshot(ctx, suite.codename, suite.architecture, known)
            return indexes, False
        try:
            releases = fetch_releases(suite.mirrors(), suite.codename, ctx, keyring=suite.keyring)
            for release in releases:
                if release.date < known.get("dates", {}).get(release.suite, 0.0):  # validly signed, but without fixes
                    older = "is older than the release seen before: this mirror is not up to date"
                    raise RegistryError(f"{release.where} {older}")
        except RegistryError as error:
            if not known:
                raise
            day = time.strftime("%Y-%m-%d", time.gmtime(known["time"]))
            ctx.progress.warn(f"{error}; continuing with {suite.name} as of {day}")
            return indexes, False
        indexes = tuple(release.index(suite.architecture) for release in releases)
        fact = {
            "time": time.time(), "indexes": [astuple(file) for file in indexes],
            "dates": {release.suite: release.date for release in releases},
        }  # fmt: skip
        ctx.store.remember(SNAPSHOT, key, fact)
        note_snapshot(ctx, suite.codename, suite.architecture, fact)
        return indexes, True


def pin(
    suite: Suite, indexes: Sequence[ArchiveFile], steps: Sequence[Step], fact_keys: list[tuple[str, str]] | None = None
) -> list[tuple[Package, ...]]:
    """Resolve each step: return its packages that are not in the steps before it, sorted by name.

    With an image lock they come from the lock. Else the result is kept in the store by the digests of the indexes.
    `fact_keys` gets kind and key of these facts. Raises BaseImageError if a name cannot be resolved, ConfigError for a
    lock that is out of date.
    """
    store, pins = suite.ctx.store, suite.ctx.image_lock
    index: PackageIndex | None = None
    found: list[tuple[Package, ...]] = []
    for count, step in enumerate(steps, 1):
        if pins is not None:
            if (entry := pins.find("debian", _lock_key(suite, step))) is not None:
                rows = ({**row, "sha256": f"sha256:{row['sha256']}"} for row in entry["packages"])
                found.append(tuple(Package(*(row[name] for name in _LOCKED)) for row in rows))
                continue
            if not indexes:
                raise NotPinnedError
        inputs = [[sorted(set(item.names)), sorted(item.ignored)] for item in steps[:count]]
        key = key_of("resolution", RECIPE, [file.digest for file in indexes], inputs)
        if fact_keys is not None:
            fact_keys.append((RESOLUTION, key))
        known = store.recall(RESOLUTION, key)
        if known is None:
            if index is None:
                with suite.ctx.progress.task(f"reading the packages of {suite.name}") as task:
                    index = fetch_package_index(indexes, suite.mirrors(), suite.ctx, task)
            names = [package.name for earlier in found for package in earlier]
            installed = [package for package in map(index.get, names) if package is not None]
            resolved = resolve(index, step.names, installed=installed, ignored=step.ignored, where=suite.name)
            known = [astuple(package)[:7] for package in resolved]
            store.remember(RESOLUTION, key, known)
        found.append(tuple(Package(*row) for row in known))
        if pins is not None:
            packages = [dict(zip(_LOCKED, astuple(package)[:7], strict=True)) for package in found[-1]]
            packages = [{**row, "sha256": row["sha256"].removeprefix("sha256:")} for row in packages]
            # The time of the newest signature: with it a snapshot archive of all versions can be used later.
            snapshot = recall_snapshot(store, suite.codename, suite.architecture)
            assert snapshot is not None  # `indexes` came from it
            signed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(snapshot["dates"].values())))
            pins.note("debian", {**_lock_key(suite, step), "as-of": signed, "packages": packages})
    return found


def _lock_key(suite: Suite, step: Step) -> dict[str, Any]:
    """Return the fields that identify a step in the image lock."""
    slim = {"slim": suite.plan.slim} if step.purpose in ("base", "runtime") else {}
    return {
        "for": step.purpose, "suite": suite.codename, "architecture": suite.architecture, **slim,
        "asked": sorted(set(step.names)),
    }  # fmt: skip


def fetch_debs(suite: Suite, packages: Sequence[Package]) -> dict[str, Path]:
    """Download and verify .debs that are not in the store. Return package name -> file. Raises RegistryError."""
    with _fetching(suite, packages) as files:
        return {package.name: files[package.name].result() for package in packages}


@contextlib.contextmanager
def pending_debs(suite: Suite, packages: Sequence[Package]) -> Iterator[list[Future[Deb]]]:
    """Download .debs in the background, the largest first, and yield them as futures. See `fetch_debs`."""
    ordered = sorted(packages, key=lambda package: (-package.size, package.name))
    with _fetching(suite, ordered) as files, contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(1)
        stack.callback(pool.shutdown, cancel_futures=True)
        yield [pool.submit(_open, files[package.name], package.name) for package in ordered]


def _open(file: Future[Path], name: str) -> Deb:
    return open_deb(file.result(), name)


@contextlib.contextmanager
def _fetching(suite: Suite, packages: Sequence[Package]) -> Iterator[dict[str, Future[Path]]]:
    """Download .debs in the background, in this order; yield package name -> future file. An error cancels the rest."""
    store = suite.ctx.store
    missing = [package for package in packages if not store.has(package.digest)]
    mirrors = suite.mirrors() if missing else None

    def fetch(package: Package) -> Path:
        if store.get(package.digest) is None:
            file = ArchiveFile(package.archive, package.filename, package.digest, package.size)
            try:
                fetch_file(file, mirrors or suite.mirrors(), suite.ctx, advance)
            except TransientError:
                raise
            except RegistryError as error:
                if suite.ctx.image_lock is None:
                    raise
                raise RegistryError(
                    f"{error}; {suite.ctx.image_lock.name} pins {package.name} {package.version}, and mirrors delete "
                    "old versions: `hatch-docker lock --upgrade` takes the new version, or set "
                    "[tool.hatch-docker.debian] mirror to a snapshot archive, which keeps every version"
                ) from error
        return store.blob_path(package.digest)

    def count(file: Future[Path]) -> None:
        with counting:
            left.discard(file)
            if not left and not file.cancelled() and file.exception() is None:
                shown_task.close()

    advance: Advance = no_progress
    counting = threading.Lock()
    with contextlib.ExitStack() as stack:
        shown_task = stack.enter_context(contextlib.ExitStack())
        pool = ThreadPoolExecutor(TRANSFERS)
        stack.callback(pool.shutdown, cancel_futures=True)
        if missing:
            title = f"downloading {plural(len(missing), 'package')} of {suite.name}"
            size = sum(package.size for package in missing)
            task = suite.ctx.progress.task(title, size)
            task.begin()  # not a `with` block: the task may end in the thread of the last download
            shown_task.push(lambda kind, _error, _trace: task.end(failed=kind is not None))
            advance = task.advance
        files = {package.name: pool.submit(fetch, package) for package in packages}
        left = set(files.values())
        for file in files.values():
            file.add_done_callback(count)
        yield files


def open_debs(suite: Suite, packages: Sequence[Package]) -> list[Deb]:
    """Return the .debs of some packages, after downloading those that the store does not have."""
    paths = fetch_debs(suite, packages)
    return [open_deb(paths[package.name], package.name) for package in packages]
