"""The HTTP client: verified downloads, retries, redirects, proxies, certificates and credentials."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import Store
from hatch_docker.core.errors import ConfigError, RegistryError, TransientError
from hatch_docker.core.http import urls
from hatch_docker.core.http.client import Client, fetch, read_document
from hatch_docker.core.http.retry import Policy, retry_after
from hatch_docker.core.progress import Progress
from hatch_docker.oci.model import digest_of
from tests.fakes.network import Recording
from tests.fakes.registry import FakeRegistry, Handler

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")

DATA = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """A server of files: the blobs of the fake registry."""
    with FakeRegistry() as registry:
        registry.put_blob("files", DATA)
        yield registry


def url(server: FakeRegistry, user: str = "", data: bytes = DATA) -> str:
    return f"http://{user}{server.host}/v2/files/blobs/{digest_of(data)}"


def test_file_is_downloaded_once(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    """A damaged copy in the store is downloaded again."""
    digest = digest_of(DATA)
    for _again in range(2):
        assert fetch(store, recorded.client, url(server), digest=digest, size=len(DATA)) == digest
    assert server.count("GET", "") == 1
    store.blob_path(digest).write_bytes(b"damaged")
    assert fetch(store, recorded.client, url(server), digest=digest) == digest
    assert store.blob_path(digest).read_bytes() == DATA
    assert server.count("GET", "") == 2
    assert fetch(store, recorded.client, url(server), digest=None) == digest


def test_concurrent_fetches_download_once(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    digest = digest_of(DATA)
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda _: fetch(store, recorded.client, url(server), digest=digest), range(8))
    assert list(done) == [digest] * 8
    assert store.get(digest)
    assert server.count("GET", "") == 1


def test_at_most_four_concurrent_transfers(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    guard, four, running, most = threading.Lock(), threading.Barrier(4), 0, 0

    def slowly(handler: Handler) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        four.wait(60)
        time.sleep(0.05)
        with guard:
            running -= 1
        handler.route()

    files = [b"%d" % number for number in range(8)]
    for data in files:
        server.put_blob("files", data)
    server.fault("GET", "/blobs/", slowly, times=8)
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda it: fetch(store, recorded.client, url(server, data=it), digest=digest_of(it)), files)
        assert list(done) == [digest_of(data) for data in files]
    assert most == 4


def test_wrong_digest_or_size_is_an_error(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    """After a second attempt. No file is left in the store."""
    with pytest.raises(RegistryError, match=r"its digest is sha256:\w+ instead of sha256:0+; gave up after 2 tries"):
        fetch(store, recorded.client, url(server), digest="sha256:" + "0" * 64)
    with pytest.raises(RegistryError, match="only 256000 of 256001 bytes were received"):
        fetch(store, recorded.client, url(server), digest=None, size=len(DATA) + 1)
    with pytest.raises(RegistryError, match="file is larger than 1000 bytes"):
        fetch(store, recorded.client, url(server), digest=None, limit=1000)
    assert list((store.root / "blobs").iterdir()) == list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_client_errors_are_not_retried(status: int, server: FakeRegistry, store: Store, recorded: Recording) -> None:
    """The message contains the URL without secrets."""
    server.fault("GET", "", status)
    with pytest.raises(RegistryError, match=rf"^GET http://{server.host}/v2/files/blobs/\S+: {status} ") as caught:
        fetch(store, recorded.client, url(server, "user:s3cret@") + "?signature=s3cret", digest=None)
    assert not isinstance(caught.value, TransientError)
    assert "s3cret" not in str(caught.value)
    assert recorded.sleeps == []


def test_server_errors_are_retried_five_times(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    """The pauses are half a minute at most."""
    server.fault("GET", "", 503, times=99)
    with pytest.raises(TransientError, match="503 Service Unavailable; gave up after 6 tries"):
        fetch(store, recorded.client, url(server), digest=None)
    assert len(recorded.sleeps) == len(recorded.lines) == 5
    assert sum(recorded.sleeps) < 15


def test_refused_connection_is_retried_but_unknown_host_is_not(server: FakeRegistry, recorded: Recording) -> None:
    with pytest.raises(TransientError, match=r"broke \(Connection refused\); gave up after 6 tries"):
        read_document(recorded.client, "http://127.0.0.1:1/x", limit=10)
    recorded.sleeps.clear()
    with pytest.raises(RegistryError, match=r"registry.invalid: the name does not resolve"):
        read_document(recorded.client, "http://registry.invalid/x", limit=10)
    assert recorded.sleeps == []


def test_read_document(server: FakeRegistry, recorded: Recording) -> None:
    """None for a missing document, an error for a large one."""
    small = server.put_blob("files", b"small")
    assert read_document(recorded.client, f"{server.origin}/v2/files/blobs/{small}", limit=5) == b"small"
    assert read_document(recorded.client, f"{server.origin}/v2/files/blobs/sha256:0", limit=5) is None
    with pytest.raises(RegistryError, match="larger than 4 bytes"):
        read_document(recorded.client, f"{server.origin}/v2/files/blobs/{small}", limit=4)


def test_file_urls(store: Store, recorded: Recording, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(b"content")
    assert fetch(store, recorded.client, path.as_uri(), digest=digest_of(b"content")) == digest_of(b"content")
    assert read_document(recorded.client, path.as_uri(), limit=10) == b"content"
    assert read_document(recorded.client, (tmp_path / "none").as_uri(), limit=10) is None
    with pytest.raises(RegistryError, match="its digest is"):
        fetch(store, recorded.client, path.as_uri(), digest="sha256:" + "0" * 64)
    with pytest.raises(RegistryError, match="does not exist"):
        fetch(store, recorded.client, (tmp_path / "none").as_uri(), digest=None)
    with pytest.raises(RegistryError, match="a file URL names no host"):
        read_document(recorded.client, "file://elsewhere/x", limit=10)


def test_url_credentials_are_sent_only_to_its_origin(server: FakeRegistry, store: Store, recorded: Recording) -> None:
    """A redirect to another origin gets no credentials."""
    with FakeRegistry(address="127.0.0.2") as other:
        other.repositories = server.repositories
        server.redirect_blobs = other.origin
        fetch(store, recorded.client, url(server, "us%40er:s3cret@"), digest=digest_of(DATA))
        assert server.requests[0].headers["authorization"] == urls.basic("us@er", "s3cret")
        assert "authorization" not in other.requests[0].headers


def test_netrc_default_entry_is_ignored(server: FakeRegistry, tmp_path: Path) -> None:
    """An invalid netrc is ignored, too."""
    path = tmp_path / "netrc"
    for text, expected in {
        "machine 127.0.0.1 login me password s3cret": urls.basic("me", "s3cret"),
        "machine elsewhere login me password s3cret\ndefault login x password y": None,
        "nonsense": None,
    }.items():
        path.write_text(text)
        read_document(Recording({"NETRC": str(path)}).client, url(server), limit=1 << 20)
        assert server.requests[-1].headers.get("authorization") == expected


@pytest.mark.parametrize(("environ", "expected"), [
    ({}, None),
    ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
    ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
    ({"http_proxy": "http://proxy.example"}, None),
    ({"all_proxy": "http://proxy.example"}, "http://proxy.example"),
    ({"https_proxy": "http://proxy.example", "no_proxy": "*"}, None),
    ({"https_proxy": "http://proxy.example", "no_proxy": "x, .example"}, None),
    ({"https_proxy": "http://proxy.example", "no_proxy": "registry.example:443"}, None),
    ({"https_proxy": "http://proxy.example", "no_proxy": "try.example,10.0.0.0/8"}, "http://proxy.example"),
])  # fmt: skip
def test_proxy_variables(environ: dict[str, str], expected: str | None) -> None:
    """Loopback needs no proxy."""
    assert urls.proxy_for("https://registry.example/v2/", environ) == expected
    assert urls.proxy_for("http://127.0.0.1:5000/", {**environ, "all_proxy": "http://proxy.example"}) is None


def test_request_is_sent_through_proxy(server: FakeRegistry) -> None:
    client = Recording({"http_proxy": f"http://user:s3cret@{server.host}"}).client
    assert read_document(client, "http://registry.example/v2/", limit=10) == b"{}"
    assert server.requests[0].path == "http://registry.example/v2/"
    assert server.requests[0].headers["proxy-authorization"] == urls.basic("user", "s3cret")


@contextlib.contextmanager
def proxy_with_response(answer: bytes) -> Iterator[str]:
    """Yield the URL of a proxy that sends this response to each request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # raised when the test ends
                while True:
                    connection, _ = server.accept()
                    connection.recv(1 << 16)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://user:s3cret@127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("answer", "message", "sleeps"), [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", r"registry\.example: the proxy refuses \(.*407", 0),
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", r"registry\.example: the proxy refuses \(.*403", 0),
    (b"HTTP/1.1 503 Busy\r\n\r\n", r"the proxy does not answer \(.*503.*gave up after 6 tries", 5),
    (b"", r"gave up after 6 tries", 5),
])  # fmt: skip
def test_proxy_errors(answer: bytes, message: str, sleeps: int) -> None:
    """4xx is permanent; 5xx and broken connections are retried. No message contains the password."""
    with proxy_with_response(answer) as proxy:
        recorded = Recording({"https_proxy": proxy})
        with pytest.raises(RegistryError, match=message) as caught:
            read_document(recorded.client, "https://registry.example/v2/", limit=10)
        assert isinstance(caught.value, TransientError) == bool(sleeps)
        assert len(recorded.sleeps) == sleeps


def test_tls_certificate_is_verified(tmp_path: Path, server: FakeRegistry) -> None:
    """With the user's CA bundle. An untrusted certificate is not retried; plain HTTP on the port is reported."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with FakeRegistry() as secure:
        secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
        target = f"https://{secure.host}/v2/"
        assert read_document(Recording({"HATCH_DOCKER_CA_BUNDLE": str(bundle)}).client, target, limit=10) == b"{}"
        recorded = Recording()
        with pytest.raises(RegistryError, match=r"no trusted TLS connection .*set HATCH_DOCKER_CA_BUNDLE"):
            read_document(recorded.client, target, limit=10)
        assert recorded.sleeps == []
    with pytest.raises(RegistryError, match="this port does not speak https"):
        read_document(Recording().client, f"https://{server.host}/v2/", limit=10)
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE names /nowhere/x.pem, which does not exist"):
        read_document(Recording({"SSL_CERT_FILE": "/nowhere/x.pem"}).client, target, limit=10)


@pytest.mark.parametrize("bad", ["ftp://x/y", "http://", "http://host:0/", "http://host:99999/", "//x", "http://[::1"])
def test_invalid_url_is_rejected(bad: str, recorded: Recording) -> None:
    with pytest.raises(RegistryError, match="not a"):
        read_document(recorded.client, bad, limit=10)


def test_forbidden_redirects_are_rejected() -> None:
    """From https to http, to loopback, and to private addresses such as the metadata service of a cloud."""
    start = "https://registry.example/v2/x"
    assert urls.follow(start, "/other") == "https://registry.example/other"
    assert urls.follow(start, "https://cdn.example/x") == "https://cdn.example/x"
    for location in ("http://registry.example/x", "https://127.0.0.1/x", "https://localhost/x", "https://[fe80::1]/",
                     "https://169.254.169.254/", "https://192.168.1.1/x", "gopher://x/", "https://[::1"):
        with pytest.raises(RegistryError, match=r"^https://registry.example/v2/x leads "):
            urls.follow(start, location)
    assert urls.follow("http://10.0.0.1:5000/v2/", "http://10.0.0.1:5001/") == "http://10.0.0.1:5001/"


def test_retry_after_dates() -> None:
    """A date is compared with the server's `Date`."""
    headers = {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:49 GMT"}
    assert retry_after(headers) == 10
    assert retry_after({"retry-after": "-5"}) is None
    assert retry_after({"retry-after": "Fri, 99 Dec 1999 23:59:59 GMT"}) is None


def test_no_try_starts_after_the_deadline(server: FakeRegistry) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds + 100

    server.fault("GET", "", 503, times=99)
    client = Client({}, Progress(lambda _line: None), Policy(sleep=sleep, clock=lambda: now[0]))
    with pytest.raises(TransientError, match=r"gave up after [34] tries: out of time"):
        read_document(client, url(server), limit=10)


def test_unused_client_imports_no_http_library() -> None:
    code = "import sys; from hatch_docker.core.http.client import Client;"
    code += "from hatch_docker.core.progress import silent; "
    code += "Client({}, silent()); assert not {'urllib3', 'ssl', 'http.client'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Client({}, Progress(print)) == Client({}, Progress(print))
