"""Pushing and pulling over TLS with broken connections.

A TLS connection that ends without close_notify causes other exceptions than a plain HTTP connection.
"""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import trustme

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.http.tls_probe import has_tls
from hatch_docker.oci.pull import pull
from hatch_docker.oci.reference import Reference, parse_reference
from tests.fakes.images import AMD64, small_image, small_layer
from tests.fakes.network import PASSWORD, Recording, login_for_example, serve_tls
from tests.fakes.registry import FakeRegistry, push
from tests.fakes.registry_proxy import SINGLE, STEPS
from tests.validate import validate

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks", "registry_example")

IMAGE = small_image(small_layer("data", bytes(range(256)) * 2000))


class FaultyProxy:
    """A proxy before a server. `faults`: the faults of the next connections, in order.

    `close` and `reset` end the connection after the client's first bytes, `garbage` responds with invalid TLS, `flip`
    alters a byte of the first encrypted response.
    """

    def __init__(self, port: int, faults: list[str]) -> None:
        self.upstream, self.faults = port, faults
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # raised when the test ends
            while True:
                client, _ = self.server.accept()
                fault = self.faults.pop(0) if self.faults else ""
                threading.Thread(target=self.connect, args=(client, fault), daemon=True).start()

    def connect(self, client: socket.socket, fault: str) -> None:
        if fault in ("close", "reset", "garbage"):
            client.recv(1 << 16)
            if fault == "garbage":
                client.sendall(b"\x16\x03\x03" + bytes(100))
            if fault == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        upstream = socket.create_connection(("127.0.0.1", self.upstream), 60)
        threading.Thread(target=pump, args=(client, upstream, False), daemon=True).start()
        pump(upstream, client, fault == "flip")


def pump(source: socket.socket, target: socket.socket, flip: bool) -> None:
    seen = 0
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            seen += 1
            target.sendall(data[:-1] + bytes([data[-1] ^ 1]) if flip and seen == 3 else data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    """A registry with TLS under a host name that is not loopback."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    registry = FakeRegistry(password=PASSWORD)
    serve_tls(registry, authority)
    registry.upload_origin = "relative"
    with registry:
        yield registry


def port_of(registry: FakeRegistry) -> int:
    return int(registry.server.server_address[1])


def client_for(registry: FakeRegistry, directory: Path, port: int) -> tuple[Recording, Reference]:
    """Return a client with the password and the CA certificate, and the name of an image at a port."""
    environ = login_for_example(directory, registry)
    path = directory / "config.json"
    path.write_text(path.read_text().replace(f":{port_of(registry)}", f":{port}"))
    registry.realm = f"https://registry.example:{port}/token"
    recorded = Recording({**environ, "HATCH_DOCKER_CA_BUNDLE": str(directory / "ca.pem")}, idle=2.0)
    return recorded, parse_reference(f"registry.example:{port}/team/app:1")


def push_and_pull(recorded: Recording, reference: Reference, directory: Path) -> None:
    push(recorded.remote, IMAGE, [reference])
    back = pull(recorded.remote, reference, AMD64, open_store(directory / "cache"))
    assert back.digest == IMAGE.digest
    validate(back)


@pytest.mark.parametrize(("step", "fault"), SINGLE)
def test_broken_tls_connection_is_retried(step: str, fault: str, registry: FakeRegistry, tmp_path: Path) -> None:
    """The faults of SINGLE."""
    recorded, reference = client_for(registry, tmp_path, port_of(registry))
    registry.fault(*STEPS[step], fault)
    push_and_pull(recorded, reference, tmp_path)
    assert registry.faults[0].times == 0
    assert len(recorded.lines) == 1
    assert len(registry.repository("team/app").blobs) == 2


@pytest.mark.parametrize(("fault", "times"), [("close", 3), ("reset", 3), ("garbage", 1), ("flip", 1)])
def test_broken_handshake_is_retried(fault: str, times: int, registry: FakeRegistry, tmp_path: Path) -> None:
    """Before or during the handshake, such as by a load balancer that restarts."""
    with FaultyProxy(port_of(registry), [fault] * times) as proxy:
        recorded, reference = client_for(registry, tmp_path, proxy.port)
        push_and_pull(recorded, reference, tmp_path)
    assert (proxy.faults, len(recorded.lines)) == ([], times)
    assert all("connection to registry.example" in line and "again in" in line for line in recorded.lines)


@pytest.mark.parametrize(("fault", "kind", "message"), [
    ("close", TransientError, r"broke \(.*EOF occurred.*; gave up after 6 tries"),
    ("garbage", RegistryError, r"no TLS connection to registry\.example \(.*; gave up after 2 tries"),
])  # fmt: skip
def test_error_for_a_failed_handshake(
    fault: str, kind: type[RegistryError], message: str, registry: FakeRegistry, tmp_path: Path
) -> None:
    """Without the advice for an untrusted certificate."""
    with FaultyProxy(port_of(registry), [fault] * 99) as proxy:
        recorded, reference = client_for(registry, tmp_path, proxy.port)
        with pytest.raises(RegistryError, match=message) as caught:
            push(recorded.remote, IMAGE, [reference])
    assert type(caught.value) is kind
    assert "HATCH_DOCKER_CA_BUNDLE" not in str(caught.value)


def test_early_error_response_is_read_over_tls(registry: FakeRegistry, tmp_path: Path) -> None:
    """The error has the message of the response, not that of the broken connection."""
    recorded, reference = client_for(registry, tmp_path, port_of(registry))
    registry.fault("PUT", "/blobs/uploads/", "early", times=9)
    size = 50 << 20
    big = small_layer("big", b"")
    layer = replace(big, descriptor=replace(big.descriptor, size=size), open=lambda: io.BytesIO(bytes(size)))
    with pytest.raises(RegistryError, match="blobs of this size are not welcome here"):
        push(recorded.remote, small_image(layer), [reference])


@pytest.mark.parametrize("trusted", [True, False])
def test_registry_on_loopback_with_tls(trusted: bool, tmp_path: Path) -> None:
    """TLS is tried first, and the certificate is verified. A registry without TLS is used by HTTP."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FakeRegistry() as plain, FakeRegistry() as registry:
        serve_tls(registry, authority, "127.0.0.1")
        registry.upload_origin = "relative"
        recorded = Recording({"HATCH_DOCKER_CA_BUNDLE": str(tmp_path / "ca.pem")} if trusted else {}, idle=2.0)
        push_and_pull(recorded, parse_reference(f"{plain.host}/team/app:1"), tmp_path)
        reference = parse_reference(f"{registry.host}/team/app:1")
        if trusted:
            push_and_pull(recorded, reference, tmp_path)
            assert recorded.remote.schemes == {plain.host: "http", registry.host: "https"}
        else:
            with pytest.raises(RegistryError, match="no trusted TLS connection"):
                push_and_pull(recorded, reference, tmp_path)
            assert registry.requests == []


def test_probe_of_a_plain_http_server(tmp_path: Path) -> None:
    """The random bytes of the ClientHello may contain no line break; one is sent after them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for _ in range(20):
                client, _ = server.accept()
                with client, client.makefile("rb") as lines:
                    lines.readline()
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        assert [has_tls("127.0.0.1", port) for _ in range(20)] == [False] * 20
    assert has_tls("127.0.0.1", port) is None
