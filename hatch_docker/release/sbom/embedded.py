"""Reader of SBOMs inside wheels (PEP 770), CycloneDX and SPDX 2: the components that were compiled into the wheel.

The documents are untrusted and of any version, so only valid values are used. A document that cannot be read, or that
has too many components, is only referenced in the image's SBOM, not merged.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from hatch_docker.project.licences import parse_licence

MOST = 5000   # the most components of a document
DEEPEST = 16  # the most levels of nested components
TYPES = frozenset({
    "application", "framework", "library", "operating-system", "firmware", "file", "data", "machine-learning-model",
})  # fmt: skip
# The hash algorithms of CycloneDX with their numbers of hexadecimal digits. SPDX uses the same names without "-".
HASHES = {"MD5": 32, "SHA-1": 40, "SHA-256": 64, "SHA-384": 96, "SHA-512": 128}
_SPDX_HASHES = {name.replace("-", ""): name for name in HASHES}
_PURL = re.compile(r"pkg:[A-Za-z][A-Za-z0-9.+-]*/[^\s]+")

Part = dict[str, Any]
"""type, name, version, purl, licence, supplier, hashes by algorithm, requires (positions)."""


def read_embedded(data: bytes) -> dict[str, Any]:
    """Return {"format", "parts", "top"}: the components in a document, without the wheel itself.

    "format" is "CycloneDX" or "SPDX", or "" for a document that cannot be read, which then has no parts. "top" has the
    positions of the parts that the wheel itself requires.
    """
    try:
        value = json.loads(data)
        if isinstance(value, dict) and value.get("bomFormat") == "CycloneDX":
            return _result("CycloneDX", *_cyclonedx(value))
        if isinstance(value, dict) and str(value.get("spdxVersion")).startswith("SPDX-2"):
            return _result("SPDX", *_spdx(value))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return {"format": "", "parts": [], "top": []}


def _result(kind: str, found: list[Part], top: Iterable[str]) -> dict[str, Any]:
    """Return the result of `read_embedded`: sort the parts, and replace references by positions."""
    parts = sorted({part["id"]: part for part in found}.values(), key=lambda part: (part["name"], part["id"]))
    if len(parts) > MOST:
        return {"format": "", "parts": [], "top": []}
    positions = {part["id"]: number for number, part in enumerate(parts)}
    for part in parts:
        own = positions[part.pop("id")]
        part["requires"] = sorted({positions[ref] for ref in part["requires"] if ref in positions} - {own})
    below = {number for part in parts for number in part["requires"]}
    named = sorted({positions[ref] for ref in top if ref in positions})
    return {"format": kind, "parts": parts, "top": named or sorted(set(range(len(parts))) - below)}


def without_addresses(text: str) -> str:
    """Return the names in a text such as `Ann <ann@home.example>, Bob`, without e-mail addresses."""
    text = " ".join(text.split())
    names = [re.sub(r"\s*<[^>]*>", "", part).strip().strip('"') or part.strip(" <>") for part in text.split(",")]
    return ", ".join(name for name in names if name)[:200]


def _cyclonedx(value: Mapping[str, Any]) -> tuple[list[Part], Iterable[str]]:
    root = (value.get("metadata") or {}).get("component") or {}
    own = {root.get(name) for name in ("bom-ref", "purl")} - {None}
    needs = {line["ref"]: line.get("dependsOn") or [] for line in value.get("dependencies") or []}
    found = []
    for item in _flatten(value.get("components") or [], 0):
        if {item.get("bom-ref"), item.get("purl")} & own:
            continue
        ref = str(item.get("bom-ref") or item.get("purl") or f"{item['name']}@{item.get('version', '')}")
        # Only a single entry is used: an expression or the ID of a licence.
        stated_licences = item.get("licenses") or []
        licence = stated_licences[0] if len(stated_licences) == 1 else {}
        supplier = (item.get("supplier") or {}).get("name") or item.get("publisher") or item.get("author")
        authors = [str(author.get("name", "")) for author in item.get("authors") or []]
        found.append(_part(
            ref, item, purl=item.get("purl"), requires=needs.get(ref, []),
            licence=str(licence.get("expression") or (licence.get("license") or {}).get("id") or ""),
            supplier=str(supplier or ", ".join(filter(None, authors))),
            hashes={line["alg"]: line["content"] for line in item.get("hashes") or []},
        ))
    top = [ref for name in own for ref in needs.get(name, [])]
    return found, top


def _flatten(items: Iterable[Mapping[str, Any]], depth: int) -> Iterator[Mapping[str, Any]]:
    for item in items:
        yield item
        if depth < DEEPEST:
            yield from _flatten(item.get("components") or [], depth + 1)


def _spdx(value: Mapping[str, Any]) -> tuple[list[Part], Iterable[str]]:
    relations = [
        (line["spdxElementId"], line["relationshipType"], line["relatedSpdxElement"])
        for line in value.get("relationships") or []
    ]
    own = set(value.get("documentDescribes") or ())
    own |= {other for subject, kind, other in relations if subject == "SPDXRef-DOCUMENT" and kind == "DESCRIBES"}
    needs: dict[str, list[str]] = {}
    for subject, kind, other in relations:
        if kind in ("DEPENDS_ON", "CONTAINS"):
            needs.setdefault(subject, []).append(other)
        elif kind in ("DEPENDENCY_OF", "CONTAINED_BY"):
            needs.setdefault(other, []).append(subject)
    found = []
    for item in value.get("packages") or []:
        if item["SPDXID"] in own:
            continue
        purls = [ref["referenceLocator"] for ref in item.get("externalRefs") or [] if ref["referenceType"] == "purl"]
        licence = next((item[key] for key in ("licenseDeclared", "licenseConcluded") if item.get(key)), "")
        sums = item.get("checksums") or []
        found.append(_part(
            item["SPDXID"], {**item, "version": item.get("versionInfo")}, purl=(purls or [None])[0],
            licence="" if licence in ("NOASSERTION", "NONE") else licence,
            supplier=re.sub(r"^(?:Organization|Person): ", "", str(item.get("supplier") or "")),
            requires=needs.get(item["SPDXID"], []),
            hashes={_SPDX_HASHES.get(line["algorithm"], ""): line["checksumValue"] for line in sums},
        ))
    return found, [other for subject in own for other in needs.get(subject, [])]


def _part(
    ref: str, item: Mapping[str, Any], *, purl: object, licence: str, supplier: str, requires: list[str],
    hashes: Mapping[str, object],
) -> Part:
    kind = item.get("type")
    name = "/".join(str(item[key]) for key in ("group", "name") if item.get(key))
    return {
        "id": ref, "type": kind if kind in TYPES else "library", "name": name,
        "version": str(item.get("version") or ""),
        "purl": purl if isinstance(purl, str) and _PURL.fullmatch(purl) else "",
        "licence": asdict(parse_licence(licence)),
        "supplier": "" if supplier == "NOASSERTION" else without_addresses(supplier),
        "hashes": {
            algorithm: str(digest).lower() for algorithm, digest in sorted(hashes.items())
            if re.fullmatch(f"[0-9a-fA-F]{{{HASHES.get(algorithm, 1)}}}", str(digest)) and algorithm in HASHES
        },
        "requires": [str(ref) for ref in requires],
    }  # fmt: skip
