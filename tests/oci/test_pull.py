"""Pushing and pulling images, with all kinds of faults of a registry."""

import gzip
import io
import re
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import Store
from hatch_docker.core.errors import ImageError, RegistryError, TransientError
from hatch_docker.oci.model import Image, Layer, Platform
from hatch_docker.oci.pull import pull, pull_index, resolve
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import Remote
from tests.fakes.images import AMD64, ARM64, small_image, small_index, small_layer
from tests.fakes.network import PASSWORD, STEPS, Recording, login, name
from tests.fakes.registry import FakeRegistry, Handler, push

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")


def content(layer: Layer) -> bytes:
    with layer.open() as stream:
        return stream.read()


def same_layers(image: Image, other: Image) -> bool:
    pairs = zip(image.layers, other.layers, strict=True)
    return all(content(one) == content(two) for one, two in pairs)


def test_pushed_image_is_pulled(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """With the same bytes. A layer is downloaded when it is opened, and only once."""
    image = small_image(small_layer("a", b"a" * 5000), small_layer("b", b"b"))
    pushed = push(recorded.remote, image, [name(registry), name(registry, "team/app:latest")])
    assert pushed.digest == image.digest
    assert pushed.sent == image.size + len(image.config) + 3 * len(image.manifest)  # by digest and by two tags
    back = pull(recorded.remote, name(registry), AMD64, store)
    assert (back.digest, back.manifest, back.config) == (image.digest, image.manifest, image.config)
    assert registry.count("GET", image.layers[0].descriptor.digest) == 0
    assert same_layers(back, image)
    assert same_layers(back, image)
    assert registry.count("GET", image.layers[0].descriptor.digest) == 1


def test_second_push_sends_nothing(registry: FakeRegistry, recorded: Recording) -> None:
    """It makes two HEAD requests."""
    image = small_image()
    push(recorded.remote, image, [name(registry)])
    registry.requests.clear()
    assert push(recorded.remote, image, [name(registry)]).sent == 0
    assert {request.method for request in registry.requests} == {"HEAD"}
    assert len(registry.requests) == 2


def test_pushed_index_is_pulled(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """With its digest and all images. A missing platform is an error."""
    index = small_index()
    push(recorded.remote, index, [name(registry)])
    back = pull_index(recorded.remote, name(registry), store)
    assert (back.digest, back.index) == (index.digest, index.index)
    assert [image.digest for image in back.images] == [image.digest for image in index.images]
    assert pull(recorded.remote, name(registry), Platform("linux", "arm64"), store).platform == ARM64
    with pytest.raises(ImageError, match=r"no image for linux/s390x; it has: linux/amd64, linux/arm64/v8"):
        pull(recorded.remote, name(registry), Platform("linux", "s390x"), store)


def test_cached_image_with_digest_needs_no_request(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    index = small_index()
    push(recorded.remote, index, [name(registry)])
    pinned = name(registry).pinned(index.digest)
    pull(recorded.remote, pinned, AMD64, store)
    registry.requests.clear()
    assert pull(recorded.remote, pinned, AMD64, store).digest == index.images[0].digest
    assert registry.requests == []


def test_base_layers_are_mounted(registry: FakeRegistry, recorded: Recording) -> None:
    """They are not opened."""
    base = small_layer("base", b"base" * 1000)
    push(recorded.remote, small_image(base), [name(registry, "base:1")])

    def never() -> io.BytesIO:
        raise AssertionError("the base's layer was opened")

    ours = small_layer("ours", b"ours")
    image = small_image(replace(base, open=never), ours)
    pushed = push(recorded.remote, image, [name(registry)], find=lambda _digest: "base")
    assert pushed.sent == ours.descriptor.size + len(image.config) + 2 * len(image.manifest)
    assert pushed.mounted == 1


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_blob_is_sent_if_the_mount_fails(status: int, registry: FakeRegistry, recorded: Recording) -> None:
    """The user may not read the other repository, or the registry does not support mounts."""
    push(recorded.remote, small_image(), [name(registry, "base:1")])
    registry.fault("POST", "from=base", status, times=9, headers={"www-authenticate": "Basic"})
    pushed = push(recorded.remote, small_image(), [name(registry)], find=lambda _digest: "base")
    assert (len(pushed.added), pushed.mounted) == (2, 0)
    assert push(recorded.remote, small_image(), [name(registry, "c:1")], find=lambda _digest: "none").mounted == 0


def push_and_pull(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    image = small_image(small_layer("data", bytes(range(256)) * 40))
    push(recorded.remote, image, [name(registry)])
    back = pull(recorded.remote, name(registry), AMD64, store)
    assert same_layers(back, image)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("action", [408, 429, 499, 500, 502, 503, 504, 522, "reset", "close", "lost"])
@pytest.mark.parametrize(("method", "part"), [*STEPS, ("GET", "/token")])
def test_transient_fault_is_retried(
    method: str, part: str, action: int | str, times: int, store: Store, tmp_path: Path
) -> None:
    """A fault of any step, one or three times. Each retry writes one line."""
    with FakeRegistry(password=PASSWORD) as registry:
        recorded = Recording(login(tmp_path, registry))
        registry.fault(method, part, action, times=times)
        push_and_pull(registry, recorded, store)
        assert len(recorded.lines) == times - registry.faults[0].times
        assert all("again in" in line and registry.host in line for line in recorded.lines)
        assert sum(recorded.sleeps) < 5
        assert len(registry.repository("team/app").blobs) == 2


@pytest.mark.parametrize("action", ["cut", "short", "long", "flip"])
@pytest.mark.parametrize("part", ["/blobs/", "/manifests/"])
def test_damage_is_retried(part: str, action: str, registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    registry.fault("GET", part, action)
    push_and_pull(registry, recorded, store)
    assert len(recorded.lines) == 1


def other_bytes(handler: Handler) -> None:
    """Respond with the right number of wrong bytes."""
    registry, digest = handler.registry, handler.path.rpartition("/")[2]
    handler.reply(200, bytes(byte ^ 255 for byte in registry.repository("team/app").blobs[digest]))


def encoded_bytes(handler: Handler) -> None:
    """Respond with a Content-Encoding that was not requested (RFC 9110 §8.4)."""
    registry, digest = handler.registry, handler.path.rpartition("/")[2]
    body = gzip.compress(registry.repository("team/app").blobs[digest])
    handler.reply(200, body, {"content-encoding": "gzip"})


@pytest.mark.parametrize("action", ["short", "long", "flip", other_bytes, encoded_bytes])
def test_permanently_damaged_blob_is_an_error(
    action: str | Callable[[Handler], None], registry: FakeRegistry, recorded: Recording, store: Store
) -> None:
    """After two attempts. The cache does not contain the blob."""
    image = small_image()
    push(recorded.remote, image, [name(registry)])
    layer = pull(recorded.remote, name(registry), AMD64, store).layers[0]
    registry.fault("GET", layer.descriptor.digest, action, times=99)
    kept = set((store.root / "blobs").iterdir())
    with pytest.raises(RegistryError, match=r"get blob sha256:.*gave up after 2 tries") as caught:
        layer.open()
    assert not isinstance(caught.value, TransientError)
    assert registry.count("GET", layer.descriptor.digest) == 2
    assert set((store.root / "blobs").iterdir()) == kept
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(("header", "low", "high"), [
    ("1", 1, 1), ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0), ("in half a minute", 25, 30), (None, 0.2, 0.4),
    ("soon", 0.2, 0.4), ("60", 60, 60),
])  # fmt: skip
@pytest.mark.parametrize(("method", "part"), [("PUT", "/manifests/"), ("GET", "/blobs/")])
def test_retry_after_is_followed(
    method: str, part: str, header: str | None, low: float, high: float, registry: FakeRegistry, recorded: Recording,
    store: Store,
) -> None:
    """Seconds or a date, up to a minute. Invalid values are ignored."""
    text = formatdate(time.time() + 30, usegmt=True) if header == "in half a minute" else header
    registry.fault(method, part, 429, headers={"retry-after": text} if text else {})
    push_and_pull(registry, recorded, store)
    assert low <= recorded.sleeps[0] <= high


@pytest.mark.parametrize("header", ["86400", "Fri, 31 Dec 2999 23:59:59 GMT", "9" * 500])
def test_too_long_retry_after_is_an_error(header: str, registry: FakeRegistry, recorded: Recording) -> None:
    """The message contains the time."""
    registry.fault("PUT", "/manifests/", 429, headers={"retry-after": header})
    with pytest.raises(TransientError, match=r"asks to wait \d+ s: try again later"):
        push(recorded.remote, small_image(), [name(registry)])
    assert recorded.sleeps == []


@pytest.mark.parametrize("action", ["hang", "drip"])
def test_hanging_and_slow_registry_times_out(action: str, registry: FakeRegistry, store: Store) -> None:
    recorded = Recording(idle=0.3)
    image = small_image(small_layer("data", b"x" * 90000))
    push(recorded.remote, image, [name(registry)])
    layer = pull(recorded.remote, name(registry), AMD64, store).layers[0]
    registry.fault("GET", layer.descriptor.digest, action, times=9)
    with pytest.raises(TransientError, match=r"(sent nothing for|bytes came in) 0 s; gave up after 2 tries"):
        layer.open()


def test_permanent_push_failure_leaves_no_tag(registry: FakeRegistry, recorded: Recording) -> None:
    """The error names the step, the status, and the number of existing blobs."""
    registry.fault("PUT", "/blobs/uploads/", 500, times=999)
    with pytest.raises(TransientError) as caught:
        push(recorded.remote, small_image(), [name(registry)])
    message = str(caught.value)
    assert "push blob sha256:" in message
    assert "500 Internal Server Error; gave up after 6 tries (0 of 2 blobs are there; nothing is tagged)" in message
    assert registry.count("PUT", "/manifests/") == 0
    assert registry.count("PUT", "/blobs/uploads/") == registry.count("POST", "/blobs/uploads/") == 12


@pytest.mark.parametrize(("method", "part", "midway"), [
    *((*step, False) for step in STEPS), *((*step, True) for step in STEPS if step[0] == "GET")
])
def test_expired_token_is_renewed(method: str, part: str, midway: bool, store: Store, tmp_path: Path) -> None:
    """At any step. The blob is sent in a new upload session.

    With `midway` the token expires and the connection breaks in the middle of a body.
    """
    with FakeRegistry(password=PASSWORD) as registry:

        def expire(handler: Handler) -> None:
            if midway:
                handler.mode = "cut"
                handler.route()
            registry.tokens.clear()
            if not midway:
                handler.route()

        registry.fault(method, part, expire)
        push_and_pull(registry, Recording(login(tmp_path, registry)), store)
        assert registry.faults[0].times == 0
        assert registry.count("GET", "/token") <= 4


def test_invalid_tokens_are_not_requested_forever(store: Store, tmp_path: Path) -> None:
    """At most three tokens are requested. The error says how to log in."""
    with FakeRegistry(password=PASSWORD, token_lifetime=-1) as registry:
        recorded = Recording(login(tmp_path, registry))
        with pytest.raises(RegistryError, match=r"401 Unauthorized.*docker login 127.0.0.1"):
            push(recorded.remote, small_image(), [name(registry)])
        assert registry.count("GET", "/token") <= 3
        with pytest.raises(RegistryError, match=r"401 Unauthorized .*docker login 127.0.0.1"):
            resolve(recorded.remote, name(registry), store)
        assert registry.count("GET", "/token") <= 6


def test_permanent_401_in_the_middle_of_a_push(tmp_path: Path) -> None:
    """After the first blob all tokens are invalid. The error says how to log in."""
    with FakeRegistry(password=PASSWORD) as registry:
        recorded = Recording(login(tmp_path, registry))

        def expire(handler: Handler) -> None:
            handler.route()
            registry.tokens.clear()
            registry.token_lifetime = -1

        registry.fault("PUT", "/blobs/uploads/", expire)
        # Both blobs may be uploading already: then the manifest is denied.
        with pytest.raises(RegistryError, match=r"401 Unauthorized.*docker login 127.0.0.1") as caught:
            push(recorded.remote, small_image(), [name(registry)])
        assert registry.count("GET", "/token") <= 3
        assert re.search(r"(\d of \d|all) blobs are there", str(caught.value))
        assert not any(repository.manifests for repository in registry.repositories.values())


@pytest.mark.parametrize(("method", "part"), STEPS)
def test_permanent_401_of_one_step(method: str, part: str, store: Store, tmp_path: Path) -> None:
    """It is tried twice, with different tokens. The error says how to log in."""
    with FakeRegistry(password=PASSWORD) as registry:
        challenge = {"www-authenticate": f'Bearer realm="{registry.origin}/token",service="fake"'}
        registry.fault(method, part, 401, times=99, headers=challenge)
        recorded = Recording(login(tmp_path, registry))
        with pytest.raises(RegistryError, match=r"401 Unauthorized.*docker login 127.0.0.1") as caught:
            push_and_pull(registry, recorded, store)
        assert not isinstance(caught.value, TransientError)
        assert registry.count(method, part) <= 4  # two blobs, two tries
        assert sum(recorded.sleeps) == 0


@pytest.mark.parametrize("status", [404, 416])
def test_new_session_after_a_lost_one(status: int, registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    registry.fault("PUT", "/blobs/uploads/", status)
    push_and_pull(registry, recorded, store)
    assert registry.count("POST", "/blobs/uploads/") == 3


def test_relative_and_foreign_upload_locations(recorded: Recording, store: Store, tmp_path: Path) -> None:
    """A location at another port gets no Authorization."""
    with FakeRegistry(password=PASSWORD, scheme="basic") as registry, FakeRegistry() as other:
        recorded = Recording(login(tmp_path, registry))
        registry.upload_origin = "relative"
        registry.upload_headers = {"oci-chunk-min-length": "1000000"}
        push_and_pull(registry, recorded, store)
        registry.upload_origin = other.origin
        other.uploads = registry.uploads
        other.repositories = registry.repositories
        push(recorded.remote, small_image(small_layer("new", b"new")), [name(registry)])
        assert other.count("PUT", "/blobs/uploads/") == 2
        assert all("authorization" not in request.headers for request in other.requests)


def test_early_error_response_is_read(registry: FakeRegistry, recorded: Recording) -> None:
    """The error has the message of the response, not "broken pipe"."""
    registry.fault("PUT", "/blobs/uploads/", "early", times=9)
    big = small_layer("big", b"")
    size = 50 << 20
    descriptor = replace(big.descriptor, size=size)
    image = small_image(replace(big, descriptor=descriptor, open=lambda: io.BytesIO(bytes(size))))
    with pytest.raises(RegistryError, match="blobs of this size are not welcome here"):
        push(recorded.remote, image, [name(registry)])


def test_error_without_a_password_says_how_to_log_in(store: Store) -> None:
    for scheme in ("bearer", "basic"):
        with FakeRegistry(password=PASSWORD, scheme=scheme) as registry:
            remote, reference = Recording().remote, name(registry)
            with pytest.raises(RegistryError, match=r"team/app:1.*log in with `docker login 127.0.0.1:\d+`"):
                resolve(remote, reference, store)


def test_unknown_image_is_not_retried(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    reason = r"team/app:1: get manifest: 404 Not Found \(MANIFEST_UNKNOWN.*check the name"
    with pytest.raises(RegistryError, match=reason):
        pull(recorded.remote, name(registry), AMD64, store)
    assert recorded.sleeps == []


def test_http_only_for_loopback_and_listed_registries(recorded: Recording) -> None:
    remote = Recording({"HATCH_DOCKER_INSECURE_REGISTRIES": "old.registry.example:5000, x.example"}).remote
    for host, scheme in {
        "registry.example": "https", "old.registry.example:5000": "http", "old.registry.example": "https",
        "localhost:5000": "http", "127.0.0.9:1": "http", "[::1]:5000": "http", "10.0.0.1:5000": "https",
    }.items():
        assert remote.url(Reference(host, "app", "1"), "").startswith(f"{scheme}://{host}/v2/app/")


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_error_response_with_credentials_is_redacted(scheme: str, kind: str, store: Store, tmp_path: Path) -> None:
    """The registry's message contains the password or token of the request."""
    with FakeRegistry(password=PASSWORD, scheme=scheme) as registry:

        def quote(handler: Handler) -> None:
            sent = handler.headers.get("authorization", "")
            if not sent:
                handler.route()
                return
            message = f"no access with {sent}, in plain {PASSWORD if scheme == 'basic' else sent}"
            if kind == "text/plain":
                handler.reply(403, message.encode(), {"content-type": kind})
            else:
                handler.error(403, "DENIED", message)

        recorded = Recording(login(tmp_path, registry))
        push(recorded.remote, small_image(), [name(registry)])
        for method in ("GET", "HEAD", "POST"):
            registry.fault(method, "/v2/", quote, times=9)
        with pytest.raises(RegistryError, match=r"403 Forbidden \(.*no access with \w+ \*\*\*, in plain"):
            pull(recorded.remote, name(registry), AMD64, store)
        with pytest.raises(RegistryError, match="403 Forbidden"):
            push(recorded.remote, small_image(small_layer("x", b"x")), [name(registry)])


def test_errors_and_lines_contain_no_secrets(store: Store, tmp_path: Path) -> None:
    """For faults of every step."""
    steps: list[Callable[[Remote, FakeRegistry], object]] = [
        lambda remote, registry: push(remote, small_image(), [name(registry)]),
        lambda remote, registry: resolve(remote, name(registry), store),
    ]
    for method, part in [*STEPS, ("GET", "/token")]:
        for action in (500, 403, "reset"):
            with FakeRegistry(password=PASSWORD) as registry:
                recorded = Recording(login(tmp_path, registry))
                registry.fault(method, part, action, times=99)
                text = []
                for step in steps:
                    try:
                        step(recorded.remote, registry)
                    except RegistryError as error:
                        text.append(str(error) + repr(error.__cause__))
                shown = "".join(recorded.lines + text) + repr(recorded.remote)
                assert not any(secret in shown for secret in [PASSWORD, *registry.tokens])
