"""HTTP responses, and one-line messages for failed requests.

Error bodies are parsed by the distribution-spec 1.1 (Error Codes).
"""

import base64
import contextlib
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http.retry import Retryable

CONNECT = 10.0  # seconds to open a connection, or to send a block of an upload


@dataclass(frozen=True, slots=True)
class Response:
    """A small response, read to its end. Header names are in lower case; `url` is the URL after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class StatusError(RegistryError):
    """A response with an unexpected status."""

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response = response


def redact_credentials(body: bytes, authorization: str) -> bytes:
    """Return the body of an error response without the request's credentials: some servers repeat the request."""
    scheme, _space, value = authorization.partition(" ")
    words = [value.encode()]
    if scheme == "Basic":
        words += base64.b64decode(value).split(b":", 1)[1:]
    for word in filter(None, words):
        body = body.replace(word, b"***")
    return body


def check_status(statuses: Iterable[int], response: Response) -> Response:
    """Return the response if its status is one of `statuses`; else raise StatusError with the server's message."""
    if response.status not in statuses:
        raise StatusError(explain(response), response)
    return response


def explain(response: Response) -> str:
    """Return the status and the server's message, if any (distribution-spec, Error Codes), on one line."""
    from http.client import responses

    text = f"{response.status} {responses.get(response.status, '')}".strip()
    message = ""
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        first = json.loads(response.body[:65536])["errors"][0]
        message = " ".join(str(first[key]) for key in ("code", "message") if first.get(key))
    if not message and response.headers.get("content-type", "").startswith("text/plain"):
        message = response.body[:300].decode(errors="replace")
    message = "".join(char if char.isprintable() else " " for char in message)
    message = " ".join(message.split())[:300]
    return f"{text} ({message})" if message else text


def classify_error(error: Exception, url: str, reached: Container[str], idle: float) -> RegistryError:
    """Return the error for a failure of DNS, TCP, TLS or a proxy: Retryable, or RegistryError if it is permanent.

    `reached`: hosts that have responded before. `idle`: the read timeout in seconds.
    """
    import urllib3.exceptions as failed

    from hatch_docker.core.http.minimum_rate import TooSlowError

    host = urlsplit(url).hostname or "the server"
    causes = (error, error.__cause__, error.__context__)
    if slow := next((cause for cause in causes if isinstance(cause, TooSlowError)), None):
        return Retryable(f"from {host} {slow}", tries=2)
    if isinstance(error, failed.SSLError) or isinstance(error.__cause__, failed.SSLError):
        return _tls_error(error, host)
    if isinstance(error, failed.NameResolutionError) and host not in reached:
        return RegistryError(f"{host}: the name does not resolve; check it and the network")
    if isinstance(error, failed.ProxyError):
        if "Tunnel connection failed: 4" in str(error):
            return RegistryError(f"{host}: the proxy refuses ({_reason(error.original_error)})")
        return Retryable(f"the proxy does not answer ({_reason(error.original_error)})")
    if isinstance(error, failed.IncompleteRead) or isinstance(error.__cause__, failed.IncompleteRead):
        return Retryable(f"{host} closed the connection in the middle of its answer")
    if isinstance(error, failed.ConnectTimeoutError) and not isinstance(error, failed.NewConnectionError):
        return Retryable(f"{host} did not accept the connection within {CONNECT:.0f} s", tries=2)
    if isinstance(error, (failed.ReadTimeoutError, TimeoutError)):
        return Retryable(f"{host} sent nothing for {idle:.0f} s", tries=2)
    return Retryable(f"the connection to {host} broke ({_reason(error)})")


def _tls_error(error: Exception, host: str) -> RegistryError:
    """Return the error for a failure of TLS: permanent for an untrusted certificate, else Retryable."""
    import ssl

    inner, said = _innermost(error), _reason(error)
    if isinstance(inner, ssl.SSLEOFError):
        return Retryable(f"the connection to {host} broke ({said})")
    if "WRONG_VERSION_NUMBER" in said:
        return RegistryError(f"{host}: this port does not speak https")
    if isinstance(inner, ssl.SSLCertVerificationError):
        return RegistryError(f"{host}: no trusted TLS connection ({said}); for a private CA set HATCH_DOCKER_CA_BUNDLE")
    return Retryable(f"no TLS connection to {host} ({said})", tries=2, permanent=True)


def _innermost(error: BaseException) -> BaseException:
    """Return the innermost cause of an error."""
    while isinstance(inner := error.__cause__ or (error.args[-1] if error.args else None), BaseException):
        error = inner
    return error


def _reason(error: BaseException) -> str:
    """Return the text of the innermost cause of an error, without the object names that urllib3 adds."""
    error = _innermost(error)
    text = str(getattr(error, "strerror", None) or getattr(error, "verify_message", None) or error)
    return " ".join(text.split()) or type(error).__name__
