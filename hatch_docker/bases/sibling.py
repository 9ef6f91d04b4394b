"""The same base for this machine's architecture: its interpreter compiles for the one that does not run here."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from hatch_docker.bases import Base, open_base
from hatch_docker.errors import BaseImageError, ImageError, RegistryError
from hatch_docker.oci.model import Platform, host_platform

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.oci.layer import Compression


def runnable_platform() -> Platform | None:
    """What Linux programs this machine runs without emulation; None where it is no Linux."""
    return host_platform() if sys.platform == "linux" else None


def compiler_base(base: Base, ctx: Context, compression: Compression) -> Base | None:
    """A base whose interpreter runs here and compiles for `base`; None, with a warning, where there is none."""
    host = runnable_platform()
    if host is not None and base.platform.architecture == host.architecture:
        return base
    try:
        if host is None:
            raise BaseImageError("programs of a Linux image do not run on this machine")
        return sibling_base(base, host, ctx, compression)
    except (BaseImageError, ImageError, RegistryError) as error:
        ctx.progress.warn(f"no .pyc for {base.platform}, so the image will start more slowly: {error}")
        return None


def sibling_base(base: Base, platform: Platform, ctx: Context, compression: Compression) -> Base:
    """The same base for another platform; raises BaseImageError where it has another Python there."""
    plan = replace(base.plan, packages=())  # what its Python compiles with, no more
    if plan.kind == "registry" and base.source:
        plan = replace(plan, location=base.source)
    sibling = open_base(plan, platform, ctx, compression=compression)
    if sibling.interpreter.short != base.interpreter.short:
        raise BaseImageError(f"{base.name} for {platform} has Python {sibling.interpreter.version}")
    return sibling
