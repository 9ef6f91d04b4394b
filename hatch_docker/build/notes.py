"""Notes of a build, which `build/inputs.py` remembers when it ends. An import of this module is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.build.unchanged import Command
from hatch_docker.project.git import Revision

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt


@dataclass(slots=True)
class Notes:
    """Notes of a build of a command: the commit, and of each image what was made and shown.

    `made` has of each image the paths of archive and receipt, the receipt and the names, `names` its IDs in the daemon
    by name, `tags` the digests of bases by name. `pushes` has of each repository its name, the digests of what was
    pushed there by tag or digest, and by the digests of subjects those of the documents that are listed for them.
    """

    command: Command
    revision: Revision | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    made: list[tuple[Path, Path, Receipt, tuple[str, ...]]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pushes: list[Any] = field(default_factory=list)
