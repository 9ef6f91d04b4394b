"""The logins that a build may use on its way: of indexes, netrc, mirrors and proxies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hatch_docker.bases.apt import APT, read_passwords, read_settings
from hatch_docker.plan import Plan
from hatch_docker.urls import netrc_passwords
from hatch_docker.wheels.index import read_indexes


def logins(plan: Plan, root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What each is, and its password or token. Raises ConfigError where the index configuration cannot be read."""
    for host, password in netrc_passwords(environ).items():
        yield f"the password of {host} in netrc", password
    for mirror in (plan.base.mirror, plan.base.security_mirror):
        yield "the password of debian.mirror", _password(mirror)
    for machine, password in read_passwords(APT).items():
        yield f"the password of {machine} in apt's auth.conf", password
    for name, value in read_settings(APT).items():
        if "::proxy" in name:
            yield f"the password in apt's {name}", _password(value)
    for name, value in environ.items():
        if name.lower().endswith("_proxy"):
            yield f"the password in {name}", _password(value)
    indexes = read_indexes(root, environ)
    for index in (*indexes.indexes, *indexes.find_links):
        if index.login is not None:
            # A token may stand where the user does: https://TOKEN@host
            yield f"the login of the index {index.url}", index.login[1] or index.login[0]


def _password(url: str) -> str:
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""
