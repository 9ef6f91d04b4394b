"""What is known of an image beside it in the registry: SBOMs, provenance, signatures, each naming its subject.

Implements the distribution-spec 1.1 (Listing Referrers; Pushing Manifests with Subject; Unavailable Referrers API,
Referrers Tag Schema) and the image-spec 1.1 (manifest.md, Guidelines for Artifact Usage).

    artifact_manifest   some bytes and their subject -> the manifest of an artifact
    attach              artifacts -> a repository, each listed once however often it is attached
    referrers           what is listed for a subject

A registry without the API (docker-registry 2.8.3, ghcr) keeps the list as an index under the tag `sha256-HEX`, and
whoever attaches writes it. Two writers at once overwrite each other's entries, and such a registry has no
compare-and-swap: so what was written is read back, also a while later, when every writer that had read the list
before must have written; what is missing then is written again.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from hatch_docker.core.errors import ImageError, RegistryError
from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import Response, StatusError
from hatch_docker.oci.manifest import DOCUMENT_LIMIT, parse_index, parse_json
from hatch_docker.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor, canonical_json, digest_of
from hatch_docker.oci.push import Target, push_blob, send_manifest
from hatch_docker.oci.registry import ACCEPT, refuse

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
PAGES = 100  # of a list of referrers
ROUNDS = 40  # of writing a list that others write too
SETTLE = 0.3  # seconds after which everyone who had read a list before must have written it; at least
BUSY = 1.0  # the same, in seconds, while others are seen to write
CYCLES = 4  # the same, in times of what our own reading and writing took: whoever else writes may be as slow
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Artifact:
    """Some bytes that are about an image, and their media type.

    `annotations` are those of the manifest, `notes` those of the bytes, such as the name that `oras pull` gives them.
    """

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=lambda: _NONE)
    notes: Mapping[str, str] = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, slots=True)
class Attached:
    """A manifest that names its subject, as it is listed with it."""

    descriptor: Descriptor
    artifact_type: str


def artifact_manifest(artifact: Artifact, subject: Descriptor) -> bytes:
    """The manifest of an artifact without a configuration (manifest.md, Guidelines for Artifact Usage).

    The same bytes about the same subject give the same manifest.
    """
    data = artifact.data
    blob = Descriptor(artifact.media_type, digest_of(data), len(data), annotations=artifact.notes)
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact.media_type,
            "config": Descriptor(EMPTY_TYPE, digest_of(EMPTY), len(EMPTY)).to_json(),
            "layers": [blob.to_json()],
            "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
            **({"annotations": dict(artifact.annotations)} if artifact.annotations else {}),
        }
    )


def attach(target: Target, subject: Descriptor, artifacts: Sequence[Artifact]) -> dict[str, int]:
    """Attach some artifacts to a subject of a repository; returns the digests of those that were not listed yet, each
    with the bytes that were sent for it.

    The subject may be pushed before or after. Raises RegistryError or TransientError.
    """
    manifests = {artifact_manifest(one, subject): one.data for one in artifacts}
    known = {item["digest"] for item in _list(target, subject.digest)[0]}
    missing = {manifest: data for manifest, data in manifests.items() if digest_of(manifest) not in known}
    sent = {digest_of(manifest): len(manifest) for manifest in missing}
    if missing:
        _push(target, EMPTY)
        for manifest, data in missing.items():
            sent[digest_of(manifest)] += _push(target, data)
        attach_manifests(target, subject, list(missing))
    return sent


def _push(target: Target, data: bytes) -> int:
    descriptor = Descriptor("application/octet-stream", digest_of(data), len(data))
    return push_blob(target, descriptor, partial(io.BytesIO, data)) or 0


def attach_manifests(target: Target, subject: Descriptor, manifests: Sequence[bytes]) -> None:
    """Put manifests that name `subject`, whose blobs are there, and see to it that they are listed.

    Raises RegistryError or TransientError.
    """
    unlisted = []
    for manifest in manifests:
        descriptor = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest))
        answer = send_manifest(target, descriptor.digest, descriptor, manifest)
        # The header says that the registry lists it by itself; without it that is up to the client.
        if answer.headers.get("oci-subject") != subject.digest:
            unlisted.append(_item(descriptor, manifest))
    if unlisted:
        found, with_api = _list(target, subject.digest)
        known = {item["digest"] for item in found} if with_api else frozenset()
        unlisted = [item for item in unlisted if item["digest"] not in known]
    if unlisted:
        _list_by_tag(target, subject.digest, unlisted)


def referrers(target: Target, digest: str) -> tuple[Attached, ...]:
    """What is listed for the subject `digest` of a repository; raises RegistryError and ImageError."""
    items, _ = _list(target, digest)
    descriptors = parse_index(canonical_json({"manifests": items}), f"what is attached to {digest}")
    pairs = zip(descriptors, items, strict=True)
    return tuple(Attached(descriptor, str(item.get("artifactType", ""))) for descriptor, item in pairs)


def fallback_tag(digest: str) -> str:
    """The tag that lists the referrers of a digest (Referrers Tag Schema)."""
    return digest.replace(":", "-")


def _item(descriptor: Descriptor, manifest: bytes) -> dict[str, Any]:
    """What a list says of a manifest: its type, and all of its annotations (Pushing Manifests with Subject)."""
    value = parse_json(manifest, descriptor.digest)
    kind = value.get("artifactType") or value["config"]["mediaType"]
    item = {**descriptor.to_json(), "artifactType": kind}
    return {**item, "annotations": value["annotations"]} if value.get("annotations") else item


def _list(target: Target, digest: str) -> tuple[list[dict[str, Any]], bool]:
    """The items of the list, and whether they are the API's."""
    found: list[dict[str, Any]] = []
    url = target.remote.url(target.name, f"referrers/{digest}")
    for page in range(PAGES):
        response = _get(target, url)
        if page == 0 and not _is_index(response):
            return _tagged(target, digest)[0], False
        if response.status != 200:
            raise refuse(target.name, response)
        found += _items(response.body, f"what is attached to {digest}")
        more = _next(response.headers.get("link", ""))
        if not more:
            break
        url = urls.follow(url, more)
    return found, True


def _is_index(response: Response) -> bool:
    """Whether the API answered: some registries say 200, with a page for people, to whatever they do not know."""
    return response.status == 200 and response.headers.get("content-type", "").partition(";")[0].strip() == OCI_INDEX


def _get(target: Target, url: str) -> Response:
    def attempt() -> Response:
        response = target.remote.send(
            target.name, "GET", url, target.scopes(), headers={"accept": ACCEPT}, limit=DOCUMENT_LIMIT
        )
        if response.status in (401, 403):
            raise refuse(target.name, response)
        return response

    return target.remote.client.retry(f"{target.name.name}: list what is attached", attempt)


def _items(document: bytes, what: str) -> list[dict[str, Any]]:
    """The items as they are written, unknown fields included: what others listed is to stay as it is."""
    parse_index(document, what)
    items: list[dict[str, Any]] = parse_json(document, what)["manifests"]
    return items


def _next(link: str) -> str:
    """The URL of the next page (RFC 8288, rel="next")."""
    target, _, parameters = link.partition(">")
    return target.removeprefix("<") if target.startswith("<") and 'rel="next"' in parameters else ""


def _tagged(target: Target, digest: str) -> tuple[list[dict[str, Any]], str]:
    """The items of the index under the fallback tag, and its entity tag where it has one."""
    tag = fallback_tag(digest)
    response = _get(target, target.remote.url(target.name, f"manifests/{tag}"))
    if response.status == 404:
        return [], ""
    if response.status != 200:
        raise refuse(target.name, response)
    if not _is_index(response):
        raise ImageError(f"{target.name.name}:{tag} is no index, so nothing can be attached; delete that tag")
    return _items(response.body, f"{target.name.name}:{tag}"), response.headers.get("etag", "")


def _list_by_tag(target: Target, digest: str, items: Sequence[dict[str, Any]]) -> None:
    """Add items to the index under the fallback tag, until they stay there."""
    clock, sleep = target.remote.client.policy.clock, target.remote.client.policy.sleep
    quiet, written, ours = SETTLE, None, None
    for number in range(ROUNDS):
        start = clock()
        found, entity = _tagged(target, digest)
        if ours not in (None, found):  # somebody else is at it, and may be slow
            quiet = max(quiet, BUSY)
        known = {item["digest"] for item in found}
        if missing := [item for item in items if item["digest"] not in known]:
            ours = [*found, *missing]
            _put_index(target, digest, ours, entity)
            written = clock()
            quiet = max(quiet, CYCLES * (written - start))
            # Writers that have met come back at different times, further apart the more of them there are.
            sleep(random.uniform(0.0, min(0.05 * (number + 1), 1.0)))  # noqa: S311
        elif written is None or start - written >= quiet:
            return
        else:
            sleep(max(quiet - (start - written), 0.01))
    raise RegistryError(
        f"{target.name.name}: others keep overwriting the list of what is attached to {digest}; "
        "push again when they are done"
    )


def _put_index(target: Target, digest: str, items: Sequence[dict[str, Any]], entity: str) -> None:
    data = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(items)})
    if len(data) > DOCUMENT_LIMIT:
        raise RegistryError(f"{target.name.name}: a list of all that is attached to {digest} is too long; delete some")
    condition = {"if-match": entity} if entity else _NONE
    try:
        send_manifest(target, fallback_tag(digest), Descriptor(OCI_INDEX, digest_of(data), len(data)), data, condition)
    except StatusError as error:
        if error.response.status != 412:  # of a registry that has conditions: somebody was faster
            raise
