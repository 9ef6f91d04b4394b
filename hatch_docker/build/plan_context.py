"""The inputs of a project's plans: context, options and metadata; and the selection of its images."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hatch_docker.config import DEFAULT
from hatch_docker.core.context import IMAGES_VARIABLE, Context, open_context
from hatch_docker.core.errors import ConfigError, HatchDockerError
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.model import DIST, Project

if TYPE_CHECKING:
    from hatch_docker.config.options import Config
    from hatch_docker.core.image_lock import ImageLock


@contextlib.contextmanager
def naming_image_in_errors(name: str) -> Iterator[None]:
    """Prefix errors of the block with the name of the image; no prefix if it is "", the image of the main table."""
    try:
        yield
    except HatchDockerError as error:
        if name:
            error.args = (f"image {name!r}: {error}",)
        raise


def selected_images(names: Collection[str], environ: Mapping[str, str]) -> list[str]:
    """Return the images to build: those in HATCH_DOCKER_IMAGES, or all `names` if it is not set.

    Raises ConfigError for an unknown name.
    """
    chosen = [name.strip() for name in environ.get(IMAGES_VARIABLE, "").split(",") if name.strip()]
    for name in chosen:
        if ("" if name == DEFAULT else name) not in names:
            known = ", ".join([DEFAULT, *sorted(filter(None, names))])
            raise ConfigError(f"{IMAGES_VARIABLE}: there is no image {name!r}; there are: {known}")
    return [name for name in names if not chosen or (name or DEFAULT) in chosen]


def configs_and_context(project: Project, environ: Mapping[str, str]) -> tuple[dict[str, Config], Context]:
    """Return the options of a project's images, by image name, and the context of its builds. Raises ConfigError."""
    from hatch_docker.build.configs import read_configs
    from hatch_docker.core.terminal import open_progress

    assert project.app is not None
    progress = open_progress(project.app.display_warning, project.app.verbosity, environ)
    ctx = replace(open_context(environ, progress), sandbox=_run_at)
    return read_configs(project.table, environ, project.root / project.file, ctx.store), ctx


def _run_at(*arguments: Any, **options: Any) -> None:
    """Run a command in the sandbox. The sandbox is imported here, because an unchanged build does not need it."""
    from hatch_docker.wheels.builder.sandbox import run_at

    run_at(*arguments, **options)


def metadata_of(
    project: Project, configs: Mapping[str, Config], ctx: Context, *, warn: bool, use_lock: bool,
    pins: ImageLock | None = None,
) -> tuple[Metadata, Context]:
    """Return the metadata of a project, and the context with its image lock. Raises ConfigError.

    `configs`: the options of the images to build. `warn`: show warnings about the project, otherwise log them as
    details. `pins`: the image lock to use. `use_lock`: without `pins`, read the image lock that the options name.
    """
    outputs = [path for path in (DIST, *(config.dotenv for config in configs.values())) if path]
    metadata = project.metadata(ctx.environ, outputs, ctx.progress.warn if warn else ctx.progress.detail)
    if pins is None and use_lock:
        names = {metadata.pins if config.pins == "auto" else config.pins for config in configs.values()}
        if len(names) > 1:
            raise ConfigError("tool.hatch-docker.images: `pins` must be the same for every image")
        (name,) = names
        if name not in ("", "none"):
            from hatch_docker.core.image_lock import read_image_lock

            pins = read_image_lock(metadata.root / name, name, ctx.store)
    return metadata, replace(ctx, image_lock=pins) if pins else ctx
