"""Resolution without a lock: uv selects the files for a target. Wheels have priority; sdists need only their metadata.

uv may use wheels only. If it reports a package without a wheel, this package is allowed as an sdist. Its metadata are
read from the sdist (static, PEP 643) or come from the caller's isolated build. No code of a package runs on this
machine.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.core.files import temporary_directory
from hatch_docker.project.sources import Source
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.locks.archives import (
    Dependencies,
    SdistMetadata,
    StubWheels,
    built_metadata,
    split_references,
    static_metadata,
)
from hatch_docker.wheels.locks.pylock import LockFile, pins_of
from hatch_docker.wheels.locks.sources import Bindings, bind, names_to_bind
from hatch_docker.wheels.locks.uv import MissingWheelError, NotFoundError, compile_lock
from hatch_docker.wheels.target import Pin, Target, incompatibility

ROUNDS = 20                               # each round allows at least one more package as an sdist


def resolve(
    lines: Sequence[str], target: Target, root: Path, indexes: Indexes, ctx: Context,
    metadata: SdistMetadata | None, sources: Sequence[Source] = (), pinned: Sequence[str] = (),
) -> tuple[Pin, ...]:
    """Return the newest files that satisfy requirements (PEP 508) on a target, by name.

    `sources`: indexes and addresses of some requirements. `pinned`: versions of some packages, also of transitive
    dependencies. Raise WheelError if there is no solution, or if a package's dependencies are dynamic and `metadata`,
    which builds them in isolation, is None.
    """
    lines, named = split_references(lines)
    with temporary_directory() as directory:
        return _resolve(lines, StubWheels(directory, root, indexes, ctx, metadata, target, [*sources, *named]), pinned)


def _resolve(lines: list[str], stubs: StubWheels, pinned: Sequence[str]) -> tuple[Pin, ...]:
    target, root, indexes, ctx = stubs.target, stubs.root, stubs.indexes, stubs.ctx

    def bind_all() -> Bindings:
        while True:
            found = bind(lines, stubs.sources, indexes, root, target, stubs.path)
            if not (more := [name for name in stubs.required if name not in lines]):
                return found
            lines.extend(more)

    # A wheel at an address may require other addresses, which uv builds unless _NO_BUILD in uv.py prevents it.
    bindings = bind_all()
    addressed = any(isinstance(place, str) for place in bindings.places.values())
    unsafe = indexes.keyring and (addressed or any(Requirement(line).url for line in lines))
    sdists: dict[str, tuple[str, Dependencies]] = {}  # package -> version and its known dependencies
    missing: MissingWheelError | None = None
    for _round in range(ROUNDS):
        try:
            allowed = {
                name: {"requires-dist": requires, "provides-extra": extras}
                for name, (_version, (requires, extras)) in sdists.items()
            }
            table = compile_lock(lines, target, root, indexes, ctx, metadata=allowed, bindings=bindings, pinned=pinned)
        except WheelError as error:
            names = error.names if isinstance(error, NotFoundError) else ()
            if more := names_to_bind(names, bindings, stubs.sources, indexes, target):
                lines += more
                bindings = bind_all()
                continue
            without_wheel = set(error.names) - set(sdists) if isinstance(error, MissingWheelError) else set()
            if isinstance(error, MissingWheelError) and without_wheel and target.builds_here and not unsafe:
                sdists |= dict.fromkeys(without_wheel, ("", ((), ())))
                missing = error
                continue
            if missing or isinstance(error, MissingWheelError):
                # There is no solution without the sdist either: uv's message about wheels is the reason.
                raise WheelError(f"{missing or error}; {target.alternatives}") from error
            raise
        missing = None
        # uv supports only ABIs without flags; the requirements of their wheels are used.
        pins = stubs.with_own_pins(pins_of(table, LockFile("uv's resolution", root, root), replace(target, abi="")))
        _check_local(pins, lines, stubs.sources, indexes)
        found = [pin for pin in pins if not pin.is_wheel and not stubs.has(pin)]
        if unexpected := [pin for pin in found if pin.name not in sdists]:
            name = unexpected[0].name
            raise WheelError(f"{name} is an sdist at an address that another package requires: lock the project")
        unread = [pin for pin in found if sdists[pin.name][0] != pin.version]
        if more := names_to_bind((pin.name for pin in pins), bindings, stubs.sources, indexes, target):
            # uv applies sources only to direct requirements; other packages may require these names.
            lines += more
            bindings = bind_all()
            continue
        if not unread:
            return _with_abi(pins, stubs) if target.abi else pins
        for pin in unread:
            sdists[pin.name] = (pin.version, _dependencies_of(pin, stubs))
    raise WheelError(f"uv finds other versions each time for {', '.join(sorted(sdists))}; lock the project")


def _with_abi(pins: Sequence[Pin], stubs: StubWheels) -> tuple[Pin, ...]:
    """Return the pins. Wheels that do not fit the target's ABI are replaced by others of the same versions.

    A package without such a wheel gets its sdist. Raise WheelError if it has none, or it cannot be built here.
    """
    target, root, indexes = stubs.target, stubs.root, stubs.indexes
    other = {pin.name: pin for pin in pins if pin.is_wheel and incompatibility(pin.filename, target)}
    if not other:
        return tuple(pins)
    lines = [f"{pin.name}=={pin.version}" for pin in other.values()]
    bindings = bind(lines, stubs.sources, indexes, root, target, stubs.path)
    table = compile_lock(lines, target, root, indexes, stubs.ctx, metadata={}, bindings=bindings, every_file=True)
    fitting = {pin.name: pin for pin in pins_of(table, LockFile("the package index", root, root), target)}
    return tuple(fitting.get(pin.name, pin) for pin in pins)


def _check_local(pins: Sequence[Pin], lines: Sequence[str], sources: Sequence[Source], indexes: Indexes) -> None:
    """Raise WheelError for a local file that only a page of a remote index names.

    uv does not report the index of a file. It must be in a local find-links directory of the user, or beside a local
    index.
    """
    named = {source.name for source in sources if source.kind in ("url", "path")} | {
        canonicalize_name(requirement.name) for requirement in map(Requirement, lines) if requirement.url
    }
    links, pages = ([_local_path(index.url) for index in found] for found in (indexes.find_links, indexes.indexes))
    if any(path and not Path(path).is_absolute() for path in (*links, *pages)):
        return  # only uv knows the base of a relative path
    places = [path if Path(path).is_dir() else os.path.split(path)[0] for path in links]
    places += [os.path.split(path)[0] for path in pages]
    own = [Path(form(place)) for place in places if place for form in (os.path.normpath, os.path.realpath)]
    for pin in pins:
        path = _local_path(pin.url)
        found = [Path(os.path.normpath(path)), Path(os.path.realpath(path))]
        if path and pin.name not in named and not any(file.is_relative_to(place) for file in found for place in own):
            raise WheelError(f"the package index has {pin.filename} at {pin.url[:200]}, on this machine: refused")


def _local_path(url: str) -> str:
    """Return the path of a local file or directory without a trailing slash; "" for a remote address."""
    path = unquote(urlsplit(url).path) if url.startswith("file:") else "" if "://" in url else url
    return path.rstrip("/")


def _dependencies_of(pin: Pin, stubs: StubWheels) -> Dependencies:
    path, = fetch([pin], stubs.ctx, root=stubs.root)
    stubs.ctx.progress.detail(f"{pin.title} has no wheel: reading what its sdist needs")
    found = static_metadata(path, pin.filename)
    return found if found is not None else built_metadata(pin, path, stubs.metadata)[0]
