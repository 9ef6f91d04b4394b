"""A proxy before a real registry, which injects the faults of the fake registry.

    with docker_registry(directory) as server, FaultProxy(server.host) as proxy:
        proxy.fault("PUT", "/blobs/uploads/", "lost")
        ...

Other requests are forwarded unchanged, including `Host`, so that the registry's links lead to the proxy. With
`password` the proxy requires tokens, and issues them.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from typing import Any

from tests.fakes.registry import FakeRegistry, Handler

_PER_CONNECTION = {"connection", "date", "keep-alive", "server", "transfer-encoding"}  # headers that are not forwarded


# The seven requests of a push and a pull: method and a part of the path. A blob may be sent by PATCH or by PUT.
STEPS = {
    "HEAD blob": ("HEAD", "/blobs/sha256:"),
    "POST": ("POST", "/blobs/uploads/"),
    "PUT blob": ("PATCH|PUT", "/blobs/uploads/"),
    "PUT manifest": ("PUT", "/manifests/"),
    "GET manifest": ("GET", "/manifests/"),
    "GET blob": ("GET", "/blobs/sha256:"),
    "token": ("GET", "/token"),
}
# The sixteen single faults of a connection.
SINGLE = [
    *((step, "reset") for step in ("POST", "PUT blob", "PUT manifest", "GET manifest", "GET blob")),
    *((step, "close") for step in ("POST", "PUT blob", "PUT manifest", "GET manifest", "GET blob")),
    *((step, "midway") for step in ("PUT blob", "PUT manifest")),
    *((step, "cut") for step in ("GET manifest", "GET blob")),
    *((step, "lost") for step in ("PUT blob", "PUT manifest")),
]
# Sixteen single bad responses: statuses of overloaded registries and proxies, and wrong bytes.
ANSWERS: list[tuple[str, int | str]] = [
    *((step, 503) for step in ("POST", "PUT blob", "PUT manifest", "GET manifest", "GET blob")),
    *((step, 429) for step in ("POST", "PUT blob", "PUT manifest", "GET manifest", "GET blob")),
    ("PUT blob", 404), ("PUT manifest", 500),
    ("GET manifest", "flip"), *(("GET blob", how) for how in ("flip", "short", "long")),
]  # fmt: skip


class _Forwarding(Handler):
    registry: FaultProxy

    def route(self) -> None:
        name = self.path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
        if self.path.startswith("/token"):
            super().route()
        elif self.allowed(name.partition("/referrers/")[0]):
            self.forward()

    def forward(self) -> None:
        """Forward the request, and send back the response."""
        connection = http.client.HTTPConnection(self.registry.upstream, timeout=60)
        try:
            headers = {**self.forwarded(), "content-length": str(len(self.body))}
            connection.request(self.command, self.path, self.body, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        kept = {name: value for name, value in found.items() if name not in _PER_CONNECTION}
        if self.command != "HEAD":
            kept.pop("content-length", None)
        self.reply(answer.status, body, kept)

    def forwarded(self) -> dict[str, str]:
        """Return the request's headers without those of the connection and without the proxy's tokens."""
        dropped = _PER_CONNECTION | ({"authorization"} if self.registry.password else set())
        names = {name.lower() for name in self.headers} - dropped
        return {name: ", ".join(self.headers.get_all(name, [])) for name in names}

    def read_half(self, headers: Mapping[str, str]) -> bytes:
        """Forward half of the body, so that the registry's upload session has a part of it."""
        part = super().read_half(headers)
        sent = self.forwarded() | {name: value for name, value in headers.items() if name == "transfer-encoding"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        host, _, port = self.registry.upstream.partition(":")
        with socket.create_connection((host, int(port)), 60) as upstream:
            upstream.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + part)
        return part


class FaultProxy(FakeRegistry):
    """A proxy before `upstream` (host:port) with the faults of the fake registry."""

    handler = _Forwarding

    def __init__(self, upstream: str, **options: Any) -> None:
        super().__init__(**options)
        self.upstream = upstream
