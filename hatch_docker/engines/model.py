"""Values of all engines: the inputs of an image, the built image with notes about its layers, and the type Engine."""

from collections.abc import Callable
from dataclasses import dataclass

from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context
from hatch_docker.core.validation import FileName, Line
from hatch_docker.oci.model import Image
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.target import Pin, Target

HISTORY_PREFIX = "hatch-docker "
"""The start of `created_by` in the history (config.md) of a layer of hatch-docker; the layer's kind follows."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one image: its plan, its project, its base, and the target for which wheels are chosen."""

    plan: Plan
    project: Project
    base: Base
    target: Target
    ctx: Context


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A layer in the receipt. `kind`: base, system, dependencies, project, files or step."""

    kind: str
    contents: tuple[str, ...]                 # "numpy 2.4.0", "libc6 2.41-12"
    cached: bool                              # the layer was not made by this build


@dataclass(frozen=True, slots=True)
class WheelInfo:
    """A wheel of the project or a workspace member in the image. `sha256`: of the file, hexadecimal."""

    filename: FileName
    sha256: Line


@dataclass(frozen=True, slots=True)
class Excluded:
    """Files that were left out of wheels: their kind (`wheels.install.slim`), their number and their size in bytes."""

    kind: Line
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A built image, with a note for each layer.

    `wheel`: the project's wheel in it, None if it is not known. `pins`: the wheels and sdists of its dependencies.
    `origin`: for a rebased image, the digest of the image whose layers were kept, else "". `members`: the wheels of
    workspace members.
    """

    image: Image
    base: Base
    notes: tuple[LayerInfo, ...]
    wheel: WheelInfo | None = None
    pins: tuple[Pin, ...] = ()
    origin: str = ""
    members: tuple[WheelInfo, ...] = ()
    left_out: tuple[Excluded, ...] = ()

    @property
    def own_wheels(self) -> tuple[WheelInfo, ...]:
        """The wheels of the workspace members and of the project, the project's last."""
        return (*self.members, *([self.wheel] if self.wheel else []))


Engine = Callable[[Plan, Project, Context], tuple[BuiltImage, ...]]
"""Function that builds one image for each platform of the plan, in the plan's order."""
