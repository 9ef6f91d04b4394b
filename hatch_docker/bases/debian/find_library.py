"""Finding the Debian package with a shared library. This is only used if a library is missing.

The first search opens the packages whose names follow from the soname by Debian Policy (libpq.so.5 is in libpq5). If
none of them has the library, the archive's Contents file is searched, which is a larger download.
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
LARGEST = 64 << 20         # bytes of the largest package that is opened
LIST_LIMIT = 2 << 30       # bytes of a Contents file, unpacked; trixie's has 170 MB
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Provider:
    """A package for a library. `seen`: the library was found in the package; else only the package's name fits."""

    package: str
    seen: bool


def find_providers(libraries: Sequence[str], suite: Suite) -> dict[str, Provider]:
    """Return the package for each library that has it in a directory of the loader. Unknown libraries are left out.

    A library that was seen in a package is cached without a time limit; all other results are cached for a day.
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
            ctx.progress.detail(f"cannot find out for certain which packages contain {', '.join(missing)}: {error}")
        for library in missing:
            known[library] = {"time": now, "found": asdict(found[library]) if library in found else None}
            ctx.store.remember(KIND, keys[library], known[library])
    return {library: Provider(**fact["found"]) for library, fact in known.items() if fact["found"]}


def _find(libraries: Sequence[str], suite: Suite, found: dict[str, Provider]) -> None:
    """Add the providers of some libraries to `found`, uncertain first. Raises HatchDockerError if a mirror fails."""
    with suite.ctx.progress.task(f"looking for {', '.join(libraries)} in {suite.name}", part=True) as task:
        index = fetch_package_index(current_indexes(suite), suite.mirrors(), suite.ctx, task)
    names_of: dict[str, set[str]] = {}  # package -> names in it
    for library in libraries:
        for package in map(index.get, policy_names(library)):
            if package is not None and not (library in found and found[library].seen):
                if package.name not in names_of:
                    names_of[package.name] = _libraries(package, suite)
                seen = library in names_of[package.name]
                if seen or library not in found:
                    found[library] = Provider(package.name, seen)
    for library in libraries:  # a package may have several libraries (libglib2.0-0t64 has libgthread)
        owner = next((name for name, names in names_of.items() if library in names), "")
        if owner and not (library in found and found[library].seen):
            found[library] = Provider(owner, seen=True)
    if rest := [library for library in libraries if library not in found or not found[library].seen]:
        found |= {library: Provider(package, seen=True) for library, package in _from_contents(rest, suite).items()}


def _libraries(package: Package, suite: Suite) -> set[str]:
    """Return the file names in a package's directories of the loader; none if the package is larger than LARGEST."""
    debs = open_debs(suite, [package]) if package.size <= LARGEST else ()
    paths = [entry.path for deb in debs for entry, _ in deb.members()]
    names = {path: path.rpartition("/")[2] for path in paths}
    return {name for path, name in names.items() if is_loader_path(path, name)}


def policy_names(library: str) -> list[str]:
    """Return possible names of a library's package (Debian Policy 8.1), current names before old names.

    The name of the package is the soname's name and version, with a hyphen between them if the name ends in a digit.
    Since the 64-bit `time_t` transition, t64 may follow.
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


def is_loader_path(path: str, library: str) -> bool:
    """Return whether a path is the path of a library in one of the loader's default directories."""
    return re.fullmatch(rf"(?:usr/)?lib/(?:[a-z0-9_]+-linux-gnu[a-z]*/)?{re.escape(library)}", path) is not None


def _from_contents(libraries: Sequence[str], suite: Suite) -> dict[str, str]:
    """Return the packages of some libraries by the archive's Contents file."""
    names = b"|".join(re.escape(library.encode()) for library in libraries)
    found: dict[str, list[str]] = {}
    for path, packages in search_contents(rb"\S*/(?:" + names + rb")", suite, ", ".join(libraries)):
        library = path.rpartition("/")[2]
        if is_loader_path(path, library):
            found.setdefault(library, []).extend(packages)
    # Prefer the library's own package to packages that bundle a copy, such as a cross compiler.
    best = {name: min(some, key=lambda path: ("libs" not in path.split("/"), path)) for name, some in found.items()}
    return {library: package.rpartition("/")[2] for library, package in best.items()}


def search_contents(
    pattern: bytes, suite: Suite, title: str, name: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Search a Contents file: yield each path that matches `pattern`, and its packages ("libs/zlib1g").

    `title`: the wanted file, for the progress. `name`: "all" for the Contents file of the architecture "all". Raises
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
        except RegistryError:  # some mirrors have by-hash files for Packages only
            plain = replace(index, path=f"dists/{releases[0].suite}/{file}")
            fetch_file(plain, suite.mirrors(), ctx, task.advance)
    lines = re.compile(rb"(?m)^(" + pattern + rb")[ \t]+(\S+)$")
    for piece in _pieces(index, suite):
        for path, packages in lines.findall(piece):
            yield path.decode(errors="replace"), packages.decode(errors="replace").split(",")


def _pieces(index: ArchiveFile, suite: Suite) -> Iterator[bytes]:
    """Yield a Contents file in pieces of whole lines."""
    with suite.ctx.store.open(index.digest) as stream:
        rest = b""
        for piece in pieces(Decompressed(stream, LIST_LIMIT, compression="gzip"), CHUNK):
            whole, newline, tail = (rest + piece).rpartition(b"\n")
            yield whole
            rest = tail if newline else rest + piece
        yield rest
