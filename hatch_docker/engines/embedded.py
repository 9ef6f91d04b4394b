"""The embedded engine: base, one layer a large wheel, the small wheels together, the project, its files.

No daemon and no registry account. Every layer has a key made of contents; only a layer whose key is new is
made, and nothing is fetched, compiled or compressed for the others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.bases import Base, check_python, open_base
from hatch_docker.context import Context
from hatch_docker.engines import Built, LayerNote
from hatch_docker.engines.layers import Made, Recipe, files_layer, wheels_layer
from hatch_docker.engines.settings import image_annotations, image_settings
from hatch_docker.errors import BaseImageError, WheelError
from hatch_docker.oci.layer import Compression
from hatch_docker.oci.model import History, Platform
from hatch_docker.oci.mutate import build_image
from hatch_docker.plan import Plan
from hatch_docker.project import Source
from hatch_docker.store import file_digest
from hatch_docker.wheels import Pin, Target
from hatch_docker.wheels.lock import pin

OWN_LAYER = 1_000_000  # bytes from which a wheel has a layer to itself
WORKERS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A wheel that goes into the image: pinned by a lock or a resolution, or built here (`path`)."""

    title: str                                # "numpy 2.4.0"
    digest: str
    size: int
    pin: Pin | None = None
    path: Path | None = None


def build(plan: Plan, source: Source, ctx: Context) -> tuple[Built, ...]:
    """Make one image a platform of the plan; raises a HatchDockerError that says what the user can do."""
    compression = Compression(plan.compression)
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary:
        workshop = _Workshop(plan, source, ctx, compression, Path(temporary))
        return tuple(workshop.image(Platform.parse(platform)) for platform in plan.platforms)


