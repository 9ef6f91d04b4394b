"""What goes into the layers above the base: wheels with their .pyc, and files of the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.bases import Base, compiler_tree, real_path
from hatch_docker.context import Context
from hatch_docker.errors import ConfigError
from hatch_docker.layers import layer_by_key
from hatch_docker.oci.layer import Compression, Entry
from hatch_docker.oci.model import Layer
from hatch_docker.plan import FilePlan
from hatch_docker.store import file_digest, key_of
from hatch_docker.wheels.compile import compile_sources
from hatch_docker.wheels.install import SOURCE_DATE, VenvTarget, parent_entries, venv_entries, wheel_entries

RECIPE = 1  # raise it when the same wheel shall give other bytes


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel at hand: what the receipt calls it, its sha256 (`sha256:...`) and the file."""

    title: str
    digest: str
    path: Path


@dataclass(frozen=True, slots=True)
class Site:
    """Where wheels are installed to: a virtual environment on one base."""

    base: Base
    venv: VenvTarget
    compression: Compression
    ctx: Context

    def key(self, *parts: object) -> str:
        """A layer's key: the recipe, the Python that compiles, and `parts`."""
        interpreter = self.base.interpreter
        return key_of("wheels", RECIPE, interpreter.version, interpreter.path, *parts)


def wheels_layer(site: Site, digests: Sequence[str], wheels: Sequence[Wheel], *, venv: bool) -> tuple[Layer, bool]:
    """One layer of some wheels, by their hashes; with `venv` the virtual environment's own files too."""
    del digests
    raise NotImplementedError(wheels, venv)


def compiled(site: Site, entries: list[Entry]) -> list[Entry]:
    """The entries with a .pyc beside each source, and the directories they are in."""
    raise NotImplementedError(site, entries)
