"""The HTTP client of all requests, with one retry policy, one redirect policy and size limits.

    request        a request with a small response, with retries
    send           one attempt, for callers that retry more than one request together
    download       one attempt to stream a response body into a function
    fetch          download a file into the store with retries, verified by size and digest, once per machine
    read_document  get a small document, with retries

At most five redirects are followed. `Authorization` is sent only to the origin for which it was made. Bodies are raw
bytes: `Content-Encoding` is never decoded, because decoding would change the digest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from hatch_docker import __version__
from hatch_docker.core.cache.store import Store
from hatch_docker.core.errors import OfflineError, RegistryError
from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import (
    CONNECT,
    Response,
    check_status,
    classify_error,
    explain,
    redact_credentials,
)
from hatch_docker.core.http.retry import RETRYABLE, Policy, Retryable, retry_after
from hatch_docker.core.progress import Advance, Progress, no_progress, undo_on_failure
from hatch_docker.core.streams import CountingStream, pieces

if TYPE_CHECKING:
    import urllib3

    Body = bytes | Callable[[], BinaryIO] | None

Result = TypeVar("Result")

CHUNK = 1 << 18  # bytes read at a time
BLOCK = 1 << 16  # bytes sent at a time; sending each block must take at most CONNECT seconds
BROKEN = (ConnectionError, TimeoutError)
ERROR_BODY = 1 << 16  # bytes of an error response that are read
OFFLINE = "HATCH_DOCKER_OFFLINE"  # the variable that forbids network access
BODY_LIMIT = 4 << 20  # largest response body in bytes, except for downloads
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(slots=True)
class _Session:
    """State shared by requests: connection pools by proxy, hosts that have responded, a limit of four transfers."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    pools: dict[str | None, urllib3.PoolManager] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    transfers: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(4))


@dataclass(frozen=True, slots=True)
class Client:
    """The HTTP client. It is cheap to create, and threads can share it.

    `idle`: seconds that a server may send nothing. `minimum_rate`: bytes per second that it must send over that time.
    `proxy`: returns the proxy for a URL, "" for no proxy, None to use the proxy of the environment.
    """

    environ: Mapping[str, str]
    progress: Progress
    policy: Policy = field(default_factory=Policy)
    idle: float = 20.0
    minimum_rate: int = 1024
    proxy: Callable[[str], str | None] = field(default=lambda _url: None, repr=False)
    session: _Session = field(default_factory=_Session, repr=False, compare=False)

    def with_ca_bundle(self, bundle: str) -> Client:
        """Return a client that trusts only the certificate authorities in this file."""
        return replace(self, environ={**self.environ, urls.BUNDLES[0]: bundle}, session=_Session())

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] = _NO_HEADERS, body: Body = None,
        expect: Iterable[int] = (200,), limit: int = BODY_LIMIT,
    ) -> Response:
        """Return a small response with one of the statuses `expect`; raise RegistryError for another status."""
        return self.retry(
            f"{method} {urls.redact_url(url)}",
            lambda: check_status(expect, self.send(method, url, headers=headers, body=body, limit=limit)),
        )

    def retry(self, operation: str, attempt: Callable[[], Result], *, size: int = 0) -> Result:
        """Run an attempt with the retry policy. `size`, the bytes to transfer, extends the deadline."""
        deadline = self.policy.deadline + size / self.minimum_rate
        return self.policy.run(operation, attempt, self.progress, deadline=deadline)

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str] = _NO_HEADERS, body: Body = None,
        body_size: int | None = None, limit: int = BODY_LIMIT, redirects: int = MAX_REDIRECTS,
    ) -> Response:
        """Make one attempt; return the response. Raises Retryable for a transient status or a broken connection.

        `limit`: largest response body in bytes. `body`: bytes, or a function that opens a stream for each request.
        """
        with self._exchange(method, url, headers, body, body_size, redirects) as (raw, final):
            return self._small(raw, final, limit, headers)

    def download(
        self, url: str, write: Callable[[bytes], object], *, size: int | None = None,
        limit: int = 4 << 30, headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        """Make one attempt to stream a response body into `write`; raise Retryable if it does not have `size` bytes."""
        exchange = self._exchange("GET", url, headers, None, None, MAX_REDIRECTS)
        with self.session.transfers, exchange as (raw, final):
            if raw.status != 200:
                check_status((200,), self._small(raw, final, BODY_LIMIT, headers))
            bound = limit if size is None else size
            count = 0
            for chunk in self._chunks(raw, final):
                count += len(chunk)
                if count > bound:
                    break
                write(chunk)
        if size is not None and count != size:
            came = f"more than {size}" if count > size else f"only {count} of {size}"
            raise Retryable(f"{came} bytes were received", tries=2, permanent=True)
        if count > bound:
            raise RegistryError(f"the file is larger than {limit} bytes")

    def _small(self, raw: urllib3.BaseHTTPResponse, url: str, limit: int, sent: Mapping[str, str]) -> Response:
        data = bytearray()
        for chunk in self._chunks(raw, url):
            data += chunk
            if raw.status >= 400 and len(data) > ERROR_BODY:
                break
            if raw.status < 400 and len(data) > limit:
                raise RegistryError(f"the answer is larger than {limit} bytes")
        named = {name.lower(): value for name, value in raw.headers.items()}
        body = bytes(data) if raw.status < 400 else redact_credentials(bytes(data), sent.get("authorization", ""))
        response = Response(raw.status, named, body, url)
        if response.status in RETRYABLE:
            raise Retryable(explain(response), after=retry_after(named))
        return response

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, body_size: int | None, redirects: int
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        sent = {"user-agent": f"hatch-docker/{__version__}", "accept-encoding": "identity"}
        sent |= {name.lower(): value for name, value in headers.items()}
        for _hop in range(redirects + 1):
            raw = self._open(method, url, sent, body, body_size)
            location = raw.headers.get("location")
            if raw.status not in REDIRECTS or location is None:
                with contextlib.closing(raw):
                    yield raw, url
                return
            raw.close()
            target = urls.follow(url, location)
            if method not in {"GET", "HEAD"} and raw.status not in {307, 308}:
                raise RegistryError(f"{method} {urls.redact_url(url)}: redirected ({raw.status}), refused")
            if urls.origin(target) != urls.origin(url):
                sent.pop("authorization", None)
            url = target
        raise RegistryError(f"{method} {urls.redact_url(url)}: more than {redirects} redirects")

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, body_size: int | None
    ) -> urllib3.BaseHTTPResponse:
        if is_offline(self.environ):
            raise OfflineError
        import urllib3

        sent = dict(headers)
        with contextlib.ExitStack() as stack:
            content: bytes | Iterator[bytes] | None
            if callable(body):
                # Opened before `transfers` is acquired: opening may download the body, which acquires `transfers` too.
                stream = stack.enter_context(body())
                stack.enter_context(self.session.transfers)
                content = _exactly(body_size or 0, stream)
                sent["content-length"] = str(body_size)
            else:
                content = body
            # The registry may hash a large upload before it responds.
            patience = self.idle + (body_size or 0) / (8 << 20)
            try:
                raw = self._pool(url).request(
                    method, url, body=content, headers=sent, retries=False, redirect=False,
                    preload_content=False, decode_content=False,
                    timeout=urllib3.Timeout(connect=CONNECT, read=patience),
                )
            except (urllib3.exceptions.HTTPError, *BROKEN) as error:
                raise classify_error(error, url, self.session.reached, self.idle) from error
        self.session.reached.add(urls.origin(url)[1])
        return raw

    def _chunks(self, raw: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
        """Yield the response body in pieces as it arrives."""
        import urllib3

        while True:
            try:
                data = raw.read1(CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, *BROKEN) as error:
                raise classify_error(error, url, self.session.reached, self.idle) from error
            if not data:
                return
            yield data

    def _pool(self, url: str) -> urllib3.PoolManager:
        import urllib3

        from hatch_docker.core.http.minimum_rate import enforce_minimum_rate

        known = self.proxy(url)
        proxy = urls.proxy_for(url, self.environ) if known is None else known or None
        with self.session.guard:
            pools = self.session.pools
            if proxy not in pools:
                options: dict[str, Any] = {"maxsize": 8, "blocksize": BLOCK, **urls.trust(self.environ)}
                if proxy is None:
                    pools[proxy] = urllib3.PoolManager(**options)
                else:
                    bare, secret = urls.proxy_credentials(proxy)
                    pools[proxy] = urllib3.ProxyManager(bare, proxy_headers=secret, **options)
                enforce_minimum_rate(pools[proxy], self.idle, self.minimum_rate)
            return pools[proxy]


def is_offline(environ: Mapping[str, str]) -> bool:
    """Return whether HATCH_DOCKER_OFFLINE forbids network access."""
    return environ.get(OFFLINE, "") not in ("", "0")


def fetch(
    store: Store, client: Client, url: str, *, digest: str | None, size: int | None = None,
    headers: Mapping[str, str] = _NO_HEADERS, limit: int = 4 << 30, advance: Advance = no_progress,
) -> str:
    """Download a file into the store, if the store does not have `digest`; return its digest.

    `url`: http, https or file. `size` and `limit` are in bytes. Credentials from the URL or netrc are sent only to the
    URL's origin. Raises RegistryError for an error response, and if the file does not match `digest` and `size` in two
    attempts; TransientError if all attempts failed.
    """
    if digest is not None and store.get(digest):
        return digest
    local = _local(url)
    bare, credentials = (url, {}) if local else urls.with_credentials(url, client.environ)

    def attempt() -> str:
        with store.writer() as writer, undo_on_failure(advance) as report:
            write = CountingStream(writer, report).write
            if local:
                _copy(local, write, size, limit)
            else:
                client.download(bare, write, size=size, limit=limit, headers={**credentials, **headers})
            if digest not in (None, writer.digest):
                raise Retryable(f"its digest is {writer.digest} instead of {digest}", tries=2, permanent=True)
            return writer.commit()

    with contextlib.nullcontext() if digest is None else store.lock(digest):
        if digest is not None and store.get(digest):
            return digest
        return client.retry(f"GET {urls.redact_url(url)}", attempt, size=size or 0)


def read_document(client: Client, url: str, *, limit: int) -> bytes | None:
    """Return a document of at most `limit` bytes, or None if it does not exist (status 404, or a missing file)."""
    if local := _local(url):
        data = bytearray()
        if not local.is_file():
            return None
        _copy(local, data.extend, None, limit)
        return bytes(data)
    bare, credentials = urls.with_credentials(url, client.environ)
    response = client.request("GET", bare, headers=credentials, expect=(200, 404), limit=limit)
    return response.body if response.status == 200 else None


def _local(url: str) -> Path | None:
    if not url.lower().startswith("file:"):
        return None
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise RegistryError(f"{urls.redact_url(url)}: a file URL names no host")
    return Path(unquote(parts.path))


def _copy(path: Path, write: Callable[[bytes], object], size: int | None, limit: int) -> None:
    try:
        with path.open("rb") as stream:
            found = path.stat().st_size
            if found > limit or size not in (None, found):
                raise RegistryError(f"{path} is {found} bytes, not {limit if size is None else size}")
            for block in pieces(stream, BLOCK):
                write(block)
    except FileNotFoundError as error:
        raise RegistryError(f"{path} does not exist") from error


def _exactly(size: int, stream: BinaryIO) -> Iterator[bytes]:
    count = 0
    for block in pieces(stream, BLOCK):
        count += len(block)
        if count <= size:
            yield block
    if count != size:
        raise RegistryError(f"{count} bytes would be sent instead of {size}: they changed meanwhile")
