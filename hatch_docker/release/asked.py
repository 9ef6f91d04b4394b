"""What the requirements of a distribution ask for on a target (PEP 508), as strangers write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.release.names import normalised

_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;(?P<marker>.*))?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A requirement that holds: the name, the extras that it is asked for with, the line, and the extra that asks."""

    name: str
    extras: frozenset[str]
    line: str
    extra: str = ""


def asked(lines: Iterable[str], extras: set[str], environment: Mapping[str, Any]) -> Iterator[Asked]:
    """The requirements among some lines that hold where `extras` are asked for; what is no requirement is left out."""
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        marker = (match["marker"] or "").strip()
        candidates = ("",) if "extra" not in marker else ("", *sorted(extras)) if extras else ()
        for extra in candidates:
            if not marker or _holds(marker, extra, environment):
                words = (word.strip() for word in (match["extras"] or "").split(","))
                wanted = frozenset(normalised(word) for word in words if word)
                yield Asked(normalised(match["name"]), wanted, line, extra)
                break


def _holds(marker: str, extra: str, environment: Mapping[str, Any]) -> bool:
    """Whether a marker is true; one that is none, as strangers write them, is not."""
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    try:
        return Marker(marker).evaluate({**environment, "extra": extra})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError):
        return False
