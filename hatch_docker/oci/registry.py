"""A registry as one build sees it: its URLs, its tokens, and what to say when it refuses.

Implements the authentication and the end-points' addresses of the distribution-spec 1.1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hatch_docker.core.http import urls
from hatch_docker.core.http.client import SMALL, Client
from hatch_docker.core.http.responses import Response, StatusError, explain
from hatch_docker.core.http.retry import Retryable
from hatch_docker.oci.auth import Credential, authorize, credential_for
from hatch_docker.oci.model import INDEX_TYPES, MANIFEST_TYPES
from hatch_docker.oci.reference import DOCKER_HUB, Reference

INSECURE = "HATCH_DOCKER_INSECURE_REGISTRIES"
ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))  # what is asked for where a manifest or an index may be
_HUB_API = "registry-1.docker.io"


class Writer(Protocol):
    """Bytes on their way into a cache; `commit` gives them their digest as a name."""

    @property
    def digest(self) -> str: ...
    def write(self, data: bytes) -> int: ...
    def commit(self) -> str: ...


class BlobCache(Protocol):
    """Where downloaded bytes are kept; the store is one."""

    def get(self, digest: str) -> Path | None: ...
    def writer(self) -> AbstractContextManager[Writer]: ...
    def lock(self, name: str) -> AbstractContextManager[None]: ...


@dataclass(slots=True)
class _Known:
    """What was learned from registries on the way: how each wants to be addressed."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    headers: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    credentials: dict[str, Credential | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remote:
    """Registries as one build sees them: the network, the user's credentials, the tokens so far."""

    client: Client
    environ: Mapping[str, str]
    known: _Known = field(default_factory=_Known, repr=False, compare=False)

    def url(self, reference: Reference, path: str) -> str:
        """A URL of the reference's repository."""
        registry = reference.registry
        host = _HUB_API if registry == DOCKER_HUB else registry
        listed = {item.strip() for item in self.environ.get(INSECURE, "").split(",")}
        plain = registry in listed or urls.is_loopback(urls.split(f"http://{host}").hostname or "")
        return f"{'http' if plain else 'https'}://{host}/v2/{reference.repository}/{path}"

    def send(
        self, reference: Reference, method: str, url: str, scopes: tuple[str, ...], *,
        headers: Mapping[str, str] | None = None, limit: int = SMALL, replay: bool = True, **body: Any,
    ) -> Response:
        """One attempt of a request, authorized where `url` is the registry's own origin.

        A 401 is answered once with a fresh token; with `replay` off the caller's whole attempt is tried again
        instead, since the body was sent into an upload session that may be spoilt.
        """
        own = urls.origin(url) == urls.origin(self.url(reference, ""))
        sent = {**(headers or {}), **(self._header(reference, scopes) if own else {})}
        response = self.client.send(method, url, headers=sent, limit=limit, **body)
        if response.status != 401 or not own or urls.origin(response.url) != urls.origin(url):
            return response
        fresh = self._renew(reference, scopes, response, sent.get("authorization"))
        if not replay:
            raise Retryable(str(refuse(reference, response)), after=0.0, tries=2, lasting=True)
        return self.client.send(method, url, headers={**sent, **fresh}, limit=limit, **body)

    def download(self, reference: Reference, url: str, write: Callable[[bytes], object], size: int) -> None:
        """One attempt to stream a blob of `size` bytes into `write`."""
        scopes = (f"repository:{reference.repository}:pull",)
        header = self._header(reference, scopes)
        try:
            self.client.download(url, write, size=size, headers=header)
        except StatusError as error:
            response = error.response
            if response.status != 401 or urls.origin(response.url) != urls.origin(url):
                raise
            fresh = self._renew(reference, scopes, response, header.get("authorization"))
            self.client.download(url, write, size=size, headers=fresh)

    def _header(self, reference: Reference, scopes: tuple[str, ...]) -> dict[str, str]:
        value = self.known.headers.get((reference.registry, scopes))
        return {"authorization": value} if value else {}

    def _renew(
        self, reference: Reference, scopes: tuple[str, ...], response: Response, used: str | None
    ) -> dict[str, str]:
        key = (reference.registry, scopes)
        with self.known.guard:
            # Another thread may have met the same refusal and renewed the token meanwhile.
            if self.known.headers.get(key) in (None, used):
                self.known.headers[key] = authorize(
                    self.client, self.url(reference, ""), response.headers.get("www-authenticate", ""),
                    self._credential(reference), scopes, _login(reference.registry),
                )
        return self._header(reference, scopes)

    def _credential(self, reference: Reference) -> Credential | None:
        credentials = self.known.credentials
        if reference.name not in credentials:
            credentials[reference.name] = credential_for(
                reference.registry, self.environ, reference.repository
            )
        return credentials[reference.name]


def _login(registry: str) -> str:
    return f"log in with `docker login {registry}` or `podman login {registry}`"


def refuse(reference: Reference, response: Response) -> StatusError:
    """The error for an answer nobody expects, with the way out where there is one."""
    text = explain(response)
    if response.status in (401, 403):
        text += f"; {_login(reference.registry)} as a user who may do this"
    elif response.status == 404:
        text += "; no such image, or it is not yours to see: check the name"
    elif response.status == 405:
        text += "; it takes no pushes, as one that only mirrors another does"
    elif response.status == 413:
        text += "; it, or a proxy before it, limits what may be sent at once (nginx: client_max_body_size)"
    elif response.status == 400 and b"HTTPS" in response.body:
        text += "; it wants https, and a registry on this machine is spoken to in http"
    return StatusError(text, response)
