"""Structural validation of parsed TOML and JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ANY = object
"""Any value, for a field that is not read."""


def first_mismatch(expected: Any, value: Any, place: str = "") -> str | None:
    """Return the place of the first value that is not as expected, as in `packages[3].name`; None if all match.

    Expected may be a type (`int` means 0 and more), a pattern for a whole text, a function that returns a bool, a list
    of one expectation for every item, a tuple of alternatives, or a table by name: "name?" is optional, "*" is the
    expectation of other names; without it there may be none.
    """
    if expected is ANY:
        return None
    if isinstance(expected, tuple):
        return None if any(first_mismatch(option, value, place) is None for option in expected) else place
    if isinstance(expected, list):
        if not isinstance(value, list):
            return place
        found = (first_mismatch(expected[0], item, f"{place}[{number}]") for number, item in enumerate(value))
        return next((mismatch for mismatch in found if mismatch is not None), None)
    if isinstance(expected, Mapping):
        return _table(expected, value, place)
    if isinstance(expected, str):
        return None if isinstance(value, str) and re.fullmatch(expected, value) else place
    if not isinstance(expected, type):
        return None if expected(value) else place
    good = type(value) is expected and (not isinstance(value, int) or value >= 0)
    return None if good else place


def _table(expected: Mapping[str, Any], value: Any, place: str) -> str | None:
    if not isinstance(value, dict):
        return place
    known = {name.rstrip("?"): inner for name, inner in expected.items()}
    for name in expected:
        if name != "*" and not name.endswith("?") and name not in value:
            return _below(place, name)
    for name, inner in value.items():
        if name not in known and "*" not in expected:
            return _below(place, name)
        found = first_mismatch(known.get(name, expected.get("*", ANY)), inner, _below(place, name))
        if found is not None:
            return found
    return None


def _below(place: str, name: str) -> str:
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    return f"{place}.{shown}" if place else shown
