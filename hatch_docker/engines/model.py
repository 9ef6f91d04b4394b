"""Values that engines share: the image that was built, what its layers hold, and the engine as a function."""

from collections.abc import Callable
from dataclasses import dataclass

from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context
from hatch_docker.core.validation import FileName, Line
from hatch_docker.oci.model import Image
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.target import Pin, Target

OURS = "hatch-docker "
"""The start of the history (config.md) of a layer that hatch-docker makes, before its kind."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one image: its plan and project, its base, and the target that wheels must fit."""

    plan: Plan
    project: Project
    base: Base
    target: Target
    ctx: Context


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A layer in the receipt; `kind` is base, system, dependencies, project, files or step."""

    kind: str
    contents: tuple[str, ...]                 # "numpy 2.4.0", "libc6 2.41-12"
    cached: bool                              # nothing had to be made


@dataclass(frozen=True, slots=True)
class WheelInfo:
    """The project's wheel that is in the image; `sha256` is hexadecimal, of the file."""

    filename: FileName
    sha256: Line


@dataclass(frozen=True, slots=True)
class Excluded:
    """Files of wheels that the image does not have: their kind (`wheels.install.slim`), number, and bytes."""

    kind: Line
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image, one note a layer, its base, and the project's wheel in it where that is known.

    `pins` are the files that its dependencies were installed from, or built of; `origin` is the digest of the image
    that all but the base was taken from, "" where it was made of the project. `members` are the wheels of the workspace
    that it depends on.
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
"""Function that makes one image a platform of the plan, in the plan's order."""
