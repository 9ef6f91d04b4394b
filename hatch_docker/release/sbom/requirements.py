"""What the requirements of a distribution ask for on a target (PEP 508), as strangers write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hatch_docker.plan.naming import normalised

LINES = 5000     # of a distribution that are looked at
LONGEST = 8192   # characters of one
MENTIONED = 50   # words of one that may be extras
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;(?P<marker>.*))?")
_QUOTED = re.compile(r"""["']([^"']*)["']""")

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Asked:
    """A requirement that holds: the name, the extras that it is asked for with, the line, and the extra that asks."""

    name: str
    extras: frozenset[str]
    line: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """A requirement; `always` is whether it holds without an extra, `mentioned` are the words that may be one."""

    asked: Asked
    marker: str
    always: bool
    mentioned: frozenset[str]


class Lines:
    """The requirements of a distribution, each read once; what is none is left out."""

    def __init__(self, lines: Iterable[str], environment: Mapping[str, Any]) -> None:
        self._environment = environment
        self._lines: list[_Line] = []
        self.by_extra: dict[str, list[_Line]] = {}
        for _, line in zip(range(LINES), lines, strict=False):
            match = _REQUIREMENT.match(line) if len(line) <= LONGEST else None
            if match is not None:
                self._add(match, line)

    def _add(self, match: re.Match[str], line: str) -> None:
        marker = (match["marker"] or "").strip()
        words = (word.strip() for word in (match["extras"] or "").split(","))
        asked = Asked(normalised(match["name"]), frozenset(normalised(word) for word in words if word), line)
        always = not marker or _holds(marker, "", self._environment)
        quoted = " ".join(_QUOTED.findall(marker)).split()[:MENTIONED] if "extra" in marker and not always else ()
        found = _Line(asked, marker, always, frozenset(map(normalised, quoted)))
        self._lines.append(found)
        for word in found.mentioned:
            self.by_extra.setdefault(word, []).append(found)

    def hold(self, extras: set[str]) -> Iterator[Asked]:
        """The requirements that hold where some extras are asked for."""
        for line in self._lines:
            if line.always:
                yield line.asked
            else:
                yield from (one for word in sorted(line.mentioned & extras) for one in self._by(line, word))

    def by(self, extra: str) -> Iterator[Asked]:
        """Those that hold for the sake of an extra alone; of "" those that hold without one."""
        if not extra:
            yield from (line.asked for line in self._lines if line.always)
        yield from (one for line in self.by_extra.get(extra, ()) for one in self._by(line, extra))

    def _by(self, line: _Line, extra: str) -> Iterator[Asked]:
        if _holds(line.marker, extra, self._environment):
            yield Asked(line.asked.name, line.asked.extras, line.asked.line, extra)


def spread(lines: Mapping[Key, Lines], extras: dict[Key, set[str]], find: Callable[[str], Key | None]) -> None:
    """Add the extras that distributions are asked for with, by one another, until nothing changes.

    `find` gives the distribution of a name, None for one that is not there. Each is looked at once for each extra.
    """
    waiting = [(key, extra) for key in lines for extra in ("", *extras.get(key, ()))]
    while waiting:
        key, extra = waiting.pop()
        for one in lines[key].by(extra):
            target = find(one.name)
            if target is not None and (new := one.extras - extras[target]):
                extras[target] |= new
                waiting += [(target, word) for word in new]


def _holds(marker: str, extra: str, environment: Mapping[str, Any]) -> bool:
    """Whether a marker is true; one that is none, as strangers write them, is not."""
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    try:
        return Marker(marker).evaluate({**environment, "extra": extra})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError):
        return False
