"""A probe for TLS: does a server at a port use TLS? It sends no HTTP request and does not verify the certificate."""

import contextlib
import socket
import ssl

TIMEOUT = 2.0  # seconds; the probe is used for loopback only
TLS_RECORDS = (b"\x15", b"\x16")  # alert and handshake (RFC 8446 §5.1)


def has_tls(host: str, port: int) -> bool | None:
    """Return whether a server responds to a ClientHello with a TLS record, None if it does not respond.

    Two line breaks follow the ClientHello, because a plain HTTP server waits for the end of the header.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    try:
        with socket.create_connection((host, port), TIMEOUT) as connection:
            connection.sendall(outgoing.read() + b"\r\n\r\n")
            return connection.recv(1) in TLS_RECORDS
    except OSError:
        return None
