"""Finding the Debian package that has a shared library; only used if a library is missing.

First by the names that Debian Policy gives to packages of libraries (libpq.so.5 is in libpq5), if there is such a
package with the library in it; else by the archive's Contents file, which takes a larger download.
"""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from hatch_docker.bases.debian.archive import ArchiveFile, fetch_file, fetch_package_index, fetch_releases
from hatch_docker.bases.debian.base_cache import is_young
from hatch_docker.bases.debian.resolver import Package
from hatch_docker.bases.debian.suite import Suite, current_indexes, open_debs
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import HatchDockerError, RegistryError
from hatch_docker.core.streams import pieces
from hatch_docker.oci.compression import Decompressed

RECIPE = 1
KIND = "debian-library"
LARGEST = 64 << 20         # bytes of a package that is searched
LIST_LIMIT = 2 << 30       # bytes of a Contents file, unpacked; trixie's has 170 MB
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Provider:
    """A package; `seen` says that the library was found in it, else only the name of the package fits."""

    package: str
    seen: bool


def find_providers(libraries: Sequence[str], suite: Suite) -> dict[str, Provider]:
    """Return the packages of a suite that have some libraries in a directory of the loader, without those not found.

    What is found in a package is remembered for good, every other answer for a day.
    """
    ctx = suite.ctx
    keys = {library: key_of(RECIPE, suite.codename, suite.architecture, library) for library in libraries}
    known = {library: ctx.store.recall(KIND, key) for library, key in keys.items()}
    now = time.time()
    sure = {library for library, fact in known.items() if fact and fact["found"] and fact["found"]["seen"]}
    missing = [library for library, fact in known.items() if library not in sure and not (fact and is_young(fact, now))]
    if missing:
        found: dict[str, Provider] = {}
        try:
            _find(missing, suite, found)
        except HatchDockerError as error:
            ctx.progress.detail(f"cannot tell for certain which packages have {', '.join(missing)}: {error}")
        for library in missing:
            known[library] = {"time": now, "found": asdict(found[library]) if library in found else None}
            ctx.store.remember(KIND, keys[library], known[library])
    return {library: Provider(**fact["found"]) for library, fact in known.items() if fact["found"]}


def _find(libraries: Sequence[str], suite: Suite, found: dict[str, Provider]) -> None:
    """Add the providers of some libraries to `found`, sure answers last; raises HatchDockerError if a mirror fails."""
    with suite.ctx.progress.task(f"looking for {', '.join(libraries)} in {suite.name}", part=True) as task:
        index = fetch_package_index(current_indexes(suite), suite.mirrors(), suite.ctx, task)
    opened: dict[str, set[str]] = {}  # package -> names in it
    for library in libraries:
        for package in map(index.get, policy_names(library)):
            if package is not None and not (library in found and found[library].seen):
                if package.name not in opened:
                    opened[package.name] = _libraries(package, suite)
                seen = library in opened[package.name]
                if seen or library not in found:
                    found[library] = Provider(package.name, seen)
    for library in libraries:  # one package may have several (libglib2.0-0t64 has libgthread)
        owner = next((name for name, names in opened.items() if library in names), "")
        if owner and not (library in found and found[library].seen):
            found[library] = Provider(owner, seen=True)
    if unseen := [library for library in libraries if library not in found or not found[library].seen]:
        found |= {library: Provider(package, seen=True) for library, package in _listed(unseen, suite).items()}


def _libraries(package: Package, suite: Suite) -> set[str]:
    """Return the names of what a package has in directories of the loader; none of a package larger than LARGEST."""
    debs = open_debs(suite, [package]) if package.size <= LARGEST else ()
    paths = [entry.path for deb in debs for entry, _ in deb.members()]
    names = {path: path.rpartition("/")[2] for path in paths}
    return {name for path, name in names.items() if is_searched(path, name)}


def policy_names(library: str) -> list[str]:
    """Return the names that the package of a library may have (Debian Policy 8.1), current names before old ones.

    A name is the soname with the version at the end, after a hyphen if the name ends in a digit; since the change of
    `time_t` perhaps with t64.
    """
    match = re.fullmatch(r"(lib[^/]+?)(?:-([\d.]+))?\.so(?:\.([\w.]+))?", library)
    if match is None:
        return []
    name, middle, version = (part or "" for part in match.groups())
    both = f"{name}-{middle}" if middle else name
    stems = [both + ("-" if version and both[-1].isdigit() else "") + version]
    stems += [f"{name}{middle}-{version}"] if middle and version else []
    stems += [f"{both}{'-' if both[-1].isdigit() else ''}{version.split('.')[0]}", both] if "." in version else []
    names = [re.sub(r"[^a-z0-9+.-]", "-", stem.lower()) for stem in stems]
    return list(dict.fromkeys(full for stem in names for full in (f"{stem}t64", stem)))


def is_searched(path: str, library: str) -> bool:
    """Return whether a path is that of a library in one of the default directories of the loader."""
    return re.fullmatch(rf"(?:usr/)?lib/(?:[a-z0-9_]+-linux-gnu[a-z]*/)?{re.escape(library)}", path) is not None


def _listed(libraries: Sequence[str], suite: Suite) -> dict[str, str]:
    """Return the packages that the archive's Contents file names for some libraries."""
    names = b"|".join(re.escape(library.encode()) for library in libraries)
    found: dict[str, list[str]] = {}
    for path, packages in search_contents(rb"\S*/(?:" + names + rb")", suite, ", ".join(libraries)):
        library = path.rpartition("/")[2]
        if is_searched(path, library):
            found.setdefault(library, []).extend(packages)
    # A library's own package before what brings a copy along, such as a cross compiler.
    best = {name: min(some, key=lambda path: ("libs" not in path.split("/"), path)) for name, some in found.items()}
    return {library: package.rpartition("/")[2] for library, package in best.items()}


def search_contents(
    pattern: bytes, suite: Suite, title: str, name: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Yield the paths of all packages of a suite that match a pattern, and their packages: "libs/zlib1g".

    `title` says what is looked for, `name` is the architecture of another Contents file, "all". Raises
    HatchDockerError if a mirror fails.
    """
    releases = fetch_releases(suite.mirrors(), suite.codename, suite.ctx, keyring=suite.keyring)
    file = f"main/Contents-{name or suite.architecture}.gz"
    if file not in releases[0].files:
        return
    index = releases[0].file(file)
    ctx = suite.ctx
    title = f"looking for {title} in the list of all files of {suite.name}"
    with ctx.progress.task(title, None if ctx.store.has(index.digest) else index.size) as task:
        try:
            fetch_file(index, suite.mirrors(), ctx, task.advance)
        except RegistryError:  # some mirrors have by-hash for Packages alone
            plain = replace(index, path=f"dists/{releases[0].suite}/{file}")
            fetch_file(plain, suite.mirrors(), ctx, task.advance)
    lines = re.compile(rb"(?m)^(" + pattern + rb")[ \t]+(\S+)$")
    for piece in _pieces(index, suite):
        for path, packages in lines.findall(piece):
            yield path.decode(errors="replace"), packages.decode(errors="replace").split(",")


def _pieces(index: ArchiveFile, suite: Suite) -> Iterator[bytes]:
    """Yield the lines of a Contents file, many at once."""
    with suite.ctx.store.open(index.digest) as stream:
        rest = b""
        for piece in pieces(Decompressed(stream, LIST_LIMIT, compression="gzip"), CHUNK):
            whole, newline, tail = (rest + piece).rpartition(b"\n")
            yield whole
            rest = tail if newline else rest + piece
        yield rest
