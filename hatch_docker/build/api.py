"""The functions behind all entry points: build, push, plan, render, rebuild and rebase the images of a project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.build.notes import Notes
from hatch_docker.build.plan_context import naming_image_in_errors
from hatch_docker.build.plans import open_plans
from hatch_docker.build.unchanged import Command, shown_path
from hatch_docker.core.context import REFRESH, Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import write_json
from hatch_docker.core.http.urls import redact_requirement, redact_url
from hatch_docker.project.model import Project

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.engines.model import Engine
    from hatch_docker.oci.model import Image, Index
    from hatch_docker.plan.model import Plan

Receipts = MutableMapping[str, "Receipt"]
"""Receipts of the images that this process has built, by image name ("" for the image of the main table)."""


def reason_for_no_image(project: Project) -> str:
    """Return the reason why a workspace's library, which `hatch build --all` visits, has no image; "" for others."""
    if "hatch-docker" in project.tables.get("tool", {}) or project.programs():
        return ""
    from hatch_docker.project.workspace import is_member

    if not is_member(project.root):
        return ""
    return f"no image: {project.name()} is a part of a workspace, without a script and [tool.hatch-docker]"


def build_images(
    project: Project, directory: Path, environ: Mapping[str, str], receipts: Receipts, command: Command | None = None
) -> list[Path]:
    """Build and load the images of a project; return the paths of their archives.

    Archives and receipts are written to `directory`. If all images in `receipts` have an archive, nothing is built. The
    result is remembered for the next build with the same `command`.
    """
    if receipts and all(receipt.archive for receipt in receipts.values()):
        # the build hook built them, in `hatch build -t wheel -t docker`
        return [directory / receipt.archive for receipt in receipts.values()]
    notes = Notes(command) if command else None
    plans, ctx = open_plans(project, environ, notes=notes)
    # `docker:push,image` pushed them: the second push sends nothing, but keeps the deliveries in the new receipt.
    pushed = {name for name, receipt in receipts.items() if receipt.deliveries}
    plans = tuple(replace(plan, push=plan.push or plan.part in pushed) for plan in plans)
    return make_images(project, plans, directory, ctx, receipts, notes)


def push_images(
    project: Project, directory: Path, environ: Mapping[str, str], receipts: Receipts, command: Command | None = None
) -> list[str]:
    """Build and push the images of a project; return their references by digest. Writes receipts and no archives.

    The result is remembered for the next build with the same `command`, if `receipts` is empty.
    """
    if not receipts or not all(receipt.deliveries for receipt in receipts.values()):
        notes = Notes(command) if command and not receipts else None
        plans, ctx = open_plans(project, environ, push=True, notes=notes)
        # the new receipt names the archive that was written before
        written = {name for name, receipt in receipts.items() if receipt.archive}
        plans = tuple(replace(plan, archive=plan.part in written) for plan in plans)
        make_images(project, plans, directory, ctx, receipts, notes)
    # Otherwise `push = true` has pushed them, in `hatch build -t docker:image,push`.
    return [name for receipt in receipts.values() for name in receipt.pushed]


def write_dockerfiles(project: Project, directory: Path, environ: Mapping[str, str]) -> list[Path]:
    """Write the Dockerfile and the build context of each image; return the paths of the Dockerfiles. Builds nothing."""
    from hatch_docker.build.members import with_members
    from hatch_docker.engines.buildkit.write_dockerfile import write_dockerfile

    plans, ctx = open_plans(project, environ)
    paths = []
    with with_members(project, plans, ctx) as full_project:
        for plan in plans:
            with naming_image_in_errors(plan.part):
                paths.append(write_dockerfile(plan, full_project, directory, ctx))
    return paths


def write_plans(project: Project, directory: Path, environ: Mapping[str, str]) -> list[Path]:
    """Write the plan of each image as JSON, without credentials in URLs; return the paths. Builds nothing."""
    from hatch_docker.plan.model import plan_json

    paths = []
    for plan in open_plans(project, environ)[0]:
        # Users share this file: it must not contain the credentials in URLs of mirrors and dependencies.
        mirrors = redact_url(plan.base.mirror), redact_url(plan.base.security_mirror)
        standalone = plan.base.standalone
        standalone = standalone and replace(standalone, mirror=redact_url(standalone.mirror))
        base = replace(plan.base, mirror=mirrors[0], security_mirror=mirrors[1], standalone=standalone)
        sources = tuple(replace(source, where=redact_url(source.where)) for source in plan.lock.sources)
        requirements = tuple(map(redact_requirement, plan.lock.requirements))
        lock = replace(plan.lock, requirements=requirements, sources=sources)
        paths.append(directory / f"{plan.stem}.plan.json")
        write_json(paths[-1], plan_json(replace(plan, base=base, lock=lock)))
    return paths


def artifact_text(artifact: str, root: Path, receipts: Iterable[Receipt], *, quiet: bool) -> str:
    """Return an artifact as text for standard output: its path, or with `quiet` a pushed image's digest references."""
    for receipt in receipts:
        if quiet and receipt.pushed and Path(artifact).name == receipt.archive:
            return "\n".join(receipt.pushed)
    return shown_path(artifact, root)


def make_images(
    project: Project, plans: Sequence[Plan], directory: Path, ctx: Context, receipts: Receipts,
    notes: Notes | None = None,
) -> list[Path]:
    """Build the images of `plans`; return the path of each archive, or of the receipt if the plan writes no archive.

    Files are written to `directory`, and the receipts added to `receipts`. With `notes`, the build is remembered.
    """
    from hatch_docker.build.members import with_members
    from hatch_docker.build.pipeline import output_paths, run
    from hatch_docker.core.cache.prune import prune_now_and_then

    for plan in plans:
        with naming_image_in_errors(plan.part), with_members(project, [plan], ctx) as full_project:
            receipts[plan.part] = run(plan, full_project, _engine(plan), directory, ctx, notes)
        prune_now_and_then(ctx.store)
    if notes is not None:
        from hatch_docker.build.inputs import remember

        remember(notes, project, plans, directory, ctx)
    return [output_paths(plan, directory)[not plan.archive] for plan in plans]


def _engine(plan: Plan) -> Engine:
    if plan.engine == "buildkit":
        from hatch_docker.engines.buildkit.engine import build
    else:
        from hatch_docker.engines.embedded import build
    return build


def rebuild(project: Project, archive: Path, environ: Mapping[str, str]) -> tuple[Image | Index, tuple[str, ...]]:
    """Build the image of an archive again from the project's image lock; return it and its names.

    Writes no file and runs no check. Raises ConfigError for a project without an image lock.
    """
    from hatch_docker.build.existing import matching_plan
    from hatch_docker.build.members import with_members
    from hatch_docker.build.pipeline import image_or_index
    from hatch_docker.core.image_lock import NAME, RELOCK

    plans, ctx = open_plans(project, environ, all_images=True)
    plan = matching_plan(str(archive), plans)
    if ctx.image_lock is None:
        raise ConfigError(f"there is no {NAME} to rebuild from: {RELOCK}, and build with it")
    with with_members(project, [plan], ctx) as full_project:
        return image_or_index(_engine(plan)(plan, full_project, ctx)), plan.references


def rebase_image(project: Project, image: str, directory: Path, environ: Mapping[str, str]) -> Receipt:
    """Replace the base of an existing image with the base that a build would use now; return the new receipt.

    `image`: the path of an archive, or a reference, whose repository gets the result of a push. The new base is the one
    in the image lock, otherwise the current one of the registry or mirror. Checks and outputs are as for a build.
    """
    from hatch_docker.build.existing import matching_plan, open_existing
    from hatch_docker.build.pipeline import run
    from hatch_docker.engines.rebase import rebase
    from hatch_docker.plan.model import CachePlan

    plans, ctx = open_plans(project, environ, all_images=True)
    if ctx.image_lock is None:
        ctx = replace(ctx, environ={**environ, REFRESH: "1"})
    existing = open_existing(image, ctx)
    wheel = existing.receipt.wheel if existing.receipt else None
    engine = rebase(existing.item, wheel, existing.left_out)
    none = ({"type": "none"},)  # a rebase has fewer facts than a build: do not replace the shared cache
    plan = replace(existing.plan(matching_plan(image, plans)), cache=CachePlan(none, none))
    return run(plan, project, engine, directory, ctx)


def archives_of(project: Project, environ: Mapping[str, str]) -> list[Path]:
    """Return the paths of the archives of a project's images in its default output directory."""
    from hatch_docker.build.pipeline import output_paths

    plans, _ctx = open_plans(project, environ, use_lock=False)
    return [output_paths(plan, project.output())[0] for plan in plans]
