"""A base in an OCI layout, a directory or an archive: `oci:PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.image import base_of, check_pinned
from hatch_docker.bases.model import Base
from hatch_docker.core.errors import BaseImageError, ImageError
from hatch_docker.oci.model import Index, Platform

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.plan.model import BasePlan


def read_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """Return the base for a platform in the layout at `plan.location`; nothing is copied.

    Raises BaseImageError if there is no layout, or no image for the platform.
    """
    from hatch_docker.oci.archive import read_archive
    from hatch_docker.oci.layout import read_layout
    from hatch_docker.oci.manifest import check_platform

    path = Path(plan.location).expanduser()
    if not path.exists():
        raise BaseImageError(f"base {plan.name}: {path.absolute()} does not exist; give the path of an OCI layout")
    try:
        image = read_layout(path, platform) if path.is_dir() else read_archive(path, platform)
        assert not isinstance(image, Index)  # a platform was asked for
        check_platform(image, platform, str(path))
    except ImageError as error:
        raise BaseImageError(f"base {plan.name}: {error}") from error
    check_pinned(image, plan, platform, ctx)
    return base_of(plan, image, ctx)
