"""What every step is handed: the store, the user's eyes, the network, the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.progress import Progress
from hatch_docker.store import Store, default_root, open_store
from hatch_docker.transport import Client, make_client


@dataclass(frozen=True, slots=True)
class Context:
    """The hands of a build. `environ` is the process's environment, read nowhere else."""

    store: Store
    progress: Progress
    client: Client
    environ: Mapping[str, str]


def open_context(environ: Mapping[str, str], progress: Progress) -> Context:
    """The context of one build; the cache is $HATCH_DOCKER_CACHE_DIR or the user's cache directory."""
    directory = environ.get("HATCH_DOCKER_CACHE_DIR")
    store = open_store(Path(directory) if directory else default_root())
    return Context(store, progress, make_client(environ, progress), environ)
