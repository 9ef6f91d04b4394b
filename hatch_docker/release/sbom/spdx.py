"""An SBOM as SPDX 2.3 JSON. It is deterministic: its name and its time come from the image.

2.3 and not 3.0: scanners, GitHub and the validators read it, and readers of ISO's 2.2.1 all but a few of its fields;
3.0 is another data model (JSON-LD) that few tools know so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hatch_docker import __version__
from hatch_docker.oci.mutate import rfc3339
from hatch_docker.release.sbom.cyclonedx import UNKNOWN, all_components, document_id
from hatch_docker.release.sbom.model import Component, Sbom

_PURPOSES = {"container": "CONTAINER", "application": "APPLICATION", "operating-system": "OPERATING-SYSTEM"}
_CHECKSUMS = {"SHA-1": "SHA1", "SHA-256": "SHA256", "SHA-384": "SHA384", "SHA-512": "SHA512", "MD5": "MD5"}


def spdx_document(sbom: Sbom) -> dict[str, Any]:
    """Return the SPDX document of an SBOM, as parsed JSON."""
    ids = {part.ref: f"SPDXRef-{number}-{_plain(part.name)}" for number, part in enumerate(all_components(sbom))}
    expressions = [part.licence.expression for part in all_components(sbom)]
    texts = sorted({name for text in expressions for name in re.findall(r"LicenseRef-[A-Za-z0-9.-]+", text)})
    name = f"{sbom.root.name}-{sbom.root.version}"
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{_plain(name)}-{document_id(sbom)}",
        "creationInfo": {
            "created": rfc3339(sbom.created),
            "creators": [f"Organization: {sbom.root.supplier or 'hatch-docker'}", f"Tool: hatch-docker-{__version__}"],
            "comment": "build: " + ("complete" if sbom.complete else "the base's own packages are not known"),
        },
        "packages": [_package(part, ids) for part in all_components(sbom)],
        "relationships": list(_relationships(sbom, ids)),
        **({"hasExtractedLicensingInfos": [
            {"licenseId": name, "name": name, "extractedText": "The text comes with the package."} for name in texts
        ]} if texts else {}),
    }  # fmt: skip


def _plain(text: str) -> str:
    """Return text in the characters that an SPDXID may have."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)


def _package(component: Component, ids: Mapping[str, str]) -> dict[str, Any]:
    licence = component.licence
    notes = [f"declared as: {', '.join(licence.names)}"] if licence.names else []
    sources = [f"built of an sdist with the SHA-256 {component.sdist}"] if component.sdist else []
    sources += [f"its own SBOM is /{path} (SHA-256 {digest})" for path, digest in component.documents]
    sources += [f"installed as /{component.place}"] if component.place else []
    value = {
        "SPDXID": ids[component.ref],
        "name": component.name,
        "versionInfo": component.version,
        "supplier": f"Organization: {component.supplier}" if component.supplier else UNKNOWN,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence.expression or UNKNOWN,
        "licenseComments": "; ".join(notes),
        "sourceInfo": "; ".join(sources),
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": _PURPOSES.get(component.type, "LIBRARY"),
        "checksums": [
            {"algorithm": _CHECKSUMS[name], "checksumValue": digest} for name, digest in component.hashes.items()
        ],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component.purl}
        ] if component.purl else [],
    }  # fmt: skip
    return {key: content for key, content in value.items() if content not in ("", [])}


def _relationships(sbom: Sbom, ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    yield _relationship("SPDXRef-DOCUMENT", "DESCRIBES", ids[sbom.root.ref])
    for component in sbom.components:
        yield _relationship(ids[sbom.root.ref], "CONTAINS", ids[component.ref])
        for part in component.inside:
            yield _relationship(ids[component.ref], "CONTAINS", ids[part.ref])
    for component in all_components(sbom):
        for other in component.requires:
            yield _relationship(ids[component.ref], "DEPENDS_ON", ids[other])


def _relationship(subject: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": related}
