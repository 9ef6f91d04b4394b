"""Which files a build reads of a project, and what is in them now: by what a watched project is built again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import HatchDockerError

if TYPE_CHECKING:
    from hatch_docker.plan import Plan

# At a project's root, whatever else is chosen there; a build may depend on one that is not there yet.
ALWAYS = (
    "pyproject.toml", "hatch.toml", "setup.py", "setup.cfg", "hatch_build.py", "hatch-docker.lock", "pylock.toml",
    "uv.lock", "poetry.lock", "pdm.lock", "requirements.lock", "requirements.txt",
)  # fmt: skip

Look = Mapping[Path, str]
"""The files that a build reads and their hashes, "" for one that is not there."""


class Inputs:
    """A project and its workspace's members, looked at again and again; what did not change is not read again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._plans: Sequence[Plan] = ()
        self._chosen: frozenset[Path] = frozenset()
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def planned(self, plans: Sequence[Plan]) -> None:
        """Take what a project's plans say: its members, its lock, files, and whether its wheel is made of an sdist."""
        self._plans = plans

    def look(self) -> Look:
        """What a build would read now; of a project that cannot be read, what it read before."""
        try:
            self._chosen = frozenset(self._choose())
        except (HatchDockerError, ValueError, TypeError, OSError):
            self._chosen |= {self.root / name for name in ALWAYS}
        return {path: self._digest(path) for path in sorted(self._chosen)}

    def directories(self) -> tuple[set[Path], set[Path]]:
        """Where files may change or come to be: the projects' own directories, and those below them that have any."""
        roots = {self.root, *(path.parent for path in self._chosen if not path.is_relative_to(self.root))}
        below = {self.root / path.relative_to(self.root).parts[0] for path in self._chosen
                 if path.is_relative_to(self.root) and path.parent != self.root}  # fmt: skip
        return {path for path in roots if path.is_dir()}, {path for path in below if path.is_dir()}

    def _choose(self) -> Iterator[Path]:
        yield from (self.root / name for name in ALWAYS)
        isolated = {self.root: not self._plans}
        for plan in self._plans:
            isolated[self.root] |= plan.build.isolated
            isolated |= {(self.root / member.path).resolve(): member.build.isolated for member in plan.members}
            yield from (self.root / name for name in (plan.lock.path, plan.pins) if name)
            for one in plan.files:
                yield from _walk(self.root / one.source)
        for place, whole in isolated.items():
            yield place / ALWAYS[0]
            yield from _files_of(place, whole=whole)

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            fact = (status.st_mtime_ns, status.st_size, status.st_ino)
            if path not in self._known or self._known[path][0] != fact:
                self._known[path] = fact, hashlib.sha256(path.read_bytes()).hexdigest()
            return self._known[path][1]
        except OSError:
            return ""


def _files_of(place: Path, *, whole: bool) -> Iterator[Path]:
    """What the backend of one project reads; `whole` where it may be all that its sdist holds."""
    from hatch_docker.backend import HATCHLING, build_system, read_pyproject

    if build_system(read_pyproject(place))[1] == HATCHLING:
        from hatch_docker.builder import DockerBuilder
        from hatch_docker.project import selected_files

        yield from selected_files(DockerBuilder(str(place)), sdist=whole)
        return
    from hatch_docker.wheels.tree import read_tree

    tree = read_tree(place, versioned=False)
    yield from (tree.top / name for name in tree.files)


def _walk(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    for directory, _, names in os.walk(path):
        yield from (Path(directory, name) for name in names)


def changed(before: Look, after: Look) -> frozenset[Path]:
    """The files that are otherwise, or there no more, or there at last."""
    return frozenset(path for path in {*before, *after} if before.get(path, "") != after.get(path, ""))
