"""Dependencies between the packages of an image: METADATA and its markers for Python, Depends for the system."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.model import Dependency
from hatch_docker.oci.model import Platform
from hatch_docker.release.sbom.requirements import Requirements, spread_extras
from hatch_docker.wheels.target import MACHINES, Target


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an installed package. `path` is its METADATA or database, `requires` as release.sbom.inventory reads
    it. `own` is True for the project itself, as far as the image tells.
    """

    type: str
    name: str
    version: str
    path: str
    requires: tuple[Any, ...]
    provides: tuple[str, ...] = ()
    own: bool = False


def dependencies_of(packages: Sequence[Metadata], python: str, platform: Platform) -> list[tuple[Dependency, ...]]:
    """Return the dependencies of each package, with markers evaluated for the image's Python and platform."""
    names = _names(packages)
    found: list[dict[tuple[int, str], Dependency]] = [{} for _ in packages]
    for number, package in enumerate(packages):
        if package.type not in ("python", "interpreter"):
            for group in package.requires:
                target = next((names[package.type, name] for name in group if (package.type, name) in names), number)
                if target != number:
                    found[number].setdefault((target, ""), Dependency(target, ""))
    if python and platform.architecture in MACHINES:
        environment = {**Target(python, platform, ("glibc", "2.0")).marker_environment()}
        for number, dependency in _python_dependencies(packages, names, environment):
            found[number].setdefault((dependency.package, dependency.line), dependency)
    return [tuple(dependencies.values()) for dependencies in found]


def _names(packages: Sequence[Metadata]) -> dict[tuple[str, str], int]:
    """Return the packages by type and name; the first one of a name counts, and a name counts before what others
    provide.
    """
    names: dict[tuple[str, str], int] = {}
    for number, package in enumerate(packages):
        name = canonicalize_name(package.name) if package.type == "python" else package.name
        names.setdefault((package.type, name), number)
    for number, package in enumerate(packages):
        for name in package.provides:
            names.setdefault((package.type, name), number)
    return names


def _python_dependencies(
    packages: Sequence[Metadata], names: Mapping[tuple[str, str], int], environment: Mapping[str, Any]
) -> Iterator[tuple[int, Dependency]]:
    """Return the dependencies of Python's packages, each with the extras that others require it with.

    No file says with which extras the project was installed. An extra counts if one of its requirements is installed
    that nothing else requires.
    """
    lines = {
        number: Requirements(packages[number].requires, environment)
        for (kind, _), number in names.items() if kind == "python"
    }  # fmt: skip
    extras: dict[int, set[str]] = {number: set() for number in lines}

    def find(name: str) -> int | None:
        return names.get(("python", name))

    spread_extras(lines, extras, find)
    reached: set[int | None] = {None, *(dependency.package for _, dependency in _edges(lines, extras, find))}
    for number, own_lines in lines.items():
        if number in reached or not packages[number].own:
            continue
        for extra in own_lines.by_extra:
            if {find(requirement.name) for requirement in own_lines.applying_for(extra)} - reached:
                extras[number].add(extra)
    spread_extras(lines, extras, find)
    yield from _edges(lines, extras, find)


def _edges(
    lines: Mapping[int, Requirements], extras: Mapping[int, set[str]], find: Callable[[str], int | None]
) -> Iterator[tuple[int, Dependency]]:
    for number, own_lines in lines.items():
        for requirement in own_lines.applying(extras[number]):
            target = find(requirement.name)
            if target is not None and target != number:
                yield number, Dependency(target, " ".join(requirement.line.split()), requirement.extra)
