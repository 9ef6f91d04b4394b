"""What every step is handed: the store, the user's eyes, the network, the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hatch_docker.progress import Progress
from hatch_docker.store import Store
from hatch_docker.transport import Client


@dataclass(frozen=True, slots=True)
class Context:
    """The hands of a build. `environ` is the process's environment, read nowhere else."""

    store: Store
    progress: Progress
    client: Client
    environ: Mapping[str, str]
