"""Package URLs (package-url/purl-spec), with which scanners look up components.

The library `packageurl-python` is not used, because it does not quote "/" in qualifiers, and its import takes 70 ms.
"""

from collections.abc import Mapping
from urllib.parse import quote

from packaging.utils import canonicalize_name

from hatch_docker.bases.model import Base
from hatch_docker.oci.reference import parse_reference


def purl(
    kind: str, name: str, version: str, *, namespace: str = "", qualifiers: Mapping[str, str] | None = None
) -> str:
    """Return the canonical purl of a package. Qualifiers with an empty value are left out."""
    if kind == "pypi":
        name = canonicalize_name(name)
    parts = [kind, *(namespace.split("/") if namespace else ()), name]
    text = "pkg:" + "/".join(quote(part, safe=":") for part in parts)
    if version:
        text += "@" + quote(version, safe=":")
    pairs = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    return text + ("?" + "&".join(f"{key}={quote(value, safe=':')}" for key, value in pairs) if pairs else "")


def base_purl(base: Base) -> str:
    """Return the purl of a base from a registry, with its digest; "" for other kinds of bases."""
    if base.plan.kind != "registry":
        return ""

    reference = parse_reference(base.plan.location)
    address = {"repository_url": reference.name, "tag": reference.tag}
    return purl("oci", reference.repository.rpartition("/")[2], base.digest, qualifiers=address)
