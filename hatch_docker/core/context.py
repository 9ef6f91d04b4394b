"""The build context that is passed to every step: cache, progress, HTTP client, environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hatch_docker.core.cache.store import NO_CACHE, Store, cache_root, open_store
from hatch_docker.core.files import remove_abandoned
from hatch_docker.core.progress import Progress
from hatch_docker.core.secrets import Secrets

if TYPE_CHECKING:
    from hatch_docker.core.http.client import Client
    from hatch_docker.core.image_lock import ImageLock

REFRESH = "HATCH_DOCKER_REFRESH"
IMAGES_VARIABLE = "HATCH_DOCKER_IMAGES"
VARIABLES: Mapping[str, str] = {
    IMAGES_VARIABLE: "The images to build, by name, separated by commas. `default` is the image of the table itself.",
    "HATCH_DOCKER_CACHE_DIR": "The directory of the cache, instead of the user's cache directory.",
    REFRESH: "`1` requests indexes, mirrors and registries again, instead of using their answers of the last 24 hours.",
    NO_CACHE: "`1` uses no results of earlier builds: no layer, no wheel, no download.",
    "HATCH_DOCKER_OFFLINE": "`1` forbids network access. A build fails if the cache lacks something that it needs.",
    "HATCH_DOCKER_CA_BUNDLE": "A PEM file with the certificates to trust, instead of those of the system.",
    "HATCH_DOCKER_INSECURE_REGISTRIES": "Registries that are used with plain HTTP: `host:port`, separated by commas.",
    "HATCH_DOCKER_BUILDER_STAGE": "hatch-docker sets it in the builder stage, where the build hook makes no image.",
}
"""Variables for this machine or this run, with their descriptions. All other HATCH_DOCKER_* variables are options."""


@dataclass(frozen=True, slots=True)
class Context:
    """The state of one build, passed to every step. No module has other global state or reads `os.environ`.

    `connect`: returns the HTTP client; an unchanged build does not call it. `image_lock`: the project's image lock,
    or None. `lazy`: a layer with a known digest counts as present even if its blob is missing here (a registry may
    have it); opening it raises DamagedBlobError. `secrets`: values that must not be in any output. `materials`: digests
    of the build dependencies, by ("deb", "gcc 4:14.2.0-1 amd64", suite), ("pypi", name, version, filename) or ("base",
    name). `response_times`: by kind and key in the store, the time (seconds since the epoch) of each remembered server
    response that the build used; a response is valid for a day. `local_wheels`: their paths. `sandbox`: runs a command
    in another file tree (`bases.bytecode.Sandbox`); None if no command may run. `layer_readers`: called with the
    context and each layer of a new base; each returns None, or an `oci.layer.LayerReader`, which reads the layer while
    it is unpacked.
    """

    store: Store
    progress: Progress
    connect: Callable[[], Client]
    environ: Mapping[str, str]
    image_lock: ImageLock | None = None
    lazy: bool = False
    secrets: Secrets = field(default_factory=Secrets)
    materials: dict[tuple[str, ...], str] = field(default_factory=dict)
    response_times: dict[tuple[str, str], float] = field(default_factory=dict)
    local_wheels: set[str] = field(default_factory=set)
    sandbox: Callable[..., None] | None = None
    layer_readers: tuple[Callable[..., object], ...] = ()

    @property
    def client(self) -> Client:
        """The HTTP client of this build, created at the first use."""
        return self.connect()

    def note_response_time(self, kind: str, key: str, time: float) -> None:
        """Note that the build used a remembered server response of this `time` (seconds since the epoch)."""
        self.response_times[kind, self.store.stored_key(kind, key)] = time

    @property
    def refresh(self) -> bool:
        """True if HATCH_DOCKER_REFRESH is set: no remembered response of registries, mirrors and indexes is used."""
        return self.environ.get(REFRESH, "") not in ("", "0")

    @property
    def no_cache(self) -> bool:
        """True if HATCH_DOCKER_NO_CACHE is set: the cache is empty, and builders reuse no stage of earlier builds."""
        return self.environ.get(NO_CACHE, "") not in ("", "0")

    @property
    def is_ci_runner(self) -> bool:
        """True on a CI runner, whose disk is probably discarded after the build."""
        return self.environ.get("CI", "").lower() not in ("", "0", "false")


def open_context(environ: Mapping[str, str], progress: Progress) -> Context:
    """Return the context of one build, with the cache that `environ` configures. Raises StoreError.

    Unfinished files of killed builds are removed from the cache and from the directory for temporary files.
    """
    store = open_store(cache_root(environ))
    remove_abandoned()

    def connect() -> Client:
        from hatch_docker.core.http.client import Client

        return Client(environ, progress)

    return Context(store, progress, functools.cache(connect), environ)
