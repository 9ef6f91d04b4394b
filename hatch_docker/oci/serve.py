"""A small registry (distribution-spec 1.1, pull) on loopback, from which a daemon of this machine pulls one image.

Daemons with containerd's image store, and Podman, store blobs by digest, so a pull transfers only missing blobs. On
loopback Docker does not require TLS. Each pull has a new random password.
"""

import base64
import contextlib
import io
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from hatch_docker.core.streams import CountingStream
from hatch_docker.oci.layout import copy_layer
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Image, Layer

PORT = 47217             # always the same, because containerd stores the origin of each blob
REPOSITORY = "hatch-docker"
LONGEST_HEAD = 1 << 16   # largest request in bytes
TLS = b"\x16"            # first byte of a TLS handshake
IDLE = 60                # seconds without a byte


@dataclass(slots=True)
class ServedImage:
    """A served image: its reference, the `login` (base64 of user:password), and the number of bytes sent."""

    reference: str
    login: bytes
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size: int) -> None:
        """Add to the bytes sent."""
        with self.lock:
            self.sent += size


@contextlib.contextmanager
def serve_image(image: Image) -> Iterator[ServedImage]:
    """Serve an image on loopback during the block. Raises OSError if no port is free."""
    with _listen() as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        tag = image.digest.rpartition(":")[2]
        login = base64.b64encode(f"{REPOSITORY}:{secrets.token_hex()}".encode())
        served = ServedImage(f"{address}/{REPOSITORY}:{tag}", login)
        config = parse_manifest(image.manifest, "the manifest").config
        contents: dict[str, bytes | Layer] = {f"blobs/{layer.descriptor.digest}": layer for layer in image.layers}
        contents |= {f"blobs/{config.digest}": image.config}
        contents |= {f"manifests/{name}": image.manifest for name in (tag, image.digest)}
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):  # raised when the listener is shut down
                while True:
                    connection, _ = listener.accept()
                    connections.append(connection)
                    arguments = connection, contents, image, served
                    threads.append(threading.Thread(target=_answer, args=arguments, daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield served
        finally:
            # The daemon's pull is complete. Other connections, which may be idle, are not waited for.
            for end in (listener, *connections):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(IDLE)


def _listen() -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", PORT))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _answer(connection: socket.socket, contents: dict[str, bytes | Layer], image: Image, served: ServedImage) -> None:
    """Respond to one request and close the connection, early if a layer is damaged."""
    with contextlib.suppress(Exception), connection:
        connection.settimeout(IDLE)
        head = b""
        while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
            piece = connection.recv(LONGEST_HEAD)
            if not piece:
                return
            head += piece
            if head[:1] == TLS:  # Docker tries TLS first, and uses plain HTTP after a plain HTTP response
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                return
        first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body: bytes | Layer | None = b"{}" if path == "/v2/" else contents.get(path.removeprefix(f"/v2/{REPOSITORY}/"))
        status, more, kind = "200 OK", "", "application/octet-stream"
        if not secrets.compare_digest(headers.get("authorization", "").encode(), b"Basic " + served.login):
            status, body, more = "401 Unauthorized", b"{}", 'WWW-Authenticate: Basic realm="hatch-docker"\r\n'
        elif body is None:
            status, body = "404 Not Found", b"{}"
        elif "/manifests/" in path:
            more, kind = f"Docker-Content-Digest: {image.digest}\r\n", image.descriptor.media_type
        size = len(body) if isinstance(body, bytes) else body.descriptor.size
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {size}", f"{more}Connection: close"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        if method == "GET":
            with io.BufferedWriter(socket.SocketIO(connection, "w"), 1 << 20) as stream:
                out = CountingStream(stream, served.count)
                out.write(body) if isinstance(body, bytes) else copy_layer(body, out)
