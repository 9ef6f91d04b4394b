"""Passwords of indexes that the user's keyring has: asked of the program `keyring`, where uv or pip are told to.

As uv asks (its `keyring-provider`): for the index's URL, then for its host, by the user name that the URL holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hatch_docker.core.errors import ProgramError, RegistryError
from hatch_docker.core.process import ProcessFailed, run

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.wheels.index import Index, Indexes

TIMEOUT = 60.0  # seconds: somebody may have to unlock it
_known: dict[tuple[str, str, str], str] = {}  # by URL, user and PATH; "" where it has nothing


def with_keyring(indexes: Indexes, ctx: Context) -> Indexes:
    """The indexes with the passwords that the keyring has for them; the same where nobody asks for a keyring.

    Each is asked for once in a process, and is a secret of the build from then on. Raises RegistryError where there is
    no `keyring` to ask, or where it is not done in time.
    """
    if not indexes.keyring:
        return indexes

    def filled(index: Index) -> Index:
        user, password = index.login or ("", "")
        if not user or user.startswith("-") or password or not index.url.startswith("http"):
            return index
        key = (index.url, user, ctx.environ.get("PATH", ""))
        if key not in _known:
            _known[key] = _ask(index.url, user, ctx.environ)
        if not _known[key]:
            return index
        ctx.secrets.add(f"the login of the index {index.url}", _known[key])
        return replace(index, login=(user, _known[key]))

    places = (tuple(map(filled, group)) for group in (indexes.indexes, indexes.find_links))
    return replace(indexes, indexes=next(places), find_links=next(places))


def _ask(url: str, user: str, environ: Mapping[str, str]) -> str:
    for service in (url, urlsplit(url).netloc):
        try:
            found = run(["keyring", "get", service, user], env=environ, timeout=TIMEOUT).strip("\r\n")
        except ProcessFailed:  # it has no such entry
            continue
        except ProgramError as error:
            raise RegistryError(
                f"the package index {url}: {error}, though the configuration asks for keyring's passwords; install "
                "keyring, or put the password into UV_INDEX_<NAME>_PASSWORD or ~/.netrc"
            ) from error
        if found:
            return found
    return ""
