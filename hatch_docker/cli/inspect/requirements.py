"""Who requires whom: METADATA and its markers for Python's packages, Depends for the system's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.model import Need
from hatch_docker.oci.model import Platform
from hatch_docker.release.sbom.requirements import Requirements, spread_extras
from hatch_docker.wheels.target import MACHINES, Target


@dataclass(frozen=True, slots=True)
class Found:
    """A package as its metadata tells of it: `place` is its METADATA's path, `asks` as release.inventory has it."""

    type: str
    name: str
    version: str
    place: str
    asks: tuple[Any, ...]
    provides: tuple[str, ...] = ()
    own: bool = False


def needs_of(found: Sequence[Found], python: str, platform: Platform) -> list[tuple[Need, ...]]:
    """What each package needs of the others, on the image's platform and by its Python."""
    names = _names(found)
    made: list[dict[tuple[int, str], Need]] = [{} for _ in found]
    for number, package in enumerate(found):
        if package.type not in ("python", "interpreter"):
            for group in package.asks:
                target = next((names[package.type, name] for name in group if (package.type, name) in names), number)
                if target != number:
                    made[number].setdefault((target, ""), Need(target, ""))
    environment = _environment(python, platform)
    if environment:
        for number, need in _python(found, names, environment):
            made[number].setdefault((need.package, need.line), need)
    return [tuple(needs.values()) for needs in made]


def _names(found: Sequence[Found]) -> dict[tuple[str, str], int]:
    """The packages by type and name; what is in a layer of its own goes over what a base has under the same name."""
    names: dict[tuple[str, str], int] = {}
    for number, package in enumerate(found):
        name = canonicalize_name(package.name) if package.type == "python" else package.name
        names.setdefault((package.type, name), number)
    for number, package in enumerate(found):
        for name in package.provides:
            names.setdefault((package.type, name), number)
    return names


def _environment(python: str, platform: Platform) -> dict[str, Any]:
    if not python or platform.architecture not in MACHINES:
        return {}
    return {**Target(python, platform, ("glibc", "2.0")).marker_environment()}


def _python(
    found: Sequence[Found], names: Mapping[tuple[str, str], int], environment: Mapping[str, Any]
) -> Iterator[tuple[int, Need]]:
    """The needs of Python's packages, each with the extras that others ask it for.

    Which extras the image's maker asked the project for, no file says: those whose requirements are here, and that
    nobody else asks for.
    """
    numbers = (number for (kind, _), number in names.items() if kind == "python")
    chosen = {number: Requirements(found[number].asks, environment) for number in numbers}
    extras: dict[int, set[str]] = {number: set() for number in chosen}

    def find(name: str) -> int | None:
        return names.get(("python", name))

    spread_extras(chosen, extras, find)
    reached: set[int | None] = {None, *(need.package for _, need in _edges(chosen, extras, find))}
    for number, lines in chosen.items():
        if number in reached or not found[number].own:
            continue
        for extra in lines.by_extra:
            if {find(one.name) for one in lines.applying_for(extra)} - reached:
                extras[number].add(extra)
    spread_extras(chosen, extras, find)
    yield from _edges(chosen, extras, find)


def _edges(
    chosen: Mapping[int, Requirements], extras: Mapping[int, set[str]], find: Callable[[str], int | None]
) -> Iterator[tuple[int, Need]]:
    for number, lines in chosen.items():
        for one in lines.applying(extras[number]):
            target = find(one.name)
            if target is not None and target != number:
                yield number, Need(target, " ".join(one.line.split()), one.extra)
