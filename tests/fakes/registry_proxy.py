"""The fake registry's faults before a real registry.

    with docker_registry(directory) as server, FaultProxy(server.host) as proxy:
        proxy.fault("PUT", "/blobs/uploads/", "lost")
        ...

Whatever goes not wrong is passed on as it came, `Host` included, so that the registry's own links lead through the
proxy. With `password` the proxy asks for tokens, and gives them.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from typing import Any

from tests.fakes.registry import FakeRegistry, Handler

_OWN = {"connection", "date", "keep-alive", "server", "transfer-encoding"}  # what belongs to one connection


# The seven steps of a journey there and back: method and a part of the path. A blob's bytes may come either way.
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
# Sixteen single bad answers: what registries and the boxes before them say on a bad day, and bytes that are wrong.
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
        """Pass the request on, and the answer back."""
        connection = http.client.HTTPConnection(self.registry.upstream, timeout=60)
        try:
            headers = {**self.passed(), "content-length": str(len(self.body))}
            connection.request(self.command, self.path, self.body, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _OWN}
        if self.command != "HEAD":
            kept.pop("content-length", None)
        self.reply(answer.status, body, kept)

    def passed(self) -> dict[str, str]:
        """The request's headers without those of one connection, and without the proxy's own tokens."""
        mine = _OWN | ({"authorization"} if self.registry.password else set())
        names = {name.lower() for name in self.headers} - mine
        return {name: ", ".join(self.headers.get_all(name, [])) for name in names}

    def take_half(self, headers: Mapping[str, str]) -> bytes:
        """Pass half of the body on, so that the registry has a part of it in its session."""
        part = super().take_half(headers)
        sent = self.passed() | {name: value for name, value in headers.items() if name == "transfer-encoding"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        host, _, port = self.registry.upstream.partition(":")
        with socket.create_connection((host, int(port)), 60) as upstream:
            upstream.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + part)
        return part


class FaultProxy(FakeRegistry):
    """A proxy before `upstream` (host:port), whose faults are those of the fake registry."""

    handler = _Forwarding

    def __init__(self, upstream: str, **options: Any) -> None:
        super().__init__(**options)
        self.upstream = upstream
