"""Minimum transfer rate of responses: a server that sends single bytes slowly never causes a socket timeout.

All received bytes are counted below the HTTP parser, including headers and chunk sizes.
"""

from __future__ import annotations

import http.client
import io
import ssl
import time
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class TooSlowError(TimeoutError):
    """A server sent only `count` bytes in `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(f"only {count} bytes came in {seconds:.0f} s")


def enforce_minimum_rate(manager: urllib3.PoolManager, window: float, rate: int) -> None:
    """Make the manager's connections raise TooSlowError for responses slower than `rate` bytes per second.

    The rate is measured after the first byte, over `window` seconds in which the client waits for data.
    """

    class Response(http.client.HTTPResponse):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.fp = io.BufferedReader(_RateLimited(self.fp.detach(), window, rate))

    class Plain(HTTPConnection):
        response_class = Response

    class Secure(HTTPSConnection):
        response_class = Response

        def send(self, data: Any) -> None:
            try:
                super().send(data)
            except ssl.SSLError as error:  # Python 3.11 raises it for a closed connection; read the response anyway
                raise BrokenPipeError(*error.args) from error

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


class _RateLimited(io.RawIOBase):
    """A socket's stream that counts received bytes and the seconds spent waiting for them."""

    def __init__(self, raw: io.RawIOBase, window: float, rate: int) -> None:
        self.raw, self.window, self.rate = raw, window, rate
        self.waited, self.count, self.begun = 0.0, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        start = time.monotonic()
        size: int | None = self.raw.readinto(buffer)
        if self.begun:  # the time before the first byte is limited by the socket's timeout
            self.waited += time.monotonic() - start
        self.begun = True
        self.count += size or 0
        if self.waited >= self.window:
            if size and self.count < self.waited * self.rate:
                raise TooSlowError(self.count, self.waited)
            self.waited, self.count = 0.0, 0
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()
