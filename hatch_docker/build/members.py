"""The members of a workspace that an image takes along: read before its plan is made, built as the project itself."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.plan.model import Plan
    from hatch_docker.plugin.target import DockerBuilder
    from hatch_docker.project.metadata import Project, Source

Config = Mapping[str, Any]


def find_members(project: Project, config: Config, ctx: Context) -> Project:
    """The project with those of its workspace that it depends on; what no commit has of them, it has not either.

    `config` is its pyproject.toml. Raises ConfigError.
    """
    from hatch_docker.project.git import is_changed
    from hatch_docker.project.metadata import DIST, read_project
    from hatch_docker.project.workspace import read_members, workspace_lock

    def read(place: Path) -> Project:
        return read_project(_open(place, config, ctx), ctx.environ, place, [DIST])

    members = read_members(project, config, read)
    lock = workspace_lock(project.root)
    if project.revision:
        dirty = [*project.revision.dirty]
        for member in members.values():
            place = os.path.relpath(member.root, project.root)
            dirty += [f"{place}/{path}" for path in (member.revision.dirty if member.revision else ())]
        dirty += [lock] if lock and is_changed(project.root, lock) else []
        project = replace(project, revision=replace(project.revision, dirty=tuple(dirty)))
    return replace(project, members=members, locks=(*project.locks, lock) if lock else project.locks)


def _open(place: Path, config: Config, ctx: Context) -> DockerBuilder:
    """A member, on the base of the project whose pyproject.toml is `config`, by that one's pins."""
    from hatch_docker.build.metadata import open_project

    table = config.get("tool", {}).get("hatch-docker", {})
    return open_project(place, ctx.environ, pins=ctx.pins, table=table)


@contextlib.contextmanager
def with_members(source: Source, plans: Sequence[Plan], config: Config, ctx: Context) -> Iterator[Source]:
    """The source of a project, and by it those of the members of its workspace that some plans name."""
    if not any(plan.members for plan in plans):
        yield source
        return
    from hatch_docker.core.files import scratch

    with scratch() as temporary:

        @functools.cache
        def member(path: str) -> Source:
            return _open((source.root / path).resolve(), config, ctx).source(Path(tempfile.mkdtemp(dir=temporary)))

        yield replace(source, member=member)
