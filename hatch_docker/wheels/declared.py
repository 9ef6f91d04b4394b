"""Package indexes that Poetry's or PDM's table in a pyproject.toml declares, as settings of uv."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hatch_docker.core.tables import table_at

Table = Mapping[str, Any]
ALL_VERSIONS = "unsafe-best-match"        # index-strategy: the best version in all indexes
IN_ORDER = "unsafe-first-match"           # the best version in the first index that has a suitable version
PUBLIC = "pypi"                          # name of the default index in Poetry and PDM


@dataclass(frozen=True, slots=True)
class DeclaredIndexes:
    """Declared indexes as entries of uv, in order of priority; `include` and `exclude` of PDM are kept.

    They replace the user's indexes if `replaces`, otherwise they have priority over them. `strategy`: the
    index-strategy of uv that does the same as the tool, "" for the user's. `links`: pages of files. `note`: a message
    that names the indexes which are not used, with a remedy.
    """

    tool: str
    indexes: tuple[Table, ...]
    replaces: bool = False
    strategy: str = ""
    links: tuple[Table, ...] = ()
    note: str = ""


def declared_indexes(config: Table, environ: Mapping[str, str]) -> DeclaredIndexes | None:
    """Return the indexes that a pyproject.toml declares for Poetry, otherwise for PDM; None if there are none."""
    if sources := _sources(config, "poetry"):
        return _from_poetry(sources, environ)
    if sources := _sources(config, "pdm"):
        ordered = table_at(config, "tool", "pdm", "resolution").get("respect-source-order") is True
        return _from_pdm(sources, environ, ordered=ordered)
    return None


def _sources(config: Table, tool: str) -> list[Table]:
    sources = table_at(config, "tool", tool).get("source", [])
    found = [source for source in sources if isinstance(source, Mapping)] if isinstance(sources, list) else []
    return [source for source in found if source.get("url") or (tool == "poetry" and _name(source) == PUBLIC)]


def _name(source: Table) -> str:
    return str(source.get("name", "")).lower()


def _from_poetry(sources: Sequence[Table], environ: Mapping[str, str]) -> DeclaredIndexes:
    """Convert Poetry's sources. Supplemental sources are used only for packages that no primary source has."""
    entries: dict[str, list[dict[str, Any]]] = {"primary": [], "supplemental": [], "explicit": []}
    for source in sources:
        old = "default" if source.get("default") else "secondary" if source.get("secondary") else "primary"
        priority = str(source.get("priority", old)).lower()
        kind = {"default": "primary", "secondary": "supplemental"}.get(priority, priority)
        entries.setdefault(kind, []).append(_entry(source, environ, "POETRY_HTTP_BASIC"))
    public = {kind for kind, found in entries.items() if any(_name(entry) == PUBLIC for entry in found)}
    known = {kind: [entry for entry in found if _name(entry) != PUBLIC] for kind, found in entries.items()}
    primary, supplemental = known["primary"], known["supplemental"]
    uses_public = bool(public) or not primary
    count = len(primary) + (uses_public and "supplemental" not in public)
    note = ""
    if supplemental and (count > 1 or not primary):
        # uv uses its default index last, and has one order for all packages.
        note = _note("poetry", supplemental)
        known["explicit"] += supplemental
        supplemental = []
    later = bool(supplemental) or "supplemental" in public
    searched = [*primary, *supplemental]
    if searched and not uses_public:
        searched[-1]["default"] = True
    for entry in known["explicit"]:
        entry["explicit"] = True
    strategy = IN_ORDER if later else ALL_VERSIONS if count > 1 else ""
    return DeclaredIndexes("poetry", (*searched, *known["explicit"]), not uses_public, strategy, note=note)


def _from_pdm(sources: Sequence[Table], environ: Mapping[str, str], *, ordered: bool) -> DeclaredIndexes:
    """Convert PDM's sources. `ordered`: the first source with a suitable version wins, not the best version of all."""
    entries: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []
    note = ""
    for source in sources:
        entry = _entry(source, environ, "")
        for key in ("include", "exclude"):
            patterns = source.get(f"{key}_packages")
            entry[key] = tuple(map(str, patterns)) if isinstance(patterns, list) else ()
        entry["explicit"] = "*" in entry["exclude"]
        (links if source.get("type") == "find_links" else entries).append(entry)
    searched = [entry for entry in entries if not entry["explicit"]]
    replaces = any(entry["name"] == PUBLIC for entry in entries)
    if replaces and searched:
        searched[-1]["default"] = True
    elif ordered and searched:  # PDM uses the public index first, uv uses it last
        note = _note("pdm", searched)
        for entry in searched:
            entry["explicit"] = True
    strategy = "" if not searched else IN_ORDER if ordered else ALL_VERSIONS
    return DeclaredIndexes("pdm", tuple(entries), replaces, strategy, tuple(links), note)


def _note(tool: str, entries: Sequence[Table]) -> str:
    names = ", ".join(entry["name"] for entry in entries)
    return f"[[tool.{tool}.source]] {names} comes after the public index and is not searched: lock with `{tool} lock`"


def _entry(source: Table, environ: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Convert a source to an entry of uv with the login in the URL.

    In logins of PDM, `${VARIABLE}` is replaced by the variable's value. In addresses it is not, because they are
    written to files and sent.
    """

    def expand(text: Any, encode: Callable[[str], str] = str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: encode(environ.get(found[1], found[0])), str(text or ""))

    name, url = str(source.get("name", "")), str(source.get("url") or "")
    variable = f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
    user, password = expand(source.get("username")), expand(source.get("password"))
    if prefix:
        user, password = environ.get(f"{variable}_USERNAME", ""), environ.get(f"{variable}_PASSWORD", "")
    elif match := re.match(r"([^/]*://)([^/]*)(@.*)", url):
        url = f"{match[1]}{expand(match[2], functools.partial(quote, safe=''))}{match[3]}"
    scheme, separator, rest = url.partition("://")
    if separator and (user or password):
        url = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest.rpartition('@')[2]}"
    return {"name": name, "url": url, "default": False, "explicit": False, "include": (), "exclude": ()}
