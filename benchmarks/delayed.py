"""A proxy that simulates a distant registry: it delays connections and responses, and limits the rate."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

DELAY = 0.1  # seconds from a request to its response


@contextmanager
def delayed(host: str, delay: float = DELAY, rate: float = 0.0) -> Iterator[str]:
    """Yield the address of a local port that forwards connections to a registry.

    `delay`: seconds to open a connection, and for each response. `rate`: the maximum bytes per second in total.
    """
    where, port = host.split(":")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        while True:
            try:
                data = source.recv(1 << 16)
                arrives = time.monotonic() + delay / 2
                queue.append((arrives, sink, data))
            except OSError:
                return
            wake.set()
            if not data:
                return

    queue: list[tuple[float, socket.socket, bytes]] = []
    wake = threading.Event()

    def deliver() -> None:
        while True:
            if not queue:
                wake.wait()
                wake.clear()
                continue
            arrives, sink, data = queue.pop(0)
            time.sleep(max(0.0, arrives - time.monotonic()) + (len(data) / rate if rate else 0.0))
            try:
                sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)
            except OSError:
                continue

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=connect, args=(client,), daemon=True).start()

    def connect(client: socket.socket) -> None:
        time.sleep(delay)  # the handshake
        upstream = socket.create_connection((where, int(port)))
        for pair in ((client, upstream), (upstream, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        for work in (accept, deliver):
            threading.Thread(target=work, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
