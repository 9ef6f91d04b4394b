"""The workspace members that an image contains: their metadata for the plan, and their wheels."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hatch_docker.core.context import Context
from hatch_docker.core.files import temporary_directory
from hatch_docker.plan.model import Plan
from hatch_docker.project.git import is_changed
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.model import DIST, Project
from hatch_docker.project.sources import read_sources
from hatch_docker.project.workspace import read_members, workspace_lock, workspaces_of


def find_members(metadata: Metadata, tables: Mapping[str, Any], ctx: Context) -> Metadata:
    """Return the metadata of a project, with the workspace members that it depends on and with its dependency sources.

    `tables`: the project's pyproject.toml. Uncommitted files of members count as the project's. Raises ConfigError.
    """

    def read(place: Path) -> Metadata:
        with temporary_directory() as temporary:
            member = _open(place, tables, temporary, ctx)
            found = member.metadata(ctx.environ, [DIST])
        return replace(found, sources=read_sources(place, member.tables, workspaces_of(place)))

    members = read_members(metadata, tables, read)
    lock = workspace_lock(metadata.root)
    if metadata.revision:
        dirty = [*metadata.revision.dirty]
        for member in members.values():
            place = os.path.relpath(member.root, metadata.root)
            dirty += [f"{place}/{path}" for path in (member.revision.dirty if member.revision else ())]
        dirty += [lock] if lock and is_changed(metadata.root, lock, ctx.environ) else []
        metadata = replace(metadata, revision=replace(metadata.revision, dirty=tuple(dirty)))
    return replace(
        metadata, members=members, sources=read_sources(metadata.root, tables, workspaces_of(metadata.root)),
        locks=(*metadata.locks, lock) if lock else metadata.locks,
    )


def _open(place: Path, tables: Mapping[str, Any], directory: Path, ctx: Context) -> Project:
    """Open a member, with the base and the image lock of the project. `tables`: the project's pyproject.toml."""
    from hatch_docker.build.project import open_project

    table = tables.get("tool", {}).get("hatch-docker", {})
    return open_project(place, ctx.environ, directory, pins=ctx.image_lock, table=table)


@contextlib.contextmanager
def with_members(project: Project, plans: Sequence[Plan], ctx: Context) -> Iterator[Project]:
    """Yield the project, with `member` if a plan has workspace members. Their artifacts are removed after the block."""
    if not any(plan.members for plan in plans):
        yield project
        return

    with temporary_directory() as temporary:

        @functools.cache
        def member(path: str) -> Project:
            place = (project.root / path).resolve()
            return _open(place, project.tables, Path(tempfile.mkdtemp(dir=temporary)), ctx)

        yield replace(project, member=member)
