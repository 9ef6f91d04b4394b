"""CycloneDX 1.6 as JSON, of a Bill. Deterministic: the serial number is the image's digest, the time the image's.

1.6 and not 1.7: what scanners read today, and all that a bill holds has a place in it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from hatch_docker import __version__
from hatch_docker.oci.mutate import rfc3339
from hatch_docker.project.licences import Licence
from hatch_docker.release.sbom.model import Bill, Component

UNKNOWN = "NOASSERTION"  # SPDX's word for what nobody states


def cyclonedx(bill: Bill) -> dict[str, Any]:
    """The document of a bill (CycloneDX 1.6, JSON)."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{document_id(bill)}",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(bill.created),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "hatch-docker", "version": __version__}]},
            "authors": [{"name": bill.root.supplier or "hatch-docker"}],
            "component": _component(bill.root),
        },
        "components": [_component(one) for one in bill.components],
        "dependencies": [
            {"ref": one.ref, **({"dependsOn": list(one.requires)} if one.requires else {})} for one in everything(bill)
        ],
        "compositions": [
            {"aggregate": "complete" if bill.complete else "incomplete", "dependencies": [bill.root.ref]}
        ],
    }  # fmt: skip


def document_id(bill: Bill) -> uuid.UUID:
    """The name of the documents about an image: its digest, in the form that serial numbers have (RFC 9562)."""
    return uuid.uuid5(uuid.NAMESPACE_OID, bill.digest)


def everything(bill: Bill) -> Iterator[Component]:
    """The image, its components, and what was compiled into them."""
    yield bill.root
    for component in bill.components:
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
