"""The verbs of the product, for every way in: make, push, plan, render, rebuild and rebase the images of a project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.build.notes import Notes
from hatch_docker.build.plan_context import about_image
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

Made = MutableMapping[str, "Receipt"]
"""The receipts of the images that were made already, by the image's name, "" for that of the table itself."""


def why_no_image(project: Project) -> str:
    """Return a line for a library of a workspace, which `hatch build --all` visits, "" for other projects."""
    if "hatch-docker" in project.tables.get("tool", {}) or project.programs():
        return ""
    from hatch_docker.project.workspace import is_member

    if not is_member(project.root):
        return ""
    return f"no image: {project.name()} is a part of a workspace, without a script and [tool.hatch-docker]"


def build_images(
    project: Project, directory: Path, environ: Mapping[str, str], made: Made, command: Command | None = None
) -> list[Path]:
    """Make the images of a project, archive and receipt of each in `directory`, and load them; returns the archives.

    What is in `made` with an archive is not made again. The build is remembered as that of `command`.
    """
    if made and all(receipt.archive for receipt in made.values()):
        # by the build hook, in `hatch build -t wheel -t docker`
        return [directory / receipt.archive for receipt in made.values()]
    notes = Notes(command) if command else None
    plans, ctx = open_plans(project, environ, notes=notes)
    # docker:push,image: nothing is left to send, and the receipt says so
    pushed = {name for name, receipt in made.items() if receipt.deliveries}
    plans = tuple(replace(plan, push=plan.push or plan.part in pushed) for plan in plans)
    return make_images(project, plans, directory, ctx, made, notes)


def push_images(
    project: Project, directory: Path, environ: Mapping[str, str], made: Made, command: Command | None = None
) -> list[str]:
    """Make the images of a project and push them, with receipts and no archives; returns their names by digest.

    The build is remembered as that of `command`, unless images were made before.
    """
    if not made or not all(receipt.deliveries for receipt in made.values()):
        notes = Notes(command) if command and not made else None
        plans, ctx = open_plans(project, environ, push=True, notes=notes)
        # an archive that exists stays in the receipt
        written = {name for name, receipt in made.items() if receipt.archive}
        plans = tuple(replace(plan, archive=plan.part in written) for plan in plans)
        make_images(project, plans, directory, ctx, made, notes)
    # Else `push = true` pushed them before, in `hatch build -t docker:image,push`.
    return [name for receipt in made.values() for name in receipt.pushed]


def write_dockerfiles(project: Project, directory: Path, environ: Mapping[str, str]) -> list[Path]:
    """Write the Dockerfile of each image and its context; builds nothing."""
    from hatch_docker.build.members import with_members
    from hatch_docker.engines.buildkit.write_dockerfile import write_dockerfile

    plans, ctx = open_plans(project, environ)
    paths = []
    with with_members(project, plans, ctx) as whole:
        for plan in plans:
            with about_image(plan.part):
                paths.append(write_dockerfile(plan, whole, directory, ctx))
    return paths


def write_plans(project: Project, directory: Path, environ: Mapping[str, str]) -> list[Path]:
    """Write everything that decides each image as JSON; builds nothing."""
    from hatch_docker.plan.model import plan_json

    paths = []
    for plan in open_plans(project, environ)[0]:
        # Logins of mirrors and of addresses of dependencies must not be in a file that is passed on.
        mirrors = redact_url(plan.base.mirror), redact_url(plan.base.security_mirror)
        own = plan.base.standalone
        own = own and replace(own, mirror=redact_url(own.mirror))
        base = replace(plan.base, mirror=mirrors[0], security_mirror=mirrors[1], standalone=own)
        sources = tuple(replace(source, where=redact_url(source.where)) for source in plan.lock.sources)
        requirements = tuple(map(redact_requirement, plan.lock.requirements))
        lock = replace(plan.lock, requirements=requirements, sources=sources)
        paths.append(directory / f"{plan.stem}.plan.json")
        write_json(paths[-1], plan_json(replace(plan, base=base, lock=lock)))
    return paths


def artifact_text(artifact: str, root: Path, receipts: Iterable[Receipt], *, quiet: bool) -> str:
    """Return what standard output shows of an artifact: its path, with `quiet` a pushed image's names by digest."""
    for receipt in receipts:
        if quiet and receipt.pushed and Path(artifact).name == receipt.archive:
            return "\n".join(receipt.pushed)
    return shown_path(artifact, root)


def make_images(
    project: Project, plans: Sequence[Plan], directory: Path, ctx: Context, made: Made, notes: Notes | None = None
) -> list[Path]:
    """Make the images of some plans, with everything that follows from each in `directory`.

    Returns their archives, of those without one the receipts. `notes` gets what was made, and the build is remembered.
    """
    from hatch_docker.build.members import with_members
    from hatch_docker.build.pipeline import output_paths, run
    from hatch_docker.core.cache.prune import prune_now_and_then

    for plan in plans:
        with about_image(plan.part), with_members(project, [plan], ctx) as whole:
            made[plan.part] = run(plan, whole, _engine(plan), directory, ctx, notes)
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
    """Return the image of an archive and its names, made again by the project's image lock.

    Writes no file and runs no check.

    Raises ConfigError for a project without an image lock.
    """
    from hatch_docker.build.existing import matching_plan
    from hatch_docker.build.members import with_members
    from hatch_docker.build.pipeline import image_or_index
    from hatch_docker.core.image_lock import NAME, RELOCK

    plans, ctx = open_plans(project, environ, all_images=True)
    plan = matching_plan(str(archive), plans)
    if ctx.image_lock is None:
        raise ConfigError(f"there is no {NAME} to rebuild from: {RELOCK}, and build by it")
    with with_members(project, [plan], ctx) as whole:
        return image_or_index(_engine(plan)(plan, whole, ctx)), plan.references


def rebase_image(project: Project, image: str, directory: Path, environ: Mapping[str, str]) -> Receipt:
    """Put an image that exists, an archive or one in a registry, on the base that a build would take now.

    The image lock names that base where there is one, else the registry or the mirror is asked. The same follows as
    after a build; an image of a registry is pushed back there.
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
    none = ({"type": "none"},)  # the shared cache is that of the build, and knows more
    plan = replace(existing.plan(matching_plan(image, plans)), cache=CachePlan(none, none))
    return run(plan, project, engine, directory, ctx)


def archives_of(project: Project, environ: Mapping[str, str]) -> list[Path]:
    """Return the paths of the archives of a project's images in its default output directory."""
    from hatch_docker.build.pipeline import output_paths

    plans, _ctx = open_plans(project, environ, use_lock=False)
    return [output_paths(plan, project.output())[0] for plan in plans]
