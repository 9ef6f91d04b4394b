"""The result of `why`: the packages that require a package, its size, and the dependencies that only it requires."""

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.document import SCHEMA, package_document
from hatch_docker.cli.inspect.model import PROJECT, Dependency, ImageContents, largest_packages
from hatch_docker.cli.inspect.text import MAX_ROWS, TYPES, rest_line, size_line
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.text import megabytes, plural

MAX_STEPS = 1_000_000  # sum of the lengths of all chains

Chain = tuple[tuple[int, Dependency], ...]
"""A dependency path from a root: the index of each package, with its dependency on the next package."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """The reasons why a package (an index) is installed: a chain for each package that requires it, shortest first.

    `exclusive`: indexes of the packages that no other package would require without it.
    """

    package: int
    chains: tuple[Chain, ...]
    exclusive: tuple[int, ...]


def find_reasons(contents: ImageContents, name: str) -> tuple[Reasons, ...]:
    """Return the reasons for each package with a name; there may be a Python and a system package of this name.

    Raises ConfigError, with similar names, if the image has no such package.
    """
    wanted = canonicalize_name(name)
    numbers = [
        number for number, package in enumerate(contents.packages)
        if package.name == name or (package.type == "python" and canonicalize_name(package.name) == wanted)
    ]
    if not numbers:
        names = sorted({package.name for package in contents.packages})
        close = difflib.get_close_matches(name, names, 3, 0.6) or difflib.get_close_matches(wanted, names, 3, 0.6)
        hint = f": did you mean {' or '.join(close)}?" if close else "; `hatch-docker inspect --all` lists all"
        raise ConfigError(f"the image has no package {name}{hint}")
    return tuple(_reasons(contents, number) for number in numbers)


def _reasons(contents: ImageContents, number: int) -> Reasons:
    """Return the reasons for the package with the index `number`."""
    packages, roots = contents.packages, _roots(contents)
    without = _shortest_paths(contents, roots, number)
    requirers = [
        (other, dependency) for other, package in enumerate(packages) if other in without
        for dependency in package.dependencies if dependency.package == number
    ]  # fmt: skip
    chains: list[Chain] = []
    steps = MAX_STEPS
    for other, dependency in sorted(requirers, key=lambda item: without[item[0]].length):
        steps -= without[other].length
        if steps < 0:
            break
        chain = [(other, dependency)]
        while (step := without[chain[0][0]]).dependency is not None:
            chain.insert(0, (step.before, step.dependency))
        chains.append(tuple(chain))
    chains.sort(key=lambda chain: (len(chain), [packages[step].name for step, _ in chain], chain[-1][1].line))
    reachable = _shortest_paths(contents, roots, -1)
    exclusive = [other for other in reachable if other not in without and other != number]
    exclusive.sort(key=lambda other: (-packages[other].size, packages[other].name))
    return Reasons(number, tuple(chains), tuple(exclusive))


def _roots(contents: ImageContents) -> list[int]:
    """Return the packages at which chains begin: the project, packages that none requires, one of each other cycle."""
    packages = contents.packages
    roots = [number for number, package in enumerate(packages) if package.root]
    roots.sort(key=lambda number: packages[number].kind != PROJECT)
    reached = set(_shortest_paths(contents, roots, -1))
    for root in range(len(packages)):
        if root not in reached:
            roots.append(root)
            waiting = [root]
            while waiting:
                if (number := waiting.pop()) not in reached:
                    reached.add(number)
                    waiting += [dependency.package for dependency in packages[number].dependencies]
    return roots


class _Step(NamedTuple):
    """The last step of the shortest path to a package: the package before it, its dependency, the path's length."""

    before: int
    dependency: Dependency | None
    length: int


def _shortest_paths(contents: ImageContents, roots: Iterable[int], avoided: int) -> dict[int, _Step]:
    """Return the shortest dependency paths from `roots` that do not pass `avoided`: for each package, the last step."""
    found = {root: _Step(-1, None, 0) for root in roots if root != avoided}
    waiting = deque(found)
    while waiting:
        number = waiting.popleft()
        for dependency in contents.packages[number].dependencies:
            if dependency.package not in found and dependency.package != avoided:
                found[dependency.package] = _Step(number, dependency, found[number].length + 1)
                waiting.append(dependency.package)
    return found


def why_lines(contents: ImageContents, results: Sequence[Reasons], *, show_all: bool) -> Iterator[str]:
    """Yield the reasons as lines for a terminal. `show_all`: do not shorten lists to MAX_ROWS."""
    for index, reasons in enumerate(results):
        if index:
            yield ""
        package = contents.packages[reasons.package]
        layer = f"layer {package.layer + 1}, " if package.layer >= 0 else ""
        size = f"{megabytes(package.size)} in {plural(package.files, 'file')}"
        yield from (f"{package.title}  {TYPES[package.type]}, {layer}{size}", "")
        if package.kind == PROJECT:
            yield "it is the project itself"
        elif not reasons.chains:
            yield "no package of the image requires it: the build itself requested it"
        chains = reasons.chains if show_all else reasons.chains[:MAX_ROWS]
        yield from (f"  {_chain_text(contents, chain)}" for chain in chains)
        if len(chains) < len(reasons.chains):
            yield f"  and {len(reasons.chains) - len(chains)} more (--all)"
        yield ""
        exclusive = largest_packages(contents.packages[number] for number in reasons.exclusive)
        total = megabytes(package.size + sum(other.size for other in exclusive))
        others = f"with the packages that only it requires, {total}:" if exclusive else ""
        yield f"it takes {megabytes(package.size)}; {others or 'no other package is required only by it'}"
        listed = exclusive if show_all else exclusive[:MAX_ROWS]
        yield from (size_line(other.size, other.title) for other in listed)
        yield from rest_line(other.size for other in exclusive[len(listed) :])


def _chain_text(contents: ImageContents, chain: Chain) -> str:
    steps = []
    for number, dependency in chain:
        extra = f" [{dependency.extra}]" if dependency.extra else ""
        steps.append(f"{contents.packages[number].title}{extra}")
    line = chain[-1][1].line
    return f"{' -> '.join(steps)}  requires  {line}" if line else f"{' -> '.join(steps)} requires it"


def why_document(contents: ImageContents, results: Sequence[Reasons]) -> dict[str, Any]:
    """Return the reasons as JSON. Sizes are in bytes."""
    packages = contents.packages
    return {"schema": SCHEMA, "digest": contents.image.digest, "packages": [
        {
            **package_document(contents, packages[reasons.package]),
            "chains": [
                [
                    {"name": packages[number].name, "version": packages[number].version,
                     "requires": dependency.line, "extra": dependency.extra}
                    for number, dependency in chain
                ]
                for chain in reasons.chains
            ],
            "exclusive": [package_document(contents, packages[number]) for number in reasons.exclusive],
        }
        for reasons in results
    ]}  # fmt: skip
