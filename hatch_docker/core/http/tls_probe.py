"""Find out if a server speaks TLS, without a request and without trust in it."""

import contextlib
import socket
import ssl

TIMEOUT = 2.0  # seconds; servers on this machine answer at once
TLS_RECORDS = (b"\x15", b"\x16")  # alert and handshake (RFC 8446 §5.1)


def speaks_tls(host: str, port: int) -> bool | None:
    """Return whether a server answers the hello of TLS with TLS, None if it does not answer.

    Two ends of lines follow the hello, so that a server of plain HTTP does not wait for the end of its line.
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
