"""Authentication at registries: stored credentials of Docker and Podman, challenges, tokens.

Implements Basic authentication and the token flow of the distribution project
(https://distribution.github.io/distribution/spec/auth/token/, .../oauth/).
"""

import base64
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hatch_docker.core.errors import ProgramError, RegistryError
from hatch_docker.core.http import urls
from hatch_docker.core.http.client import Client
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.oci.reference import DOCKER_HUB

HELPER_TIMEOUT = 30.0  # seconds
TOKEN_LIMIT = 1 << 20  # bytes
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name with a password, or an identity token. `source`: the file or credential helper it was read from."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)


def credential_for(registry: str, environ: Mapping[str, str], repository: str = "") -> Credential | None:
    """Return the credential that Docker or Podman have stored for a registry, or None.

    Read are $REGISTRY_AUTH_FILE, Docker's config.json ($DOCKER_CONFIG, ~/.docker) and Podman's auth.json
    ($XDG_RUNTIME_DIR/containers, ~/.config/containers), in each credHelpers, credsStore and auths. Raises
    RegistryError for a damaged file or a credential helper that fails.
    """
    for path in login_files(environ):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RegistryError(f"cannot read the credentials in {path}: {error.strerror}") from error
        if found := _from_config(data, path, registry, repository, environ):
            return replace(found, source=found.source or str(path))
    return None


def login_files(environ: Mapping[str, str]) -> Iterable[Path]:
    """Yield the paths of credential files in the order in which they are read. The files may not exist."""
    home = Path(environ.get("HOME") or "/nonexistent")
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"], "containers", "auth.json")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers", "auth.json")


def _from_config(
    data: bytes, path: Path, registry: str, repository: str, environ: Mapping[str, str]
) -> Credential | None:
    try:
        config = json.loads(data or b"{}")
        helpers, store, auths = (config.get(name) for name in ("credHelpers", "credsStore", "auths"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise RegistryError(f"{path} is not a JSON object; correct it or log in again") from error
    if isinstance(helpers, dict):
        for key, name in helpers.items():
            if _host(key) == registry:
                return _from_helper(str(name), registry, environ)
    if isinstance(store, str) and store:  # not installed on some of the machines that share a home directory
        installed = shutil.which(f"docker-credential-{store}", path=environ.get("PATH", ""))
        if installed and (found := _from_helper(store, registry, environ)):
            return found
    if not isinstance(auths, dict):
        return None
    # A key in Podman's file may include a repository: the longest matching key is used.
    wanted = f"{registry}/{repository}/"
    keys = [key for key in auths if wanted.startswith(_host(key) + "/")]
    return _from_entry(auths[max(keys, key=len)], path, registry) if keys else None


def _host(key: str) -> str:
    """Return the registry (with Podman perhaps a repository too) of a key in a credential file."""
    bare = key.partition("://")[2] or key
    bare = re.sub(r"/(v[12]/?)?$", "", bare)
    host, slash, rest = bare.partition("/")
    return (DOCKER_HUB if host in _HUB_NAMES else host) + slash + rest


def _from_entry(entry: object, path: Path, registry: str) -> Credential | None:
    if not isinstance(entry, dict):
        raise RegistryError(f"{path}: the entry of {registry} is not an object; log in again")
    username, password = entry.get("username"), entry.get("password")
    if entry.get("auth"):
        try:
            text = base64.b64decode(entry["auth"], validate=True).decode()
        except (ValueError, TypeError) as error:
            raise RegistryError(f"{path}: auth of {registry} is not base64; log in again") from error
        username, colon, password = text.partition(":")
        if not colon:
            raise RegistryError(f"{path}: auth of {registry} has no password; log in again")
    token = entry.get("identitytoken")
    if isinstance(token, str) and token.isascii() and token:
        return Credential(str(username or ""), identity_token=token)
    if isinstance(username, str) and isinstance(password, str) and username:
        return Credential(username, password.rstrip("\0"))
    return None


def _from_helper(name: str, registry: str, environ: Mapping[str, str]) -> Credential | None:
    program = f"docker-credential-{name}"
    key = _HUB_KEY if registry == DOCKER_HUB else registry
    if not re.fullmatch(r"[\w.+-]+", name):
        raise RegistryError(f"{name[:100]!r} is not the name of a credential helper")
    try:
        output = run([program, "get"], env=environ, stdin=key.encode(), timeout=HELPER_TIMEOUT)
        value = json.loads(output)
        username, secret = value["Username"], value["Secret"]
    except ProcessFailed as error:
        if "credentials not found" in error.output.lower():
            return None
        reason = (error.output.splitlines() or ["no output"])[-1][:200]
        if '"Secret"' in error.output:  # the helper printed the secret before it failed: do not show its output
            reason = f"status {error.status}"
        raise RegistryError(f"{program} gives no credentials for {registry}: {reason}") from error
    except ProgramError as error:
        raise RegistryError(f"credentials for {registry}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise RegistryError(f"{program} did not answer with credentials for {registry}")
    if username == "<token>" and secret.isascii():
        return Credential("", identity_token=secret, source=program)
    return Credential(username, secret, source=program) if username and secret else None


_ITEM = re.compile(
    r'[\s,]*(?:(?P<key>[\w-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+))|(?P<scheme>[\w-]+))'
)


def parse_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """Return the challenges of a `WWW-Authenticate` header (RFC 9110 §11.6.1), up to the first invalid one.

    A challenge is a scheme and its parameters. Schemes and names of parameters are in lower case.
    """
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _ITEM.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif found:
            quoted = match["quoted"]
            value = match["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(match["key"].lower(), value)
    return found


def authorize(
    client: Client, url: str, header: str, credential: Credential | None, scopes: Iterable[str], login: str
) -> str:
    """Return the `Authorization` header for a challenge: `header` is the registry's `WWW-Authenticate`.

    `scopes`: the scopes of the requested token. `login`: advice for error messages. Makes one attempt. Raises
    RegistryError if the request is denied, Retryable for a transient failure of the token server.
    """
    challenges = dict(reversed(parse_challenges(header)))
    if "bearer" in challenges:
        return "Bearer " + _token(client, url, challenges["bearer"], credential, scopes, login)
    if "basic" in challenges:
        if credential is None or not credential.username:
            raise RegistryError(f"it requires a password: {login}")
        return urls.basic(credential.username, credential.password)
    raise RegistryError(f"its authentication method is unknown ({header[:100]!r})")


def _token(
    client: Client, url: str, challenge: Mapping[str, str], credential: Credential | None, scopes: Iterable[str],
    login: str,
) -> str:
    realm = check_realm(url, challenge.get("realm", ""))
    merged = merge_scopes([*scopes, *challenge.get("scope", "").split()])
    query = [("service", challenge["service"])] if "service" in challenge else []
    if credential and credential.identity_token:
        form = [
            ("grant_type", "refresh_token"), ("client_id", "hatch-docker"), *query,
            ("refresh_token", credential.identity_token), ("scope", " ".join(merged)),
        ]
        response = client.send(
            "POST", realm, headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(), limit=TOKEN_LIMIT, redirects=0,
        )
    else:
        headers = {}
        if credential:
            headers["authorization"] = urls.basic(credential.username, credential.password)
        query += [("scope", scope) for scope in merged]
        target = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        response = client.send("GET", target, headers=headers, limit=TOKEN_LIMIT)
    if response.status in (400, 401, 403):
        refused = "refuses these credentials" if credential else "gives no token without credentials"
        raise RegistryError(f"{urls.redact_url(realm)} {refused} ({response.status}): {login}")
    if response.status != 200:
        raise RegistryError(f"{urls.redact_url(realm)} gives no token ({response.status})")
    try:
        value: Any = json.loads(response.body)
        token = value.get("token") or value["access_token"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise RegistryError(f"{urls.redact_url(realm)} did not answer with a token")
    return token


def check_realm(url: str, realm: str) -> str:
    """Return the URL of the token server. Raises RegistryError unless it uses https or has the registry's origin."""
    target = urls.follow(url, realm) if realm else ""
    if not target or not (target.startswith("https:") or urls.origin(target) == urls.origin(url)):
        where = urls.redact_url(realm)[:200]
        raise RegistryError(f"its token server {where!r} does not use https: refused")
    return target


def merge_scopes(scopes: Iterable[str]) -> list[str]:
    """Return one scope for each resource, with all its actions, in the order of the resources."""
    merged: dict[str, dict[str, None]] = {}
    for scope in scopes:
        resource, _colon, actions = scope.rpartition(":")
        merged.setdefault(resource, {}).update(dict.fromkeys(actions.split(",")))
    return [f"{resource}:{','.join(actions)}" for resource, actions in merged.items()]
