"""An SBOM as CycloneDX 1.6 JSON. It is deterministic: its serial number and its time come from the image.

1.6 and not 1.7: scanners read it today, and it has a place for everything that our SBOMs say.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from hatch_docker import __version__
from hatch_docker.oci.mutate import rfc3339
from hatch_docker.project.licences import Licence
from hatch_docker.release.sbom.model import Component, Sbom

UNKNOWN = "NOASSERTION"  # SPDX's word for a value that is not known


def cyclonedx(sbom: Sbom) -> dict[str, Any]:
    """Return the CycloneDX document of an SBOM, as parsed JSON."""
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
            "component": _component(sbom.root),
        },
        "components": [_component(part) for part in sbom.components],
        "dependencies": [
            {"ref": part.ref, **({"dependsOn": list(part.requires)} if part.requires else {})}
            for part in all_components(sbom)
        ],
        "compositions": [
            {"aggregate": "complete" if sbom.complete else "incomplete", "dependencies": [sbom.root.ref]}
        ],
    }  # fmt: skip


def document_id(sbom: Sbom) -> uuid.UUID:
    """Return the UUID of the documents about an image (RFC 9562, version 5), made from its digest."""
    return uuid.uuid5(uuid.NAMESPACE_OID, sbom.digest)


def all_components(sbom: Sbom) -> Iterator[Component]:
    """Yield the image, its components, and what was compiled into them."""
    yield sbom.root
    for component in sbom.components:
        yield component
        yield from component.inside


def _component(component: Component) -> dict[str, Any]:
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
        "licenses": _licences(component.licence),
        "purl": component.purl,
        "externalReferences": outside,
        "components": [_component(part) for part in component.inside],
        "evidence": {"occurrences": [{"location": f"/{component.place}"}]} if component.place else {},
    }
    return {key: content for key, content in value.items() if content or key == "version"}


def _licences(licence: Licence) -> list[dict[str, Any]]:
    if licence.expression:
        return [{"expression": licence.expression, "acknowledgement": "declared"}]
    return [{"license": {"name": name, "acknowledgement": "declared"}} for name in licence.names or (UNKNOWN,)]
