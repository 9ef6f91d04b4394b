"""Requirements of a distribution (PEP 508) whose markers are true on a target, from untrusted METADATA."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.utils import canonicalize_name

LINES = 5000     # the most requirements of a distribution
LONGEST = 8192   # characters of a requirement
MENTIONED = 50   # the most words in a marker that are read as extras
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;(?P<marker>.*))?")
_QUOTED = re.compile(r"""["']([^"']*)["']""")

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement whose marker is true. `extra`: the extra in its marker, "" if it is required without an extra."""

    name: str
    extras: frozenset[str]
    line: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class _Conditional:
    """A requirement with a marker. `always`: the marker is true without an extra. `mentioned`: possible extras."""

    requirement: Requirement
    marker: str
    always: bool
    mentioned: frozenset[str]


class Requirements:
    """The requirements of a distribution, each parsed once. Invalid lines are skipped."""

    def __init__(self, lines: Iterable[str], environment: Mapping[str, Any]) -> None:
        self._environment = environment
        self._all: list[_Conditional] = []
        self.by_extra: dict[str, list[_Conditional]] = {}
        for _, line in zip(range(LINES), lines, strict=False):
            match = _REQUIREMENT.match(line) if len(line) <= LONGEST else None
            if match is not None:
                self._add(match, line)

    def _add(self, match: re.Match[str], line: str) -> None:
        marker = (match["marker"] or "").strip()
        words = (word.strip() for word in (match["extras"] or "").split(","))
        extras = frozenset(canonicalize_name(word) for word in words if word)
        requirement = Requirement(canonicalize_name(match["name"]), extras, line)
        always = not marker or _holds(marker, "", self._environment)
        quoted = " ".join(_QUOTED.findall(marker)).split()[:MENTIONED] if "extra" in marker and not always else ()
        conditional = _Conditional(requirement, marker, always, frozenset(map(canonicalize_name, quoted)))
        self._all.append(conditional)
        for word in conditional.mentioned:
            self.by_extra.setdefault(word, []).append(conditional)

    def applying(self, extras: set[str]) -> Iterator[Requirement]:
        """Yield the requirements of the distribution if it is installed with some extras."""
        for conditional in self._all:
            if conditional.always:
                yield conditional.requirement
            else:
                for word in sorted(conditional.mentioned & extras):
                    yield from self._if_holds(conditional, word)

    def applying_for(self, extra: str) -> Iterator[Requirement]:
        """Yield the requirements that one extra adds; for "" the requirements without an extra."""
        if not extra:
            yield from (conditional.requirement for conditional in self._all if conditional.always)
        for conditional in self.by_extra.get(extra, ()):
            yield from self._if_holds(conditional, extra)

    def _if_holds(self, conditional: _Conditional, extra: str) -> Iterator[Requirement]:
        if _holds(conditional.marker, extra, self._environment):
            yield replace(conditional.requirement, extra=extra)


def spread_extras(
    requirements: Mapping[Key, Requirements], extras: dict[Key, set[str]], find: Callable[[str], Key | None]
) -> None:
    """Add to `extras` of each distribution the extras with which other distributions require it, transitively.

    `find` returns the key of a name, None if it is not installed. Each distribution is visited once for each extra.
    """
    waiting = [(key, extra) for key in requirements for extra in ("", *extras.get(key, ()))]
    while waiting:
        key, extra = waiting.pop()
        for requirement in requirements[key].applying_for(extra):
            target = find(requirement.name)
            if target is not None and (new := requirement.extras - extras[target]):
                extras[target] |= new
                waiting += [(target, word) for word in new]


def _holds(marker: str, extra: str, environment: Mapping[str, Any]) -> bool:
    """Return whether a marker is valid and true."""
    try:
        return Marker(marker).evaluate({**environment, "extra": extra})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError):
        return False
