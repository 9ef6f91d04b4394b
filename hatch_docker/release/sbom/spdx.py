"""SPDX 2.3 as JSON, of a Bill. Deterministic: named by the image's digest, at the image's time.

2.3 and not 3.0: it is the version that scanners, GitHub and the validators read, and ISO's 2.2.1 reads all but a
few fields of; 3.0 is another data model (JSON-LD) that few tools know so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hatch_docker import __version__
from hatch_docker.oci.mutate import rfc3339
from hatch_docker.release.sbom.cyclonedx import UNKNOWN, document_id, everything
from hatch_docker.release.sbom.model import Bill, Component

_PURPOSES = {"container": "CONTAINER", "application": "APPLICATION", "operating-system": "OPERATING-SYSTEM"}
_CHECKSUMS = {"SHA-1": "SHA1", "SHA-256": "SHA256", "SHA-384": "SHA384", "SHA-512": "SHA512", "MD5": "MD5"}


def spdx_document(bill: Bill) -> dict[str, Any]:
    """The document of a bill (SPDX 2.3, JSON)."""
    ids = {one.ref: f"SPDXRef-{number}-{_plain(one.name)}" for number, one in enumerate(everything(bill))}
    expressions = [one.licence.expression for one in everything(bill)]
    texts = sorted({name for text in expressions for name in re.findall(r"LicenseRef-[A-Za-z0-9.-]+", text)})
    name = f"{bill.root.name}-{bill.root.version}"
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{_plain(name)}-{document_id(bill)}",
        "creationInfo": {
            "created": rfc3339(bill.created),
            "creators": [f"Organization: {bill.root.supplier or 'hatch-docker'}", f"Tool: hatch-docker-{__version__}"],
            "comment": "build: " + ("complete" if bill.complete else "the base's own packages are not known"),
        },
        "packages": [_package(one, ids) for one in everything(bill)],
        "relationships": list(_relationships(bill, ids)),
        **({"hasExtractedLicensingInfos": [
            {"licenseId": name, "name": name, "extractedText": "The text comes with the package."} for name in texts
        ]} if texts else {}),
    }  # fmt: skip


def _plain(text: str) -> str:
    """Text as an SPDXID may hold it."""
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


def _relationships(bill: Bill, ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    yield _relationship("SPDXRef-DOCUMENT", "DESCRIBES", ids[bill.root.ref])
    for one in bill.components:
        yield _relationship(ids[bill.root.ref], "CONTAINS", ids[one.ref])
        for part in one.inside:
            yield _relationship(ids[one.ref], "CONTAINS", ids[part.ref])
    for one in everything(bill):
        for other in one.requires:
            yield _relationship(ids[one.ref], "DEPENDS_ON", ids[other])


def _relationship(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
