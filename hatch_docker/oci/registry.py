"""Access to registries: URLs, authorized requests, and errors for unexpected responses.

Implements authentication and endpoints of the distribution-spec 1.1.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatch_docker.core.http import urls
from hatch_docker.core.http.client import BODY_LIMIT, Client, is_offline
from hatch_docker.core.http.responses import Response, StatusError, explain
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.http.tls_probe import has_tls
from hatch_docker.oci.auth import Credential, authorize, credential_for
from hatch_docker.oci.manifest import DOCUMENT_LIMIT
from hatch_docker.oci.media_types import INDEX_TYPES, MANIFEST_TYPES
from hatch_docker.oci.reference import DOCKER_HUB, Reference

INSECURE = "HATCH_DOCKER_INSECURE_REGISTRIES"
ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))  # `Accept` header of requests for a manifest or an index
HTTPS_PORT = 443
_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, eq=False)
class Remote:
    """Access to registries for one build: the HTTP client, the user's credentials and the obtained tokens.

    `credentials`: by name of the repository. `headers`: `Authorization` by registry and scopes. `schemes`: http or
    https by host, for registries on loopback. `sessions`: URL of an open upload session by name of the repository.
    """

    client: Client
    environ: Mapping[str, str]
    credentials: dict[str, Credential | None] = field(default_factory=dict, repr=False)
    headers: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict, repr=False)
    schemes: dict[str, str] = field(default_factory=dict, repr=False)
    sessions: dict[str, str] = field(default_factory=dict, repr=False)
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def url(self, reference: Reference, path: str) -> str:
        """Return the URL of a path below the reference's repository."""
        registry = reference.registry
        host = _HUB_API if registry == DOCKER_HUB else registry
        return f"{self._scheme(registry, host)}://{host}/v2/{reference.repository}/{path}"

    def _scheme(self, registry: str, host: str) -> str:
        """Return "https", or "http" for a registry in INSECURE or a registry on loopback without TLS."""
        if registry in {item.strip() for item in self.environ.get(INSECURE, "").split(",")}:
            return "http"
        parts = urls.split(f"http://{host}")
        if not urls.is_loopback(parts.hostname or ""):
            return "https"
        if host not in self.schemes:
            uses_tls = None if is_offline(self.environ) else has_tls(parts.hostname or "", parts.port or HTTPS_PORT)
            if uses_tls is None:
                return "http"
            self.schemes[host] = "https" if uses_tls else "http"
        return self.schemes[host]

    def send(
        self, reference: Reference, method: str, url: str, scopes: tuple[str, ...], *,
        headers: Mapping[str, str] | None = None, limit: int = BODY_LIMIT, replay: bool = True, **body: Any,
    ) -> Response:
        """Make one attempt of a request, with `Authorization` if `url` has the registry's origin.

        After a 401 the request is repeated once with a new token. If `replay` is False, Retryable is raised instead:
        the caller must open a new upload session, because a part of the body may have been stored in the old one.
        """
        own = urls.origin(url) == urls.origin(self.url(reference, ""))
        sent = {**(headers or {}), **(self._header(reference, scopes) if own else {})}
        response = self.client.send(method, url, headers=sent, limit=limit, **body)
        if response.status != 401 or not own or urls.origin(response.url) != urls.origin(url):
            return response
        new_headers = self._renew(reference, scopes, response, sent.get("authorization"))
        if not replay:
            raise Retryable(str(response_error(reference, response)), after=0.0, tries=2, permanent=True)
        return self.client.send(method, url, headers={**sent, **new_headers}, limit=limit, **body)

    def request_manifest(self, reference: Reference, method: str = "GET") -> Response:
        """Make one attempt to get (or with `method` HEAD, to check) the manifest or index of a reference."""
        url, scopes = self.url(reference, f"manifests/{reference.digest or reference.tag}"), (_pull_scope(reference),)
        return self.send(reference, method, url, scopes, headers={"accept": ACCEPT}, limit=DOCUMENT_LIMIT)

    def download(self, reference: Reference, url: str, write: Callable[[bytes], object], size: int) -> None:
        """Make one attempt to stream a blob of `size` bytes into `write`."""
        scopes = (_pull_scope(reference),)
        header = self._header(reference, scopes)
        try:
            self.client.download(url, write, size=size, headers=header)
        except StatusError as error:
            response = error.response
            if response.status != 401 or urls.origin(response.url) != urls.origin(url):
                raise
            new_headers = self._renew(reference, scopes, response, header.get("authorization"))
            self.client.download(url, write, size=size, headers=new_headers)

    def _header(self, reference: Reference, scopes: tuple[str, ...]) -> dict[str, str]:
        value = self.headers.get((reference.registry, scopes))
        return {"authorization": value} if value else {}

    def _renew(
        self, reference: Reference, scopes: tuple[str, ...], response: Response, used: str | None
    ) -> dict[str, str]:
        key = (reference.registry, scopes)
        with self.guard:
            # Another thread may have renewed the token already.
            if self.headers.get(key) in (None, used):
                self.headers[key] = authorize(
                    self.client, self.url(reference, ""), response.headers.get("www-authenticate", ""),
                    self._credential(reference), scopes, _login_advice(reference.registry),
                )
        return self._header(reference, scopes)

    def _credential(self, reference: Reference) -> Credential | None:
        if reference.name not in self.credentials:
            found = credential_for(reference.registry, self.environ, reference.repository)
            self.credentials[reference.name] = found
        return self.credentials[reference.name]


def _pull_scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def push_scope(reference: Reference) -> str:
    """Return the scope of the token for a push to a repository."""
    return f"{_pull_scope(reference)},push"


def session_url(reference: Reference, response: Response) -> str:
    """Return the URL of a new upload session from a response (Pushing blobs). Raises StatusError without a session."""
    location = response.headers.get("location")
    if response.status != 202 or not location:
        raise response_error(reference, response)
    return urls.follow(response.url, location)


def _login_advice(registry: str) -> str:
    return f"log in with `docker login {registry}` or `podman login {registry}`"


def response_error(reference: Reference, response: Response) -> StatusError:
    """Return the error for an unexpected response, with advice for common statuses."""
    text = explain(response)
    if response.status in (401, 403):
        text += f"; {_login_advice(reference.registry)} as a user who may do this"
    elif response.status == 404:
        text += "; no such image, or you may not see it: check the name"
    elif response.status == 405:
        text += "; it accepts no pushes, as a mirror of another registry does"
    elif response.status == 413:
        text += "; it, or a proxy in front of it, limits the size of a request (nginx: client_max_body_size)"
    elif response.status == 400 and b"HTTPS" in response.body:
        text += f"; it requires https: remove it from {INSECURE}"
    return StatusError(text, response)
