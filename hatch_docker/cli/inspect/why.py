"""Why a package is in an image: who asks for it, what it costs, and what is there for its sake only."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.document import SCHEMA, package
from hatch_docker.cli.inspect.model import PROJECT, Contents, Need
from hatch_docker.cli.inspect.text import SHOWN, TYPES, by_size
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.text import counted, megabytes

LONGEST = 1_000_000  # packages of all chains together; more are nobody's to read


@dataclass(frozen=True, slots=True)
class Why:
    """The reasons for one package, all by number: `chains` are the needs that lead to it, each from a root on, one for
    everybody who asks for it; `exclusive` are the packages that nobody would ask for without it."""

    package: int
    chains: tuple[tuple[tuple[int, Need], ...], ...]
    exclusive: tuple[int, ...]


def why(contents: Contents, name: str) -> tuple[Why, ...]:
    """The reasons for the packages of a name, which Python and the system may both have.

    Raises ConfigError where there is none, with the names that are like it.
    """
    wanted = canonicalize_name(name)
    found = [
        number for number, one in enumerate(contents.packages)
        if one.name == name or (one.type == "python" and canonicalize_name(one.name) == wanted)
    ]
    if not found:
        names = sorted({one.name for one in contents.packages})
        like = difflib.get_close_matches(name, names, 3, 0.6) or difflib.get_close_matches(wanted, names, 3, 0.6)
        hint = f": did you mean {' or '.join(like)}?" if like else "; `hatch-docker inspect --all` lists what is"
        raise ConfigError(f"{name} is no package of the image{hint}")
    return tuple(_why(contents, number) for number in found)


def _why(contents: Contents, number: int) -> Why:
    roots = _roots(contents)
    without = _paths(contents, roots, number)
    whole = _paths(contents, roots, -1)
    asking = [(other, need) for other, need in contents.requirers(number) if other in without]
    chains: list[tuple[tuple[int, Need], ...]] = []
    room = LONGEST
    for other, need in sorted(asking, key=lambda one: without[one[0]].length):
        room -= without[other].length
        if room < 0:
            break
        chains.append((*_way(without, other), (other, need)))
    chains.sort(key=lambda chain: (len(chain), [contents.packages[one].name for one, _ in chain], chain[-1][1].line))
    exclusive = [one for one in whole if one not in without and one != number]
    exclusive.sort(key=lambda one: (-contents.packages[one].size, contents.packages[one].name))
    return Why(number, tuple(chains), tuple(exclusive))


def _roots(contents: Contents) -> list[int]:
    """Where every chain begins: the project, what nobody asks for, and one of each circle that only asks for itself."""
    packages = contents.packages
    roots = [number for number, one in enumerate(packages) if one.root]
    roots.sort(key=lambda number: packages[number].kind != PROJECT)
    reached = set(_paths(contents, roots, -1))
    for number in range(len(packages)):
        if number not in reached:
            roots.append(number)
            waiting = [number]
            while waiting:
                if (one := waiting.pop()) not in reached:
                    reached.add(one)
                    waiting += [need.package for need in packages[one].needs]
    return roots


class _Step(NamedTuple):
    """How a package is reached first: by whom and by which need, after how many needs; a root by none."""

    before: int
    need: Need | None
    length: int


def _paths(contents: Contents, roots: Iterable[int], avoided: int) -> dict[int, _Step]:
    """The last step of the shortest way from a root to each package that can be reached without one."""
    found = {root: _Step(-1, None, 0) for root in roots if root != avoided}
    waiting = deque(found)
    while waiting:
        number = waiting.popleft()
        for need in contents.packages[number].needs:
            if need.package not in found and need.package != avoided:
                found[need.package] = _Step(number, need, found[number].length + 1)
                waiting.append(need.package)
    return found


def _way(found: Mapping[int, _Step], number: int) -> tuple[tuple[int, Need], ...]:
    """The needs that lead from a root to a package."""
    steps = []
    while (step := found[number]).need is not None:
        steps.append((step.before, step.need))
        number = step.before
    return tuple(reversed(steps))


def told(contents: Contents, reasons: Sequence[Why], *, every: bool) -> Iterator[str]:
    """The answer for a terminal."""
    packages = contents.packages
    for index, one in enumerate(reasons):
        if index:
            yield ""
        it = packages[one.package]
        layer = f"layer {it.layer + 1}, " if it.layer >= 0 else ""
        yield f"{it.title}  {TYPES[it.type]}, {layer}{megabytes(it.size)} in {counted(it.files, 'file')}"
        yield ""
        if it.kind == PROJECT:
            yield "it is the project itself"
        elif not one.chains:
            yield "nobody in the image asks for it: whoever made the image did"
        chains = one.chains if every else one.chains[:SHOWN]
        for chain in chains:
            yield f"  {_chain(contents, chain)}"
        if len(chains) < len(one.chains):
            yield f"  and {len(one.chains) - len(chains)} more (--all)"
        yield ""
        yield from _cost(contents, one, every=every)


def _chain(contents: Contents, chain: Sequence[tuple[int, Need]]) -> str:
    """The packages from the root on, and how the last asks for it."""
    steps = []
    for number, need in chain:
        extra = f" [{need.extra}]" if need.extra else ""
        steps.append(f"{contents.packages[number].title}{extra}")
    line = chain[-1][1].line
    return f"{' -> '.join(steps)}  asks for  {line}" if line else f"{' -> '.join(steps)} asks for it"


def _cost(contents: Contents, one: Why, *, every: bool) -> Iterator[str]:
    it = contents.packages[one.package]
    if not one.exclusive:
        yield f"it costs {megabytes(it.size)}; nothing else is there for its sake"
        return
    total = it.size + sum(contents.packages[number].size for number in one.exclusive)
    yield f"it costs {megabytes(it.size)}; with what is there for its sake only, {megabytes(total)}:"
    found = by_size(contents.packages[number] for number in one.exclusive)
    for other in found if every else found[:SHOWN]:
        yield f"{megabytes(other.size):>14}  {other.title}"
    if not every and len(found) > SHOWN:
        yield f"{megabytes(sum(other.size for other in found[SHOWN:])):>14}  in {len(found) - SHOWN} more (--all)"


def document(contents: Contents, reasons: Sequence[Why]) -> dict[str, Any]:
    """The answer for programs; sizes are in bytes."""
    return {"schema": SCHEMA, "digest": contents.image.digest, "packages": [
        {
            **package(contents, contents.packages[one.package]),
            "chains": [
                [
                    {"name": contents.packages[number].name, "version": contents.packages[number].version,
                     "requires": need.line, "extra": need.extra}
                    for number, need in chain
                ]
                for chain in one.chains
            ],
            "exclusive": [package(contents, contents.packages[number]) for number in one.exclusive],
        }
        for one in reasons
    ]}  # fmt: skip
