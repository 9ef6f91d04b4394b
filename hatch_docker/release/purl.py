"""Package URLs: the names that scanners look components up by (package-url/purl-spec)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from hatch_docker.plan.naming import normalised


def purl(
    kind: str, name: str, version: str, *, namespace: str = "", qualifiers: Mapping[str, str] | None = None
) -> str:
    """The purl of a package, in its canonical form; qualifiers without a value are left out."""
    if kind == "pypi":
        name = normalised(name)
    path = [kind, *(namespace.split("/") if namespace else ()), name]
    text = "pkg:" + "/".join(_quoted(part) for part in path)
    if version:
        text += "@" + _quoted(version)
    pairs = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    return text + ("?" + "&".join(f"{key}={_quoted(value)}" for key, value in pairs) if pairs else "")


def _quoted(text: str) -> str:
    return quote(text, safe=":")
