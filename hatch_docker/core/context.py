"""What every step is handed: the store, the user's eyes, the network, the environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.core.cache.store import Store, default_root, open_store
from hatch_docker.core.files import remove_abandoned
from hatch_docker.core.progress import Progress
from hatch_docker.core.secrets import Secrets

if TYPE_CHECKING:
    from hatch_docker.core.http.client import Client
    from hatch_docker.core.lockfile import ImageLock


CACHE_DIR = "HATCH_DOCKER_CACHE_DIR"
REFRESH = "HATCH_DOCKER_REFRESH"


@dataclass(frozen=True, slots=True)
class Context:
    """The hands of a build. `environ` is the process's environment, read nowhere else.

    `connect` gives the one HTTP client; an unchanged build never asks for it. `image_lock` has what registries, mirrors
    and indexes are not asked again, None where the project has none. `lazy` takes a layer whose digest is known
    for one that is there: a registry may have it, and who opens it gets a DamagedBlobError. `secrets` are what must not
    be in anything that is made. `used` has the SHA-256 of what wheels were made with on the way: of ("deb",
    "gcc 4:14.2.0-1 amd64", suite) and ("pypi", name, version, filename).
    """

    store: Store
    progress: Progress
    connect: Callable[[], Client]
    environ: Mapping[str, str]
    image_lock: ImageLock | None = None
    lazy: bool = False
    secrets: Secrets = field(default_factory=Secrets)
    used: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        """The HTTP client, with the retries, redirects and CAs of this build."""
        return self.connect()

    @property
    def refresh(self) -> bool:
        """Whether registries, mirrors and indexes are asked, however young their answers of before are."""
        return self.environ.get(REFRESH, "") not in ("", "0")


def cache_root(environ: Mapping[str, str]) -> Path:
    """The directory of the cache: $HATCH_DOCKER_CACHE_DIR, else in the user's cache directory."""
    return Path(environ.get(CACHE_DIR) or default_root())


def open_context(environ: Mapping[str, str], progress: Progress) -> Context:
    """The context of one build, on the cache that the environment names. Raises StoreError where it cannot be used.

    What killed builds left is removed, there and where temporary directories are.
    """
    store = open_store(cache_root(environ))
    remove_abandoned()

    def connect() -> Client:
        from hatch_docker.core.http.client import make_client

        return make_client(environ, progress)

    return Context(store, progress, functools.cache(connect), environ)
