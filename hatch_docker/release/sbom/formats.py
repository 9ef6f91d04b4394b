"""Writers of SBOMs: CycloneDX and SPDX JSON. Both are deterministic; IDs and times come from the image."""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hatch_docker import __version__
from hatch_docker.oci.make_image import rfc3339
from hatch_docker.release.sbom.model import Component, Sbom

UNKNOWN = "NOASSERTION"  # SPDX's value for an unknown field
_PURPOSES = {
    "container": "CONTAINER", "application": "APPLICATION", "operating-system": "OPERATING-SYSTEM", "file": "FILE",
}  # fmt: skip


def cyclonedx(sbom: Sbom) -> dict[str, Any]:
    """Return the CycloneDX 1.6 document of an SBOM, as parsed JSON.

    The version is 1.6 and not 1.7, because scanners support 1.6, and it has a field for each fact in an Sbom.
    """
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{document_id(sbom)}",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(sbom.created),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "hatch-docker", "version": __version__}]},
            "authors": [{"name": sbom.root.supplier or "hatch-docker"}],
            "component": _cyclonedx_component(sbom.root),
        },
        "components": [_cyclonedx_component(part) for part in sbom.components],
        "dependencies": [
            {"ref": part.ref, **({"dependsOn": list(part.requires)} if part.requires else {})}
            for part in all_components(sbom)
        ],
        "compositions": [{"aggregate": "complete" if sbom.complete else "incomplete", "dependencies": [sbom.root.ref]}],
    }  # fmt: skip


def document_id(sbom: Sbom) -> uuid.UUID:
    """Return the UUID for the documents of an image (RFC 9562, version 5), derived from the image's digest."""
    return uuid.uuid5(uuid.NAMESPACE_OID, sbom.digest)


def all_components(sbom: Sbom) -> Iterator[Component]:
    """Yield the image, and all components with the components that are compiled into them."""
    yield sbom.root
    for component in sbom.components:
        yield component
        yield from component.inside


def _cyclonedx_component(component: Component) -> dict[str, Any]:
    licence = component.licence
    outside = [
        {"type": "bom", "url": f"file:///{path}", "hashes": [{"alg": "SHA-256", "content": digest}]}
        for path, digest in component.documents
    ]
    if component.sdist:
        archive = {"type": "source-distribution", "url": component.purl}
        outside.append({**archive, "hashes": [{"alg": "SHA-256", "content": component.sdist}]})
    value = {
        "type": component.type,
        "bom-ref": component.ref,
        "supplier": {"name": component.supplier or UNKNOWN},
        "name": component.name,
        "version": component.version,
        "hashes": [{"alg": name, "content": digest} for name, digest in component.hashes.items()],
        "licenses": [{"expression": licence.expression, "acknowledgement": "declared"}] if licence.expression else [
            {"license": {"name": name, "acknowledgement": "declared"}} for name in licence.names or (UNKNOWN,)
        ],
        "purl": component.purl,
        "externalReferences": outside,
        "components": [_cyclonedx_component(part) for part in component.inside],
        "evidence": {"occurrences": [{"location": f"/{component.place}"}]} if component.place else {},
    }  # fmt: skip
    return {key: content for key, content in value.items() if content or key == "version"}


def spdx_document(sbom: Sbom) -> dict[str, Any]:
    """Return the SPDX 2.3 document of an SBOM, as parsed JSON.

    The version is 2.3 and not 3.0, because scanners, GitHub and validators support 2.3, and readers of ISO's 2.2.1 can
    read most of its fields. 3.0 is a different data model (JSON-LD) that few tools support.
    """
    ids = {part.ref: f"SPDXRef-{number}-{_plain(part.name)}" for number, part in enumerate(all_components(sbom))}
    expressions = [part.licence.expression for part in all_components(sbom)]
    texts = sorted({name for text in expressions for name in re.findall(r"LicenseRef-[A-Za-z0-9.-]+", text)})
    name = f"{sbom.root.name}-{sbom.root.version}"
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", ids[sbom.root.ref])]
    for component in sbom.components:
        relations.append((ids[sbom.root.ref], "CONTAINS", ids[component.ref]))
        relations += [(ids[component.ref], "CONTAINS", ids[part.ref]) for part in component.inside]
    relations += [(ids[part.ref], "DEPENDS_ON", ids[other]) for part in all_components(sbom) for other in part.requires]
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
        "packages": [_spdx_package(part, ids) for part in all_components(sbom)],
        "relationships": [
            {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": related}
            for subject, kind, related in relations
        ],
        **({"hasExtractedLicensingInfos": [
            {"licenseId": name, "name": name, "extractedText": "The text comes with the package."} for name in texts
        ]} if texts else {}),
    }  # fmt: skip


def _plain(text: str) -> str:
    """Return a text with only the characters that are allowed in an SPDXID."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)


def _spdx_package(component: Component, ids: Mapping[str, str]) -> dict[str, Any]:
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
            {"algorithm": name.replace("-", ""), "checksumValue": digest} for name, digest in component.hashes.items()
        ],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component.purl}
        ] if component.purl else [],
    }  # fmt: skip
    return {key: content for key, content in value.items() if content not in ("", [])}


FORMATS: Mapping[str, Callable[[Sbom], dict[str, Any]]] = {"cyclonedx": cyclonedx, "spdx": spdx_document}
