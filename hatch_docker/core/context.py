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
    IMAGES_VARIABLE: "The images to make, by their names between commas, `default` for that of the table itself.",
    "HATCH_DOCKER_CACHE_DIR": "The directory of the cache, instead of the user's cache directory.",
    REFRESH: "`1` asks index, mirror and registry again instead of remembering their answers for a day.",
    NO_CACHE: "`1` uses nothing of earlier builds: no layer, no wheel, no download.",
    "HATCH_DOCKER_OFFLINE": "`1` uses the cache alone and fails where it does not suffice.",
    "HATCH_DOCKER_CA_BUNDLE": "A file of certificates to trust instead of the system's.",
    "HATCH_DOCKER_INSECURE_REGISTRIES": "Registries to speak plain HTTP to, `host:port`, between commas.",
    "HATCH_DOCKER_BUILDER_STAGE": "Set in the builder stage, where no image is made again.",
}
"""The variables that are about this machine or this run, each with its description; all others are options."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a build step may use; no module keeps such state of its own. No module reads the process's
    environment.

    `connect` returns the one HTTP client; an unchanged build never calls it. `image_lock` holds the answers for which
    registries, mirrors and indexes are not asked again, None if the project has none. With `lazy` a layer whose digest
    is known counts as present: a registry may have it, and opening it raises DamagedBlobError. `secrets` must not be in
    anything that is made. `used` holds the SHA-256 of what wheels were built with: by ("deb", "gcc 4:14.2.0-1 amd64",
    suite) and ("pypi", name, version, filename). `asked` holds when each answer that is used for a day was given, in
    seconds since the epoch, by its kind and key in the store, `local` the paths of wheels on this machine. `sandbox`
    runs a command in another file tree (`bases.bytecode.Sandbox`), None where nothing may run. `readers` read the
    layers of a new base while they are unpacked: functions of a context and a layer that return an
    `oci.layer.LayerReader`, or None.
    """

    store: Store
    progress: Progress
    connect: Callable[[], Client]
    environ: Mapping[str, str]
    image_lock: ImageLock | None = None
    lazy: bool = False
    secrets: Secrets = field(default_factory=Secrets)
    used: dict[tuple[str, ...], str] = field(default_factory=dict)
    asked: dict[tuple[str, str], float] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)
    sandbox: Callable[..., None] | None = None
    readers: tuple[Callable[..., object], ...] = ()

    @property
    def client(self) -> Client:
        """The HTTP client, with the retries, redirects and CAs of this build."""
        return self.connect()

    def note_asked(self, kind: str, key: str, time: float) -> None:
        """Note that the build used an answer, which is kept for a day, and when it was given."""
        self.asked[kind, self.store.kept_under(kind, key)] = time

    @property
    def refresh(self) -> bool:
        """True if registries, mirrors and indexes are asked again, however recent their remembered answers are."""
        return self.environ.get(REFRESH, "") not in ("", "0")

    @property
    def no_cache(self) -> bool:
        """True if a builder uses no stage of earlier builds; the cache is empty then."""
        return self.environ.get(NO_CACHE, "") not in ("", "0")

    @property
    def runner(self) -> bool:
        """True on a runner of a pipeline, which most likely is gone after the build."""
        return self.environ.get("CI", "").lower() not in ("", "0", "false")


def open_context(environ: Mapping[str, str], progress: Progress) -> Context:
    """Return the context of one build, on the cache that the environment names. Raises StoreError.

    What killed builds left is removed, there and in the directory for temporary files.
    """
    store = open_store(cache_root(environ))
    remove_abandoned()

    def connect() -> Client:
        from hatch_docker.core.http.client import Client

        return Client(environ, progress)

    return Context(store, progress, functools.cache(connect), environ)
