"""Dependency resolution by Debian's rules over the packages of an archive.

Implements deb-version(7) (order of versions) and the relationship fields of deb-control(5) that matter for an empty
root: Pre-Depends, Depends, alternatives, versions, Provides, Conflicts, Breaks.
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
    """A binary package as a Packages file describes it: `size` in bytes, `digest` "sha256:<hex>".

    `filename` is relative to the root of the archive that `archive` names: "main" or "security".
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
    """One alternative of a dependency: a name and perhaps a condition on the version."""

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
            "<": mine <= other, ">": mine >= other,  # the obsolete forms, as dpkg reads them
        }[self.operator]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


class PackageIndex:
    """The packages of some archives: of each name the highest version, and the providers of virtual names.

    `get` returns the package of a name, or None.
    """

    def __init__(
        self, names: Collection[str], get: Callable[[str], Package | None],
        providers: Callable[[], Mapping[str, Sequence[str]]],
    ) -> None:
        self.get = get
        self._names = names
        self._find_providers = providers  # to read all Provides takes a while, and is seldom needed

    @cached_property
    def _providers(self) -> Mapping[str, Sequence[str]]:
        return self._find_providers()

    def providers(self, name: str) -> list[Package]:
        """Return the packages that provide a name, those with the highest priority in Debian first."""
        found = [package for package in map(self.get, set(self._providers.get(name, ()))) if package is not None]
        ranks = {priority: rank for rank, priority in enumerate(_PRIORITIES)}
        return sorted(found, key=lambda package: (ranks.get(package.priority, len(ranks)), package.name))

    def matching(self, pattern: str) -> list[str]:
        """Return the names that a regular expression matches as a whole, the shortest first."""
        return sorted(filter(re.compile(pattern).fullmatch, self._names), key=lambda name: (len(name), name))

    def similar(self, name: str) -> list[str]:
        """Return existing names that are close to a mistyped one."""
        return difflib.get_close_matches(name, list(self._names), 3, 0.8)


@lru_cache(maxsize=4096)
def version_key(version: str) -> VersionKey:
    """Return a value that sorts as dpkg sorts versions (deb-version(7)); raises BaseImageError if it is no version."""
    head, colon, rest = version.partition(":")
    epoch = head if colon else "0"
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    if not dash:
        upstream, revision = revision, ""
    if not epoch.isdecimal() or not epoch.isascii() or not upstream or len(version) > LONGEST:
        raise BaseImageError(f"{version[:LONGEST]!r} is not a version of a Debian package")
    return int(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> tuple[_Part, ...]:
    """Return pairs of text and number. `~` sorts before the end, the end before letters, letters before the rest."""
    found = re.findall(r"([^0-9]*)([0-9]*)", text)

    def order(character: str) -> int:
        return -1 if character == "~" else ord(character) + (0 if character.isalpha() else 256)

    parts = [((*map(order, letters), 0), int(digits or 0)) for letters, digits in found]
    while len(parts) > 1 and parts[-1] == _END:  # the first is the number's of "0", "" and "0~" alike
        parts.pop()
    return (*parts, _END)


def parse_relations(text: str) -> list[tuple[Relation, ...]]:
    """Return a relationship field: all items of the list are needed, one of each tuple. Raises BaseImageError."""
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
    """Return the packages `wanted` and all that they need beyond those `installed`, sorted by name.

    Names in `ignored` count as installed too, unless they are wanted. Raises BaseImageError if a package or one of
    its dependencies does not exist in `where`, or if two packages exclude each other.
    """
    chosen = {package.name: package for package in installed}
    before = frozenset(chosen)
    names = sorted(set(wanted))  # their order must not decide which alternative is taken
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
        raise BaseImageError(f"{name} is a virtual package of {where}; name one that provides it: {names}")
    similar = index.similar(name)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`apt search` on Debian finds names"
    raise BaseImageError(f"{where} has no package {name!r}; {hint}")


def _best(index: PackageIndex, group: Sequence[Relation]) -> Package | None:
    """Return the first alternative that exists, in the packager's order; a real package before one that provides it."""
    for option in group:
        package = index.get(option.name)
        if package is not None and option.holds(package.version):
            return package
        for provider in index.providers(option.name):
            if provides(provider, option):
                return provider
    return None


def is_met(chosen: Mapping[str, Package], group: Sequence[Relation]) -> bool:
    """Return whether the chosen packages (name -> package) meet one of several alternatives."""
    for option in group:
        package = chosen.get(option.name)
        if package is not None and option.holds(package.version):
            return True
    return any(provides(package, option) for option in group for package in chosen.values())


def provides(package: Package, wanted: Relation) -> bool:
    """Return whether a package provides a relation; a condition on the version needs a versioned Provides."""
    if wanted.name not in package.provides:  # a quick test, because parsing all fields takes long
        return False
    versions = [given.version for given, *_ in parse_relations(package.provides) if given.name == wanted.name]
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
