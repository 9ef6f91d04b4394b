"""Resolver of Debian dependencies.

Implements the order of versions (deb-version(7)) and the relationship fields (deb-control(5)) that matter for an empty
root: Pre-Depends, Depends, alternatives, versions, Provides, Conflicts and Breaks.
"""

import difflib
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from hatch_docker.core.errors import BaseImageError

_Part = tuple[tuple[int, ...], int]
VersionKey = tuple[int, tuple[_Part, ...], tuple[_Part, ...]]
_END: _Part = ((0,), 0)

_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?P<qualifier>:[a-z0-9-]+)?\s*"
    r"(?:\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s)]+)\s*\))?"
)
LONGEST = 255  # characters of a version
_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package in a Packages file. `size` is in bytes, `digest` is "sha256:<hex>".

    `archive` is "main" or "security", and `filename` is relative to the root of this archive.
    """

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    digest: str
    archive: str = "main"
    priority: str = "optional"
    depends: str = field(default="", repr=False)
    conflicts: str = field(default="", repr=False)
    provides: str = field(default="", repr=False)

    @property
    def title(self) -> str:
        """Name, version and architecture: "libc6 2.41-12 amd64"."""
        return f"{self.name} {self.version} {self.architecture}"


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative of a dependency: a package name, with an optional condition on the version."""

    name: str
    operator: str = ""
    version: str = ""

    def holds(self, version: str) -> bool:
        """Return whether a version meets the condition."""
        if not self.operator:
            return True
        mine, other = version_key(version), version_key(self.version)
        return {
            "<<": mine < other, "<=": mine <= other, "=": mine == other,
            ">=": mine >= other, ">>": mine > other,
            "<": mine <= other, ">": mine >= other,  # obsolete operators, with dpkg's meaning
        }[self.operator]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


class PackageIndex:
    """The packages of some archives: the highest version of each name, and the providers of virtual names.

    `get(name)` returns a package or None.
    """

    def __init__(
        self, names: Collection[str], get: Callable[[str], Package | None],
        providers: Callable[[], Mapping[str, Sequence[str]]],
    ) -> None:
        self.get = get
        self._names = names
        self._find_providers = providers  # called only if needed, because reading all Provides is slow

    @cached_property
    def _providers(self) -> Mapping[str, Sequence[str]]:
        return self._find_providers()

    def providers(self, name: str) -> list[Package]:
        """Return the packages that provide a name, sorted by Debian's Priority, "required" first."""
        found = [package for package in map(self.get, set(self._providers.get(name, ()))) if package is not None]
        ranks = {priority: rank for rank, priority in enumerate(_PRIORITIES)}
        return sorted(found, key=lambda package: (ranks.get(package.priority, len(ranks)), package.name))

    def matching(self, pattern: str) -> list[str]:
        """Return the names that match a regular expression completely, the shortest first."""
        return sorted(filter(re.compile(pattern).fullmatch, self._names), key=lambda name: (len(name), name))

    def similar(self, name: str) -> list[str]:
        """Return existing names that are similar to a misspelled name."""
        return difflib.get_close_matches(name, list(self._names), 3, 0.8)


@lru_cache(maxsize=4096)
def version_key(version: str) -> VersionKey:
    """Return a sort key for a version (deb-version(7)). Raises BaseImageError if the text is not a version."""
    head, colon, rest = version.partition(":")
    epoch = head if colon else "0"
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    if not dash:
        upstream, revision = revision, ""
    if not epoch.isdecimal() or not epoch.isascii() or not upstream or len(version) > LONGEST:
        raise BaseImageError(f"{version[:LONGEST]!r} is not a version of a Debian package")
    return int(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> tuple[_Part, ...]:
    """Return pairs of text and number. The order is: `~`, the end of the text, letters, other characters."""
    found = re.findall(r"([^0-9]*)([0-9]*)", text)

    def order(character: str) -> int:
        return -1 if character == "~" else ord(character) + (0 if character.isalpha() else 256)

    parts = [((*map(order, letters), 0), int(digits or 0)) for letters, digits in found]
    while len(parts) > 1 and parts[-1] == _END:  # keep one part, so that "0" and "" are equal, also before a "~"
        parts.pop()
    return (*parts, _END)


def parse_relations(text: str) -> list[tuple[Relation, ...]]:
    """Parse a relationship field: a list of dependencies, each a tuple of alternatives. Raises BaseImageError."""
    return [
        tuple(_relation(part.strip(), text) for part in group.split("|"))
        for group in text.replace("\n", " ").split(",") if group.strip()
    ]


def _relation(part: str, field_text: str) -> Relation:
    match = _RELATION.fullmatch(part)
    if match is None:
        raise BaseImageError(f"a package's relations are malformed at {part!r} in {field_text[:80]!r}")
    return Relation(match["name"], match["operator"] or "", match["version"] or "")


def resolve(
    index: PackageIndex, wanted: Iterable[str], *,
    installed: Iterable[Package] = (), ignored: Collection[str] = (), where: str,
) -> list[Package]:  # fmt: skip
    """Return the packages to install for the names `wanted`, with all dependencies that are not installed, by name.

    Names in `ignored` count as installed, unless they are in `wanted`. `where` names the suite in errors. Raises
    BaseImageError if a package or a dependency does not exist, or if two packages conflict.
    """
    chosen = {package.name: package for package in installed}
    before = frozenset(chosen)
    names = sorted(set(wanted))  # the order of `wanted` must not change the result
    for name in names:
        package = _named(index, name, where)
        chosen.setdefault(package.name, package)
    satisfied = frozenset(ignored).difference(names)
    queue = deque(package for name, package in chosen.items() if name not in before)
    while queue:
        package = queue.popleft()
        for group in parse_relations(package.depends):
            if any(option.name in satisfied for option in group) or is_met(chosen, group):
                continue
            found = _best(index, group)
            if found is None:
                needed = " | ".join(map(str, group))
                raise BaseImageError(
                    f"package {package.name} {package.version} of {where} needs {needed}, which does not exist"
                )
            chosen[found.name] = found
            queue.append(found)
    _check_conflicts(chosen)
    return [chosen[name] for name in sorted(chosen) if name not in before]


def _named(index: PackageIndex, name: str, where: str) -> Package:
    package = index.get(name)
    if package is not None:
        return package
    providers = index.providers(name)
    if len(providers) == 1:
        return providers[0]
    if providers:
        names = ", ".join(package.name for package in providers[:5])
        raise BaseImageError(f"{name} is a virtual package of {where}; use a package that provides it: {names}")
    similar = index.similar(name)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`apt search` on Debian finds names"
    raise BaseImageError(f"{where} has no package {name!r}; {hint}")


def _best(index: PackageIndex, group: Sequence[Relation]) -> Package | None:
    """Return the package for the first alternative that exists. A real package has priority over a provider."""
    for option in group:
        package = index.get(option.name)
        if package is not None and option.holds(package.version):
            return package
        for provider in index.providers(option.name):
            if provides(provider, option):
                return provider
    return None


def is_met(chosen: Mapping[str, Package], group: Sequence[Relation]) -> bool:
    """Return whether the chosen packages (name -> package) meet one of the alternatives in `group`."""
    for option in group:
        package = chosen.get(option.name)
        if package is not None and option.holds(package.version):
            return True
    return any(provides(package, option) for option in group for package in chosen.values())


def provides(package: Package, wanted: Relation) -> bool:
    """Return whether a package's Provides meet a relation. A condition on the version needs a versioned Provides."""
    if wanted.name not in package.provides:  # a quick test, because parsing all fields is slow
        return False
    versions = [item.version for item, *_ in parse_relations(package.provides) if item.name == wanted.name]
    return any(not wanted.operator or (version != "" and wanted.holds(version)) for version in versions)


def _check_conflicts(chosen: Mapping[str, Package]) -> None:
    for package in chosen.values():
        for conflict, *_ in parse_relations(package.conflicts):
            for other in chosen.values():
                named = other.name == conflict.name and conflict.holds(other.version)
                if other.name != package.name and (named or provides(other, conflict)):
                    raise BaseImageError(
                        f"packages {package.name} {package.version} and {other.name} {other.version} "
                        "exclude each other; leave one of them out of `packages`"
                    )
