"""The context and the metadata that the plans of a project are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.model import DIST

if TYPE_CHECKING:
    from hatch_docker.config.options import Config
    from hatch_docker.core.context import Context
    from hatch_docker.core.image_lock import ImageLock
    from hatch_docker.project.metadata import Metadata
    from hatch_docker.project.model import Project


def open_context_of(
    project: Project, configs: Mapping[str, Config], environ: Mapping[str, str], *, tell: bool, pinned: bool,
    pins: ImageLock | None = None,
) -> tuple[Metadata, Context]:
    """Return the metadata of a project and the context of its builds; raises ConfigError.

    `configs` are those of its images. With `tell` warnings about the project are shown, else they are details. The
    context has `pins`, or with `pinned` those of the image lock that the configurations name.
    """
    from hatch_docker.core.context import open_context
    from hatch_docker.core.terminal import open_progress

    assert project.app is not None
    progress = open_progress(project.app.display_warning, project.app.verbosity, environ)
    ctx = open_context(environ, progress)
    outputs = [path for path in (DIST, *(config.dotenv for config in configs.values())) if path]
    metadata = project.metadata(environ, outputs, progress.warn if tell else progress.detail)
    if pins is None and pinned:
        names = {metadata.pins if config.pins == "auto" else config.pins for config in configs.values()}
        if len(names) > 1:
            raise ConfigError("tool.hatch-docker.images: `pins` must be the same for every image")
        (name,) = names
        if name not in ("", "none"):
            from hatch_docker.core.image_lock import read_image_lock

            pins = read_image_lock(metadata.root / name, name, ctx.store)
    return metadata, replace(ctx, image_lock=pins) if pins else ctx
