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
from typing import Any

from tests.fakes.registry import FakeRegistry, Handler

_OWN = {"connection", "date", "keep-alive", "server", "transfer-encoding"}  # what belongs to one connection


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
        return {name.lower(): value for name, value in self.headers.items() if name.lower() not in mine}

    def take_half(self, size: int) -> None:
        """Pass half of the body on, so that the registry has a part of it in its session."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.passed().items())
        host, _, port = self.registry.upstream.partition(":")
        with socket.create_connection((host, int(port)), 60) as upstream:
            upstream.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.rfile.read(size))


class FaultProxy(FakeRegistry):
    """A proxy before `upstream` (host:port), whose faults are those of the fake registry."""

    handler = _Forwarding

    def __init__(self, upstream: str, **options: Any) -> None:
        super().__init__(**options)
        self.upstream = upstream
