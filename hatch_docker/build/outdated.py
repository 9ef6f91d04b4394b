"""Comparison of pinned versions with the current ones in registries, Debian's archive and package indexes."""

import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_version

from hatch_docker.bases.debian.archive import fetch_package_index
from hatch_docker.bases.debian.base_cache import recall_snapshot
from hatch_docker.bases.debian.resolver import version_key
from hatch_docker.bases.debian.suite import Suite, current_indexes
from hatch_docker.bases.model import split_build
from hatch_docker.core.context import Context
from hatch_docker.core.errors import TransientError
from hatch_docker.core.image_lock import Entry
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import Platform
from hatch_docker.oci.pull import resolve
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.wheels.index import read_indexes, with_keyring
from hatch_docker.wheels.index_page import IndexFile, index_urls, read_page
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Target

UPGRADE = "hatch-docker lock --upgrade"
PARALLEL = 8  # index pages that are read at the same time
_LOCKS = {"uv": "uv lock --upgrade", "poetry": "poetry update", "pdm": "pdm update"}


@dataclass(frozen=True, slots=True, order=True)
class Pinned:
    """A version in a lock or an image. `remedy`: the command that updates it.

    `kind`: "base" (`version` is a digest), "debian" (`place` is suite and architecture, as "trixie amd64") or "wheel"
    (`place` is the Python version; `file` is the name of the wheel, "" if unknown).
    """

    kind: str
    place: str
    name: str
    version: str
    remedy: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Outdated:
    """An outdated version. `newest`: "" if a yanked version is the newest. `reason`: "security", "newer", "yanked" or
    "yanked: ..." with the reason in the index (PEP 592).
    """

    pinned: Pinned
    newest: str
    reason: str


def count_pins(pins: Iterable[Pinned]) -> int:
    """Return the number of pinned versions; several files of one version count as one."""
    return len({replace(item, file="") for item in pins})


def pins_of_lock(entries: Sequence[tuple[str, Entry]]) -> Iterator[Pinned]:
    """Yield the pins of a hatch-docker.lock: bases in registries, Debian packages, files of package indexes."""
    for kind, entry in entries:
        if kind == "base" and "digest" in entry:
            remedy = UPGRADE if "@" not in entry["name"] else "write the new digest into `base`"
            yield Pinned("base", "", entry["name"], entry["digest"], remedy)
        elif kind == "debian":
            place = f"{entry['suite']} {entry['architecture']}"
            yield from (Pinned(kind, place, row["name"], row["version"], UPGRADE) for row in entry["packages"])
        elif kind == "requirements":
            python = split_build(entry["python"])[0]
            for row in entry["files"]:
                if row["url"].startswith("http"):
                    yield Pinned("wheel", python, row["name"], row["version"], UPGRADE, row["file"])


def pins_of_plans(
    plans: Sequence[Plan], entries: Sequence[tuple[str, Entry]], root: Path, ctx: Context
) -> Iterator[Pinned]:
    """Yield the pins of the dependency lock for each platform of the image lock (`entries`). Raises WheelError."""
    bases: Mapping[str, Any] = {entry["name"]: entry["platforms"] for kind, entry in entries if kind == "base"}
    for plan in plans:
        for row in bases.get(plan.base.name, ()) if plan.lock.kind != "resolve" else ():
            kind, _, version = row["libc"].partition(" ")
            python, abi = split_build(row["python"])
            target = Target(python, Platform.parse(row["platform"]), (kind, version), abi)
            remedy = _LOCKS.get(plan.lock.kind, f"lock {plan.lock.path} again")
            for found in pin(plan.lock, root, target, ctx):
                if found.url.startswith("http"):
                    yield Pinned("wheel", python, found.name, found.version, remedy, found.filename)


def find_outdated(pinned: Collection[Pinned], debian: BasePlan, root: Path, ctx: Context) -> list[Outdated]:
    """Return the outdated ones of `pinned`: bases first, then Debian packages, then wheels, sorted by name.

    `debian`: a base with the mirrors to use. `root`: the directory with the configuration of package indexes. Every
    server is asked; cached answers are not used. Raises RegistryError, BaseImageError and WheelError.
    """
    found: list[Outdated] = []
    for (kind, place), group in itertools.groupby(sorted(set(pinned)), lambda item: (item.kind, item.place)):
        if kind == "base":
            found += _bases([*group], ctx)
        elif kind == "debian":
            suite, _, architecture = place.partition(" ")
            plan = replace(debian, name=f"debian:{suite}", location=suite)
            found += _packages([*group], Suite(plan, suite, architecture, ctx))
        else:
            found += _wheels([*group], root, ctx)
    return found


def _bases(pinned: Sequence[Pinned], ctx: Context) -> Iterator[Outdated]:
    remote = Remote(ctx.client, ctx.environ)
    for item in pinned:
        reference = replace(parse_reference(item.name), digest="")
        if reference.tag:
            digest = resolve(remote, reference, ctx.store)[0].digest
            if digest != item.version:
                yield Outdated(item, digest, "newer")


def _packages(pinned: Sequence[Pinned], suite: Suite) -> Iterator[Outdated]:
    """Yield the outdated Debian packages. An update is "security" if the security archive has one."""
    ctx, start = suite.ctx, time.time()
    indexes = current_indexes(suite)
    snapshot = recall_snapshot(ctx.store, suite.codename, suite.architecture)
    if snapshot is None or snapshot["time"] < start:
        raise TransientError(
            f"{suite.name}: the mirror gives no current package list; try again, or use another mirror"
        )
    with ctx.progress.task(f"reading the packages of {suite.name}") as task:
        mirrors = suite.mirrors()
        every = fetch_package_index(indexes, mirrors, ctx, task)
        secure = [index for index in indexes if index.archive == "security"]
        fixes = fetch_package_index(secure, mirrors, ctx, task) if secure else None
    for item in pinned:
        newest, have = every.get(item.name), version_key(item.version)
        if newest is not None and version_key(newest.version) > have:
            fix = fixes.get(item.name) if fixes is not None else None
            urgent = fix is not None and version_key(fix.version) > have
            yield Outdated(item, newest.version, "security" if urgent else "newer")


def _wheels(pinned: Sequence[Pinned], root: Path, ctx: Context) -> Iterator[Outdated]:
    indexes = with_keyring(read_indexes(root, ctx.environ), ctx)
    urls = index_urls(indexes, ctx)
    names = sorted({item.name for item in pinned})
    with ThreadPoolExecutor(PARALLEL) as pool:
        pages = pool.map(lambda name: [read_page(url, name, indexes, ctx) for url in urls], names)
        known = dict(zip(names, pages, strict=True))
    unknown = []
    for item in pinned:
        pages_with_it = (page for page in known[item.name] if _same(item, page))
        if (page := next(pages_with_it, None)) is None:
            unknown.append(f"{item.name} {item.version}")
        elif found := _compare(item, page):
            yield found
    if unknown:
        ctx.progress.warn(f"no package index has {abbreviate(sorted(set(unknown)), 5)}: newer versions are unknown")


def _same(item: Pinned, page: Sequence[IndexFile]) -> list[IndexFile]:
    """Return the files of an index page that match a pin: by file name, or by version if the file is unknown."""
    version = canonicalize_version(item.version)
    if item.file:
        return [file for file in page if file.filename == item.file]
    return [file for file in page if canonicalize_version(file.version) == version]


def _compare(item: Pinned, page: Sequence[IndexFile]) -> Outdated | None:
    """Return the pin as outdated if it is yanked or a newer version supports its Python, else None.

    Pre-releases count only if the pinned version is a pre-release. `page` must have the pinned version.
    """
    same = _same(item, page)
    have = same[0].version
    versions = [
        file.version for file in page
        if file.yanked is None and file.fits(item.place) and (have.is_prerelease or not file.version.is_prerelease)
    ]
    newest = max(versions, default=have)
    reasons = [file.yanked for file in same]
    if None not in reasons:
        words = next(filter(None, reasons), "")
        return Outdated(item, str(newest) if newest != have else "", f"yanked: {words}" if words else "yanked")
    return Outdated(item, str(newest), "newer") if newest > have else None
