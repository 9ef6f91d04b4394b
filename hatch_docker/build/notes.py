"""Notes: the data of a running build for the record that `build/inputs.py` writes. Importing this module is quick."""

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
    """Data of a running build.

    `images` and `lines`: the images with their receipts, and the lines of output, as an unchanged build has them.
    `results`: for each image the path of the archive, the path of the receipt, the receipt and the references.
    `outputs`: the paths of all written files. `names`: image IDs in the daemon by name. `tags`: digests of bases by
    name. `pushes`: for each repository its name, the pushed digests by tag or digest, and the digests of the attached
    documents by the digest of their subject.
    """

    command: Command
    revision: Revision | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    results: list[tuple[Path, Path, Receipt, tuple[str, ...]]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pushes: list[Any] = field(default_factory=list)
