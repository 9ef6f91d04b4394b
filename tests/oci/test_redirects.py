"""Redirects and TLS: credentials are sent only to their registry, and only over TLS unless the user allows HTTP."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.errors import RegistryError
from hatch_docker.oci.pull import pull, resolve
from hatch_docker.oci.reference import parse_reference
from tests.fakes.captured_output import MARK
from tests.fakes.images import AMD64, small_image, small_layer
from tests.fakes.network import PASSWORD, STEPS, Recording, login, login_for_example, name, serve_tls
from tests.fakes.registry import FakeRegistry, Handler, push

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")


def push_and_pull(registry: FakeRegistry, recorded: Recording, store: Store, content: bytes = b"data") -> None:
    push(recorded.remote, small_image(small_layer("data", content)), [name(registry)])
    with pull(recorded.remote, name(registry), AMD64, store).layers[0].open() as stream:
        assert stream.read()


def redirect_to(storage: FakeRegistry) -> Callable[[Handler], None]:
    """Return a handler that redirects to the same path of `storage` with a signed query, like to an object store."""

    def answer(handler: Handler) -> None:
        mark = "&" if "?" in handler.path else "?"
        handler.reply(307, b"", {"location": f"{storage.origin}{handler.path}{mark}signature={MARK}"})

    return answer


@pytest.mark.parametrize("fault", ["flip", "short", "cut", "reset", "close", "lost", 503])
def test_redirected_blob_gets_no_credentials(fault: str | int, store: Store, tmp_path: Path) -> None:
    """The blob is verified, and its URL is not shown."""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2") as storage:
        recorded = Recording(login(tmp_path, registry))
        storage.repositories = registry.repositories
        registry.redirect_blobs = storage.origin
        storage.fault("GET", "/blobs/", fault)
        push_and_pull(registry, recorded, store)
        assert storage.count("GET", "/blobs/") == 3
        assert all("authorization" not in request.headers for request in storage.requests)
        assert all(f"signature={MARK}" in request.path for request in storage.requests)
        assert registry.count("GET", "/blobs/") == 3, "a signature expires: each try requests a new URL"
        assert len(recorded.lines) == 1


@pytest.mark.parametrize("fault", ["flip", "hang", "reset", 403, 404, 500])
def test_error_for_redirected_blob_does_not_show_the_signed_url(fault: str | int, store: Store, tmp_path: Path) -> None:
    """It names the blob of the registry."""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2") as storage:
        recorded = Recording(login(tmp_path, registry), idle=0.3)
        push(recorded.remote, small_image(), [name(registry)])
        registry.redirect_blobs = storage.origin
        storage.fault("GET", "/blobs/", fault, times=99)
        with pytest.raises(RegistryError, match=r"team/app: get blob sha256:\w+ \(\d+ bytes\): "):
            pull(recorded.remote, name(registry), AMD64, store)


@pytest.mark.parametrize("challenged", [False, True], ids=["", "with a challenge"])
@pytest.mark.parametrize(("method", "part"), STEPS)
def test_redirected_step_gets_no_credentials(
    method: str, part: str, challenged: bool, store: Store, tmp_path: Path
) -> None:
    """Even if the other server requires authentication."""
    other = PASSWORD if challenged else ""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2", password=other) as storage:
        recorded = Recording(login(tmp_path, registry))
        push_and_pull(registry, recorded, store, b"so that there are tokens")
        tokens = registry.count("GET", "/token")
        storage.repositories, storage.uploads = registry.repositories, registry.uploads
        registry.fault(method, part, redirect_to(storage), times=99)
        if challenged:
            with pytest.raises(RegistryError, match="401 Unauthorized"):
                push_and_pull(registry, recorded, store)
        else:
            push_and_pull(registry, recorded, store)
        assert storage.requests
        assert registry.count("GET", "/token") == tokens
        assert all("authorization" not in request.headers for request in storage.requests)
        assert storage.count("GET", "/token") == 0


@pytest.mark.parametrize(("location", "reason"), [
    ("http://169.254.169.254/latest", "the private address 169.254.169.254: refused"),
    ("http://10.0.0.1/x", "the private address 10.0.0.1: refused"),
    ("file:///etc/passwd", "not an http or https URL"),
    ("/v2/team/app/manifests/1", "more than 5 redirects"),
])  # fmt: skip
def test_bad_redirects(location: str, reason: str, registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """Loops, other schemes and private addresses are errors without a retry."""
    push(recorded.remote, small_image(), [name(registry)])
    registry.fault("GET", "/manifests/", 302, times=99, headers={"location": location})
    with pytest.raises(RegistryError, match=reason):
        resolve(recorded.remote, name(registry), store)
    assert recorded.sleeps == []


def test_five_redirects_are_followed(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """A longer chain is an error."""
    push(recorded.remote, small_image(), [name(registry)])

    def hop(handler: Handler) -> None:
        path, _, count = handler.path.partition("?hops=")
        left = int(count or hops) - 1
        handler.reply(307, b"", {"location": f"{path}?hops={left}"}) if left >= 0 else handler.route()

    registry.fault("GET", "/manifests/", hop, times=99)
    hops = 5
    assert resolve(recorded.remote, name(registry), store)[1] == small_image().manifest
    hops = 10
    before = registry.count("GET", "/manifests/")
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        resolve(recorded.remote, name(registry), open_store(store.root / "other"))
    assert registry.count("GET", "/manifests/") - before == 6


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def public_name(registry: FakeRegistry) -> str:
    """Return the name of an image of the registry with the host registry.example, which is not loopback."""
    return f"registry.example:{registry.server.server_address[1]}/team/app:1"


@pytest.mark.usefixtures("registry_example")
def test_redirect_from_https_to_http_is_rejected(authority: trustme.CA, store: Store, tmp_path: Path) -> None:
    """Nothing is sent to the HTTP server."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made = FakeRegistry(password=PASSWORD)
    serve_tls(made, authority)
    with made as registry, FakeRegistry() as plain:
        environ = {**login_for_example(tmp_path, registry), "HATCH_DOCKER_CA_BUNDLE": str(tmp_path / "ca.pem")}
        recorded = Recording(environ)
        registry.upload_origin = "relative"
        registry.realm = f"https://{public_name(registry).partition('/')[0]}/token"
        push(recorded.remote, small_image(), [parse_reference(public_name(registry))])
        assert resolve(recorded.remote, parse_reference(public_name(registry)), store)
        registry.fault("GET", "/manifests/", redirect_to(plain), times=9)
        with pytest.raises(RegistryError, match=r"leads from https to plain http at 127\.0\.0\.1: refused"):
            resolve(recorded.remote, parse_reference(public_name(registry)), open_store(tmp_path / "other"))
        assert plain.requests == []


@pytest.mark.usefixtures("registry_example")
def test_registry_without_tls_is_rejected_unless_listed(tmp_path: Path, store: Store) -> None:
    """There is no fallback to plain HTTP."""
    with FakeRegistry(password=PASSWORD) as registry:
        environ, reference = login_for_example(tmp_path, registry), parse_reference(public_name(registry))
        for step in (
            lambda remote: push(remote, small_image(), [reference]), lambda remote: resolve(remote, reference, store)
        ):  # fmt: skip
            recorded = Recording(environ)
            with pytest.raises(RegistryError, match=r"registry\.example: this port does not speak https"):
                step(recorded.remote)
            assert recorded.sleeps == []
        assert registry.requests == []
        registry.upload_origin = "relative"
        registry.realm = f"http://{public_name(registry).partition('/')[0]}/token"
        allowed = Recording({**environ, "HATCH_DOCKER_INSECURE_REGISTRIES": public_name(registry).partition("/")[0]})
        push(allowed.remote, small_image(), [reference])
        assert resolve(allowed.remote, reference, store)


@pytest.mark.usefixtures("registry_example")
def test_untrusted_certificate_is_rejected(authority: trustme.CA, tmp_path: Path, store: Store) -> None:
    """No request is sent, and there is no retry. The error names HATCH_DOCKER_CA_BUNDLE."""
    made = FakeRegistry(password=PASSWORD)
    serve_tls(made, authority)
    with made as registry:
        recorded, reference = Recording(login_for_example(tmp_path, registry)), parse_reference(public_name(registry))
        with pytest.raises(RegistryError, match=r"no trusted TLS connection .*HATCH_DOCKER_CA_BUNDLE"):
            push(recorded.remote, small_image(), [reference])
        with pytest.raises(RegistryError, match="no trusted TLS connection"):
            resolve(recorded.remote, reference, store)
        assert recorded.sleeps == registry.requests == []


@pytest.mark.parametrize(
    "words", ["Client sent an HTTP request to an HTTPS server.", "The plain HTTP request was sent to HTTPS port"]
)
def test_http_request_to_an_https_port_is_explained(
    words: str, registry: FakeRegistry, recorded: Recording, store: Store
) -> None:
    """The responses of Go's and nginx's servers. There is no retry."""

    def answer(handler: Handler) -> None:
        handler.reply(400, words.encode(), {"content-type": "text/plain"})

    for method in ("HEAD", "GET"):
        registry.fault(method, "/v2/", answer, times=9)
    with pytest.raises(RegistryError, match=f"400 Bad Request .{words}.; it requires https: remove it"):
        resolve(recorded.remote, name(registry), store)
    assert recorded.sleeps == []


@pytest.mark.parametrize(("realm", "answer", "reason"), [
    ("http://tokens.registry.example/token", b"", "does not use https: refused"),
    ("https://10.1.2.3/token", b"", "the private address 10.1.2.3: refused"),
    ("https://169.254.169.254/token", b"", "the private address 169.254.169.254: refused"),
    ("file:///etc/passwd", b"", "not an http or https URL"),
    ("", b'{"token": "' + b"x" * (5 << 20) + b'"}', "larger than 1048576 bytes"),
    ("", b"[]", "did not answer with a token"),
    ("", b'{"token": "a\\nb: c"}', "did not answer with a token"),
])  # fmt: skip
def test_invalid_token_server_is_rejected(realm: str, answer: bytes, reason: str, store: Store) -> None:
    """Its URL must use https and no private address, its response must be a token."""
    with FakeRegistry(password=PASSWORD) as registry:
        registry.realm = realm
        registry.fault("GET", "/token", lambda handler: handler.reply(200, answer), times=9)
        with pytest.raises(RegistryError, match=reason):
            resolve(Recording().remote, name(registry), store)


@pytest.mark.parametrize("more", ["", ', "expires_in": -1', ', "expires_in": "soon", "issued_at": 7'])
def test_token_without_lifetime_is_used(more: str, store: Store, tmp_path: Path) -> None:
    """Until the registry rejects it."""
    with FakeRegistry(password=PASSWORD) as registry:

        def answer(handler: Handler) -> None:
            registry.tokens[f"{MARK}-own"] = (1e12, "repository:team/app:pull,push")
            handler.reply(200, f'{{"token": "{MARK}-own"{more}}}'.encode())

        registry.fault("GET", "/token", answer, times=9)
        push_and_pull(registry, Recording(login(tmp_path, registry)), store)
        assert registry.count("GET", "/token") == 2


def test_anonymous_pull_and_authenticated_push(store: Store, tmp_path: Path) -> None:
    """With tokens and with Basic authentication."""
    for scheme in ("bearer", "basic"):
        with FakeRegistry(password=PASSWORD, scheme=scheme, anonymous_pull=True) as registry:
            push_and_pull(registry, Recording(login(tmp_path, registry)), store)
            pull(Recording().remote, name(registry), AMD64, store)
