"""Which packages a set of names needs: Debian's dependency rules over the packages of an archive.

Implements deb-version(7) (order of versions) and the relationship fields of deb-control(5), as far as
installing into an empty root goes: Pre-Depends, Depends, alternatives, versions, Provides, Conflicts, Breaks.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from hatch_docker.errors import BaseImageError

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
    """A binary package as an archive's Packages file describes it. `size` is in bytes, `digest` its sha256.

    `filename` is relative to the root of the archive named by `archive`: "main" or "security".
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
        """The package among all of an archive: "libc6 2.41-12 amd64"."""
        return f"{self.name} {self.version} {self.architecture}"


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative of a dependency: a name and perhaps a condition on its version."""

    name: str
    operator: str = ""
    version: str = ""

    def holds(self, version: str) -> bool:
        """Whether a version meets the condition."""
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
    """The packages of some archives: of each name the highest version, and who provides a virtual name."""

    def __init__(
        self, packages: Mapping[str, Package], providers: Callable[[], Mapping[str, Sequence[str]]]
    ) -> None:
        self._packages = packages
        self._find_providers = providers  # reading all Provides takes a while, and is seldom needed

    @cached_property
    def _providers(self) -> Mapping[str, Sequence[str]]:
        return self._find_providers()

    def get(self, name: str) -> Package | None:
        """The package of a name, or None."""
        return self._packages.get(name)

    def providers(self, name: str) -> list[Package]:
        """The packages that provide a name; those that Debian itself prefers (by priority) first."""
        names = dict.fromkeys(self._providers.get(name, ()))
        found = [self._packages[provider] for provider in names]
        return sorted(found, key=lambda package: (_rank(package.priority), package.name))

    def similar(self, name: str) -> list[str]:
        """Names that a mistyped name may stand for."""
        import difflib

        return difflib.get_close_matches(name, list(self._packages), 3, 0.8)


def _rank(priority: str) -> int:
    return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)


@lru_cache(maxsize=4096)
def version_key(version: str) -> VersionKey:
    """A value that sorts as dpkg sorts versions (deb-version(7)); raises BaseImageError for no version."""
    head, colon, rest = version.partition(":")
    epoch = head if colon else "0"
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    if not dash:
        upstream, revision = revision, ""
    if not epoch.isdecimal() or not epoch.isascii() or not upstream or len(version) > LONGEST:
        raise BaseImageError(f"{version[:LONGEST]!r} is not a version of a Debian package")
    return int(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> tuple[_Part, ...]:
    """Text and number in turn. `~` sorts before the end, the end before letters, letters before the rest."""
    found = re.findall(r"([^0-9]*)([0-9]*)", text)
    parts = [((*map(_order, letters), 0), int(digits or 0)) for letters, digits in found]
    while len(parts) > 1 and parts[-1] == _END:  # the first is the number's of "0", "" and "0~" alike
        parts.pop()
    return (*parts, _END)


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def parse_relations(text: str) -> list[tuple[Relation, ...]]:
    """A relationship field: all of the list, any of each tuple. Raises BaseImageError where malformed."""
    return [
        tuple(_relation(part.strip(), text) for part in group.split("|"))
        for group in text.replace("\n", " ").split(",")
        if group.strip()
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
    """The packages that `wanted` names and all they need beyond those `installed`, sorted by name.

    What `ignored` names counts as installed too, unless it is wanted. Raises BaseImageError where a package
    does not exist in `where`, cannot be satisfied, or two of all exclude each other.
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
                    f"package {package.name} {package.version} of {where} needs {needed}, which is not there"
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
    """The first alternative that exists: their order is the packager's preference; real before virtual."""
    for option in group:
        package = index.get(option.name)
        if package is not None and option.holds(package.version):
            return package
        for provider in index.providers(option.name):
            if provides(provider, option):
                return provider
    return None


def is_met(chosen: Mapping[str, Package], group: Sequence[Relation]) -> bool:
    """Whether some packages, by name, meet one of several alternatives."""
    for option in group:
        package = chosen.get(option.name)
        if package is not None and option.holds(package.version):
            return True
    return any(provides(package, option) for option in group for package in chosen.values())


def provides(package: Package, wanted: Relation) -> bool:
    """Whether a package's Provides meet a relation; a condition on the version needs a versioned Provides."""
    if wanted.name not in package.provides:  # a substring test, to parse next to nothing
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
