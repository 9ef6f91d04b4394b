"""Credentials go to the registry they are for, whoever it sends us to, and over TLS unless the user says so."""

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


def journey(registry: FakeRegistry, recorded: Recording, store: Store, content: bytes = b"data") -> None:
    push(recorded.remote, small_image(small_layer("data", content)), [name(registry)])
    with pull(recorded.remote, name(registry), AMD64, store).layers[0].open() as stream:
        assert stream.read()


def sending_to(storage: FakeRegistry) -> Callable[[Handler], None]:
    """An answer that sends whoever asks to the same path elsewhere, as object stores are used, with a signed query."""

    def answer(handler: Handler) -> None:
        mark = "&" if "?" in handler.path else "?"
        handler.reply(307, b"", {"location": f"{storage.origin}{handler.path}{mark}signature={MARK}"})

    return answer


@pytest.mark.parametrize("fault", ["flip", "short", "cut", "reset", "close", "lost", 503])
def test_redirected_blob_gets_no_credentials(fault: str | int, store: Store, tmp_path: Path) -> None:
    """A blob that lives elsewhere is fetched without Authorization, and still checked; its URL is never shown."""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2") as storage:
        recorded = Recording(login(tmp_path, registry))
        storage.repositories = registry.repositories
        registry.redirect_blobs = storage.origin
        storage.fault("GET", "/blobs/", fault)
        journey(registry, recorded, store)
        assert storage.count("GET", "/blobs/") == 3
        assert all("authorization" not in request.headers for request in storage.requests)
        assert all(f"signature={MARK}" in request.path for request in storage.requests)
        assert registry.count("GET", "/blobs/") == 3, "a signature lives for a while: the next try asks for a new one"
        assert len(recorded.lines) == 1


@pytest.mark.parametrize("fault", ["flip", "hang", "reset", 403, 404, 500])
def test_a_redirected_blob_that_is_not_to_be_had(fault: str | int, store: Store, tmp_path: Path) -> None:
    """The error names the registry's blob, not the signed URL where it should have been."""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2") as storage:
        recorded = Recording(login(tmp_path, registry), idle=0.3)
        push(recorded.remote, small_image(), [name(registry)])
        registry.redirect_blobs = storage.origin
        storage.fault("GET", "/blobs/", fault, times=99)
        with pytest.raises(RegistryError, match=r"team/app: get blob sha256:\w+ \(\d+ bytes\): "):
            pull(recorded.remote, name(registry), AMD64, store)


@pytest.mark.parametrize("challenged", [False, True], ids=["", "and is asked who it is"])
@pytest.mark.parametrize(("method", "part"), STEPS)
def test_a_step_that_leads_elsewhere(method: str, part: str, challenged: bool, store: Store, tmp_path: Path) -> None:
    """Whichever step is redirected, no credentials of the registry's go there, even if they are asked for."""
    other = PASSWORD if challenged else ""
    with FakeRegistry(password=PASSWORD) as registry, FakeRegistry(address="127.0.0.2", password=other) as storage:
        recorded = Recording(login(tmp_path, registry))
        journey(registry, recorded, store, b"so that there are tokens")
        tokens = registry.count("GET", "/token")
        storage.repositories, storage.uploads = registry.repositories, registry.uploads
        registry.fault(method, part, sending_to(storage), times=99)
        if challenged:
            with pytest.raises(RegistryError, match="401 Unauthorized"):
                journey(registry, recorded, store)
        else:
            journey(registry, recorded, store)
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
    """Loops, other schemes and private addresses are refused at once."""
    push(recorded.remote, small_image(), [name(registry)])
    registry.fault("GET", "/manifests/", 302, times=99, headers={"location": location})
    with pytest.raises(RegistryError, match=reason):
        resolve(recorded.remote, name(registry), store)
    assert recorded.sleeps == []


def test_ten_redirects(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """Five are followed and no more, wherever the tenth may lead."""
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


def public(registry: FakeRegistry) -> str:
    """The name of an image in it, by the name that is not this machine's."""
    return f"registry.example:{registry.server.server_address[1]}/team/app:1"


@pytest.mark.usefixtures("registry_example")
def test_https_leads_to_http(authority: trustme.CA, store: Store, tmp_path: Path) -> None:
    """A request over TLS is not sent on without it; not a byte goes there."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made = FakeRegistry(password=PASSWORD)
    serve_tls(made, authority)
    with made as registry, FakeRegistry() as plain:
        environ = {**login_for_example(tmp_path, registry), "HATCH_DOCKER_CA_BUNDLE": str(tmp_path / "ca.pem")}
        recorded = Recording(environ)
        registry.upload_origin = "relative"
        registry.realm = f"https://{public(registry).partition('/')[0]}/token"
        push(recorded.remote, small_image(), [parse_reference(public(registry))])
        assert resolve(recorded.remote, parse_reference(public(registry)), store)
        registry.fault("GET", "/manifests/", sending_to(plain), times=9)
        with pytest.raises(RegistryError, match=r"leads from https to plain http at 127\.0\.0\.1: refused"):
            resolve(recorded.remote, parse_reference(public(registry)), open_store(tmp_path / "other"))
        assert plain.requests == []


@pytest.mark.usefixtures("registry_example")
def test_a_registry_that_speaks_no_tls(tmp_path: Path, store: Store) -> None:
    """Nobody falls back to plain http; where the user allows it, it is spoken."""
    with FakeRegistry(password=PASSWORD) as registry:
        environ, reference = login_for_example(tmp_path, registry), parse_reference(public(registry))
        for step in (
            lambda remote: push(remote, small_image(), [reference]), lambda remote: resolve(remote, reference, store)
        ):  # fmt: skip
            recorded = Recording(environ)
            with pytest.raises(RegistryError, match=r"registry\.example: this port does not speak https"):
                step(recorded.remote)
            assert recorded.sleeps == []
        assert registry.requests == []
        registry.upload_origin = "relative"
        registry.realm = f"http://{public(registry).partition('/')[0]}/token"
        allowed = Recording({**environ, "HATCH_DOCKER_INSECURE_REGISTRIES": public(registry).partition("/")[0]})
        push(allowed.remote, small_image(), [reference])
        assert resolve(allowed.remote, reference, store)


@pytest.mark.usefixtures("registry_example")
def test_a_registry_of_an_unknown_authority(authority: trustme.CA, tmp_path: Path, store: Store) -> None:
    """It is asked nothing, once, and the way out is named."""
    made = FakeRegistry(password=PASSWORD)
    serve_tls(made, authority)
    with made as registry:
        recorded, reference = Recording(login_for_example(tmp_path, registry)), parse_reference(public(registry))
        with pytest.raises(RegistryError, match=r"no trusted TLS connection .*HATCH_DOCKER_CA_BUNDLE"):
            push(recorded.remote, small_image(), [reference])
        with pytest.raises(RegistryError, match="no trusted TLS connection"):
            resolve(recorded.remote, reference, store)
        assert recorded.sleeps == registry.requests == []


@pytest.mark.parametrize(
    "words", ["Client sent an HTTP request to an HTTPS server.", "The plain HTTP request was sent to HTTPS port"]
)
def test_http_on_an_https_port(words: str, registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """The words of Go's and nginx's servers get a reason, without a second try."""

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
def test_bad_token_servers(realm: str, answer: bytes, reason: str, store: Store) -> None:
    """A challenge sends us to no stranger, and a token is a short word."""
    with FakeRegistry(password=PASSWORD) as registry:
        registry.realm = realm
        registry.fault("GET", "/token", lambda handler: handler.reply(200, answer), times=9)
        with pytest.raises(RegistryError, match=reason):
            resolve(Recording().remote, name(registry), store)


@pytest.mark.parametrize("more", ["", ', "expires_in": -1', ', "expires_in": "soon", "issued_at": 7'])
def test_a_token_that_does_not_say_how_long_it_lives(more: str, store: Store, tmp_path: Path) -> None:
    """It is used until it is refused."""
    with FakeRegistry(password=PASSWORD) as registry:

        def answer(handler: Handler) -> None:
            registry.tokens[f"{MARK}-own"] = (1e12, "repository:team/app:pull,push")
            handler.reply(200, f'{{"token": "{MARK}-own"{more}}}'.encode())

        registry.fault("GET", "/token", answer, times=9)
        journey(registry, Recording(login(tmp_path, registry)), store)
        assert registry.count("GET", "/token") == 2


def test_authentication_by_repository(store: Store, tmp_path: Path) -> None:
    """Reading without a password works although writing wants one, with tokens and with Basic."""
    for scheme in ("bearer", "basic"):
        with FakeRegistry(password=PASSWORD, scheme=scheme, anonymous_pull=True) as registry:
            journey(registry, Recording(login(tmp_path, registry)), store)
            pull(Recording().remote, name(registry), AMD64, store)
