"""The plans of a project's images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hatch_docker.build.plan_context import configs_and_context, metadata_of, naming_image_in_errors, selected_images
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.model import Project

if TYPE_CHECKING:
    from hatch_docker.build.notes import Notes
    from hatch_docker.core.image_lock import ImageLock
    from hatch_docker.plan.model import Plan


def open_plans(
    project: Project, environ: Mapping[str, str], *, pins: ImageLock | None = None, use_lock: bool = True,
    push: bool = False, all_images: bool = False, notes: Notes | None = None,
) -> tuple[tuple[Plan, ...], Context]:
    """Return the plans of a project's images and the context of their build. Raises ConfigError.

    `pins`: the image lock to use. `use_lock`: without `pins`, read the project's image lock. `push`: only push, write
    no archive and load nothing. `all_images`: ignore HATCH_DOCKER_IMAGES. `notes` gets the commit and printed lines.
    """
    from hatch_docker.build.configs import with_options
    from hatch_docker.oci.model import host_platform
    from hatch_docker.plan.defaults import make_plan

    configs, ctx = configs_and_context(project, environ)
    if len(configs) > 1 and not all_images:
        configs = {name: configs[name] for name in selected_images(configs, environ)}
    metadata, ctx = metadata_of(project, configs, ctx, warn=True, use_lock=use_lock, pins=pins)
    if _may_have_sources(metadata, project.tables.get("tool", {})):
        from hatch_docker.build.members import find_members

        metadata = find_members(metadata, project.tables, ctx)
    plans = []
    for name, config in configs.items():
        if project.wheels:  # they exist and are not built
            build = with_options(config.build, isolated="never", args={}, env={}, ssh=False)
            config = with_options(config, build=build)
        if push:
            config = with_options(config, push=True, load="never", archive=False)
        with naming_image_in_errors(name):
            plan = make_plan(metadata, config, host_platform(), name)
        plans.append(plan)
        title = f"{name}: " if name else ""
        for guess in plan.guesses:
            ctx.progress.detail(f"{title}{guess.option} = {guess.value} ({guess.reason})")
        lines = [f"{title}{note}" for note in plan.notes]
        for line in lines:
            ctx.progress.info(line)
        if notes is not None:
            notes.revision, notes.lines = metadata.revision, [*notes.lines, *lines]
    if len(plans) > 1:
        _check_names(plans)
    return tuple(plans), ctx


def _may_have_sources(metadata: Metadata, tool: Mapping[str, Any]) -> bool:
    """Return whether the project may have dependency sources or workspace members; if not, the search is skipped."""
    if not (metadata.dependencies or metadata.extras or metadata.groups):
        return False
    hatch = (metadata.root / "hatch.toml").is_file()
    tables = (tool.get(name, {}) for name in ("uv", "hatch"))
    if hatch or "poetry" in tool or any({"sources", "workspace", "envs"} & set(table) for table in tables):
        return True
    for place in metadata.root.parents:
        if any((place / name).is_file() for name in ("pyproject.toml", "hatch.toml")):
            return True
        if (place / ".git").exists():
            break
    return False


def _check_names(plans: Sequence[Plan]) -> None:
    """Raise ConfigError if two images of a project would have the same name."""
    images_by_name: dict[str, str] = {}
    parts = [plan.part for plan in plans]
    if twice := next((part for part in parts if parts.count(part) > 1), ""):
        raise ConfigError(
            f"tool.hatch-docker.debug: there would be two images called {twice!r}; build one: HATCH_DOCKER_IMAGES=..."
        )
    for plan in plans:
        pushed = (f"{repository}:{tag}" for repository in plan.repositories for tag in plan.tags)
        for name in (*plan.references, *pushed):
            if images_by_name.setdefault(name, plan.part) != plan.part:
                raise ConfigError(
                    f"tool.hatch-docker.images.{plan.part}: {name} is another image's name too; set `image`, "
                    "`registries` or `tags`"
                )
