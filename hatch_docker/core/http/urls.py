"""Rules for URLs: origins, redirects, proxies, trusted certificates, and credentials.

Error messages and texts for display contain no secret.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from hatch_docker.core.errors import ConfigError, RegistryError

PORTS = {"http": 80, "https": 443}
BUNDLES = ("HATCH_DOCKER_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
# IPv6 networks whose addresses end with an IPv4 address, to which a gateway translates: RFC 6052 §2.1, RFC 2765 §2.1.
_TRANSLATED = [ipaddress.ip_network(prefix) for prefix in ("64:ff9b::/96", "::ffff:0:0:0/96")]
Origin = tuple[str, str, int]
_ESCAPE = "; in a password write / as %2F, # as %23, ? as %3F and @ as %40"


def split(url: str) -> SplitResult:
    """Return the parts of an http or https URL; raise RegistryError for another scheme, no host or a bad port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message may quote a password
        raise RegistryError(f"{redact_url(url)[:200]!r} is not a URL{_ESCAPE if '@' in url else ''}") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or "\\" in parts.netloc:
        raise RegistryError(f"{redact_url(url)!r} is not an http or https URL")
    return parts


def origin(url: str) -> Origin:
    """Return the origin of a URL: scheme, host and port (RFC 6454). Credentials are valid for one origin."""
    parts = split(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or PORTS[parts.scheme]


def redact_url(url: str) -> str:
    """Return a URL for display: without user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    host = parts.netloc.rpartition("@")[2]
    head, _, tail = url.rpartition("@")
    scheme, mark, before = head.rpartition("://")
    if host == parts.netloc and ":" in before:  # "user:pass/word@host": an unescaped "/" in the password
        return f"{scheme}{mark}***@" + tail.partition("?")[0].partition("#")[0]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else host + parts.path


def parse(url: str) -> SplitResult:
    """Return the parts of a URL of any scheme; raise ValueError whose message contains no password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"{redact_url(url)} is not a URL{_ESCAPE if '@' in url else ''}") from None


def redact_requirement(line: str) -> str:
    """Return a requirement (valid or not) for display: without user name and password in its URL."""
    return re.sub(r"://.*@", "://***@", line, flags=re.DOTALL)


def follow(url: str, location: str) -> str:
    """Return the target of a redirect or of an upload's `Location`; raise RegistryError for a forbidden target.

    Forbidden are http after https, other schemes, and a private IP address other than the host of `url`: a registry
    must not redirect to machines of the user's network.
    """
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
    except ValueError as error:
        raise RegistryError(f"{redact_url(url)} leads to something that is not a URL") from error
    # In "https://a\@b" the host is b for urllib but a for urllib3: we would check b and connect to a.
    if parts.scheme not in PORTS or not parts.hostname or "\\" in parts.netloc:
        raise RegistryError(f"{redact_url(url)} leads to {redact_url(target)[:200]!r}: not an http or https URL")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise RegistryError(f"{redact_url(url)} leads from https to plain http at {parts.hostname}: refused")
    if not may_redirect(urlsplit(url).hostname or "", parts.hostname):
        raise RegistryError(f"{redact_url(url)} leads to the private address {parts.hostname}: refused")
    return target


def may_redirect(host: str, target: str) -> bool:
    """Return whether a host may redirect to another host: not to a private address, except loopback to loopback."""
    try:
        address = ipaddress.ip_address(target)
    except ValueError:
        name = target.rstrip(".")
        if target != host and re.fullmatch(r"\d+|0[xX][0-9a-fA-F]*", name.rpartition(".")[2]):
            # resolvers accept "2852039166" and "0x7f.1" as addresses (inet_aton(3)), `ipaddress` does not
            return False
        return target == host or (name != "localhost" and not name.endswith(".localhost")) or is_loopback(host)
    return target == host or _is_public(address) or (address.is_loopback and is_loopback(host))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address is public. Of an IPv6 address that contains an IPv4 address both must be public."""
    if isinstance(address, ipaddress.IPv6Address):
        translated = any(address in network for network in _TRANSLATED)
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if translated else None
        inner = address.ipv4_mapped or address.sixtofour or last
        if inner is not None and not inner.is_global:
            return False
    return address.is_global and not address.is_multicast


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or `localhost`. No name is resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def basic(username: str, password: str) -> str:
    """Return the value of an `Authorization: Basic` header (RFC 7617); raise RegistryError for invalid Unicode."""
    try:
        return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    except UnicodeEncodeError:  # a lone surrogate, from JSON or an environment variable
        raise RegistryError("the user name or the password is not valid Unicode: set it again") from None


def with_credentials(url: str, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the URL without user name and password, and the headers for its credentials.

    Credentials come from the URL, otherwise from netrc ($NETRC or `~/.netrc`), where the entry `default` is ignored.
    """
    parts = split(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.username is not None:
        return bare, {"authorization": basic(unquote(parts.username), unquote(parts.password or ""))}
    entry = _netrc(environ).get(parts.hostname or "")
    return bare, {"authorization": basic(entry[0], entry[2])} if entry else {}


def netrc_passwords(environ: Mapping[str, str]) -> dict[str, str]:
    """Return all passwords in the user's netrc, by host."""
    return {host: entry[2] for host, entry in _netrc(environ).items()}


def _netrc(environ: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    path = Path(environ["NETRC"]) if environ.get("NETRC") else Path(environ.get("HOME", "/"), ".netrc")
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises if a directory is not readable
        return {}
    import netrc

    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return netrc.netrc(str(path)).hosts
    return {}


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL's proxy by `https_proxy` or `http_proxy`, `all_proxy` and `no_proxy`, or None."""
    parts = split(url)
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    value = next((environ[key] for name in names for key in (name, name.upper()) if environ.get(key)), None)
    if value is None or _no_proxy(parts, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return value if "://" in value else f"http://{value}"


def _no_proxy(parts: SplitResult, patterns: str) -> bool:
    host = parts.hostname or ""
    with_port = f"{host}:{parts.port or PORTS[parts.scheme]}"
    if is_loopback(host):
        return True
    for pattern in (item.strip().lower() for item in patterns.split(",")):
        if pattern == "*":
            return True
        name = pattern.removeprefix("*").lstrip(".")
        if name and (name in (host, with_port) or host.endswith("." + name)):
            return True
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False):
                return True
    return False


def proxy_credentials(proxy: str) -> tuple[str, dict[str, str]]:
    """Return a proxy's URL without user name and password, and the header for them. Raises ConfigError."""
    try:
        parts = split(proxy)
    except RegistryError as error:
        raise ConfigError(f"the proxy of the environment cannot be used: {error}") from error
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.username is None:
        return bare, {}
    return bare, {"proxy-authorization": basic(unquote(parts.username), unquote(parts.password or ""))}


def trust(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the location of trusted CA certificates as arguments for urllib3, {} for Python's default.

    Raises ConfigError if a variable names a file that does not exist.
    """
    if (name := next((name for name in BUNDLES if environ.get(name)), None)) is not None:
        path = Path(environ[name])
        if not os.path.exists(path):  # noqa: PTH110 - as above
            raise ConfigError(f"{name} names {path}, which does not exist")
        return {"ca_cert_dir" if path.is_dir() else "ca_certs": str(path)}
    import ssl

    default = ssl.get_default_verify_paths()
    if default.cafile or (default.capath and any(Path(default.capath).iterdir())):
        return {}
    return next(({"ca_certs": path} for path in CA_FILES if Path(path).is_file()), {})
