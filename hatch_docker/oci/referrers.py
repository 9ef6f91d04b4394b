"""Referrers of an image in a registry: SBOMs, provenance and signatures, whose manifests have the image as subject.

Implements the distribution-spec 1.1 (Listing Referrers; Pushing Manifests with Subject; Unavailable Referrers API,
Referrers Tag Schema) and the image-spec 1.1 (manifest.md, Guidelines for Artifact Usage).

    artifact_manifest   bytes and their subject -> manifest of an artifact
    attach              artifacts -> repository; the list of referrers contains each artifact once
    referrers           subject -> its referrers

For a registry without the referrers API (docker-registry 2.8.3, ghcr) clients write the list as an index under the tag
`sha256-HEX`. Concurrent clients overwrite each other's entries, because these registries have no compare-and-swap. So
after a wait, in which all clients that have read the old list should have written theirs, the list is read again, and
missing entries are added again. A push does other work during the wait (`Target.later`). The wait is short for a new
image: only another push of the same image can write its list.
"""

import io
import random
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hatch_docker.core.errors import ImageError, RegistryError
from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import Response, StatusError
from hatch_docker.oci.manifest import DOCUMENT_LIMIT, parse_index, parse_json
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, canonical_json, digest_of
from hatch_docker.oci.push import UPLOADS, Target, push_blob, send_manifest
from hatch_docker.oci.registry import ACCEPT, response_error

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
PAGES = 100  # most pages of a list of referrers
ROUNDS = 40  # most reads of a list that other clients write too
MIN_WAIT = 0.3  # seconds to wait at least after a write, until the list is read again
NEW_WAIT = 0.05  # the same for a new image
BUSY_WAIT = 1.0  # the same while other clients write the list
WAIT_FACTOR = 4  # the same as a multiple of the time of our own read and write: other clients may be as slow


@dataclass(frozen=True, slots=True)
class Artifact:
    """A document about an image: its bytes and their media type.

    `annotations`: annotations of the manifest. `notes`: annotations of the blob's descriptor, such as the title, which
    `oras pull` uses as file name.
    """

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def artifact_manifest(artifact: Artifact, subject: Descriptor) -> bytes:
    """Return the manifest of an artifact with an empty configuration (manifest.md, Guidelines for Artifact Usage).

    The result is deterministic.
    """
    data = artifact.data
    blob = Descriptor(artifact.media_type, digest_of(data), len(data), annotations=artifact.notes)
    return canonical_json({
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": artifact.media_type,
        "config": Descriptor(EMPTY_TYPE, digest_of(EMPTY), len(EMPTY)).to_json(),
        "layers": [blob.to_json()],
        "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
        **({"annotations": dict(artifact.annotations)} if artifact.annotations else {}),
    })


def attach(target: Target, subject: Descriptor, artifacts: Sequence[Artifact]) -> dict[str, int]:
    """Attach artifacts to a subject in a repository; return the bytes sent, by digest of each newly listed artifact.

    The subject can be pushed before or after. Raises RegistryError or TransientError.
    """
    manifests = {artifact_manifest(artifact, subject): artifact.data for artifact in artifacts}
    listed_digests = {} if target.is_new else referrers(target, subject.digest)
    missing = {manifest: data for manifest, data in manifests.items() if digest_of(manifest) not in listed_digests}
    sizes: list[int] = []
    if missing:
        from concurrent.futures import ThreadPoolExecutor

        new_blobs = frozenset(map(digest_of, missing.values())) if target.is_new else frozenset()
        with ThreadPoolExecutor(UPLOADS) as pool:
            sizes = list(pool.map(partial(_push, replace(target, new_blobs=new_blobs)), [*missing.values(), EMPTY]))
        attach_manifests(target, subject, list(missing))
    return {digest_of(manifest): len(manifest) + size for manifest, size in zip(missing, sizes, strict=False)}


def _push(target: Target, data: bytes) -> int:
    blob = Descriptor("application/octet-stream", digest_of(data), len(data))
    return push_blob(target, blob, partial(io.BytesIO, data)) or 0


def attach_manifests(target: Target, subject: Descriptor, manifests: Sequence[bytes]) -> None:
    """Put manifests whose subject is `subject`, and ensure that they are listed as referrers.

    Their blobs must have been pushed. Raises RegistryError or TransientError.
    """
    unlisted = []
    for manifest in manifests:
        descriptor = Descriptor(OCI.manifest, digest_of(manifest), len(manifest))
        response = send_manifest(target, descriptor.digest, descriptor, manifest)
        # With this header the registry lists the manifest itself. Otherwise the client must list it, with its type and
        # annotations (Pushing Manifests with Subject).
        if response.headers.get("oci-subject") != subject.digest:
            value = parse_json(manifest, descriptor.digest)
            item = {**descriptor.to_json(), "artifactType": value.get("artifactType") or value["config"]["mediaType"]}
            unlisted.append(item | ({"annotations": value["annotations"]} if value.get("annotations") else {}))
    if unlisted and not target.is_new:
        found, with_api = _list(target, subject.digest)
        listed_digests = {item["digest"] for item in found} if with_api else frozenset()
        unlisted = [item for item in unlisted if item["digest"] not in listed_digests]
    if unlisted:
        _list_by_tag(target, subject.digest, unlisted)


def referrers(target: Target, digest: str) -> dict[str, dict[str, Any]]:
    """Return the referrers of the subject `digest` in a repository: descriptors as JSON objects, by digest.

    Raises RegistryError, and ImageError for an invalid list.
    """
    return {item["digest"]: item for item in _list(target, digest)[0]}


def are_listed(target: Target, subject: str, digests: Iterable[str]) -> bool:
    """Return whether all manifests of `digests` are listed as referrers of a subject."""
    return set(digests) <= referrers(target, subject).keys()


def fallback_tag(digest: str) -> str:
    """Return the tag of the list of referrers of a digest (Referrers Tag Schema)."""
    return digest.replace(":", "-")


def _list(target: Target, digest: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the referrers of a digest, and whether they come from the referrers API."""
    found: list[dict[str, Any]] = []
    url = target.remote.url(target.name, f"referrers/{digest}")
    for page in range(PAGES):
        response = get_document(target, url, "list what is attached")
        if page == 0 and not _is_index(response):
            return _tagged(target, digest)[0], False
        if response.status != 200:
            raise response_error(target.name, response)
        found += _items(response.body, f"what is attached to {digest}")
        more = _next(response.headers.get("link", ""))
        if not more:
            break
        url = urls.follow(url, more)
    return found, True


def _is_index(response: Response) -> bool:
    """Return whether a response is an index: some registries respond to unknown paths with 200 and a web page."""
    return response.status == 200 and response.headers.get("content-type", "").partition(";")[0].strip() == OCI.index


def get_document(target: Target, url: str, operation: str, expected: Container[int] = ()) -> Response:
    """Return the response to a GET of a manifest or a list. Raises RegistryError for a status not in `expected`.

    Without `expected` only the statuses 401 and 403 are errors. `operation` describes the request in messages.
    """

    def attempt() -> Response:
        headers = {"accept": ACCEPT}
        response = target.remote.send(target.name, "GET", url, target.scopes(), headers=headers, limit=DOCUMENT_LIMIT)
        if response.status in (401, 403) or (expected and response.status not in expected):
            raise response_error(target.name, response)
        return response

    return target.remote.client.retry(f"{target.name.name}: {operation}", attempt)


def _items(document: bytes, source: str) -> list[dict[str, Any]]:
    """Return the entries of an index with all fields: entries of other clients must be written back unchanged."""
    parse_index(document, source)
    items: list[dict[str, Any]] = parse_json(document, source)["manifests"]
    return items


def _next(link: str) -> str:
    """Return the URL of the next page in a `Link` header (RFC 8288, rel="next"), "" if there is none."""
    target, _, parameters = link.partition(">")
    return target.removeprefix("<") if target.startswith("<") and 'rel="next"' in parameters else ""


def _tagged(target: Target, digest: str) -> tuple[list[dict[str, Any]], str]:
    """Return the entries of the index under the fallback tag, and its ETag or ""."""
    tag = fallback_tag(digest)
    response = get_document(target, target.remote.url(target.name, f"manifests/{tag}"), "list what is attached")
    if response.status == 404:
        return [], ""
    if response.status != 200:
        raise response_error(target.name, response)
    if not _is_index(response):
        raise ImageError(f"{target.name.name}:{tag} is not an index, so nothing can be attached; delete that tag")
    return _items(response.body, f"{target.name.name}:{tag}"), response.headers.get("etag", "")


def _list_by_tag(target: Target, digest: str, items: Sequence[dict[str, Any]]) -> None:
    """Add items to the index under the fallback tag; check at the end of the push that they are still in it."""
    rounds = _rounds(target, digest, items)
    next(rounds, None)
    if target.later is None:
        _finish(rounds)
    else:
        target.later.append(partial(_finish, rounds))


def _finish(rounds: Iterator[None]) -> None:
    for _round in rounds:
        pass


def _rounds(target: Target, digest: str, items: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Add items to the index under the fallback tag, yield, read it again; repeat until no item is missing.

    Raises RegistryError after ROUNDS reads.
    """
    clock, sleep = target.remote.client.policy.clock, target.remote.client.policy.sleep
    wait, put_time, put_items = NEW_WAIT if target.is_new else MIN_WAIT, None, None
    for number in range(ROUNDS):
        start = clock()
        found, etag = _tagged(target, digest)
        if put_time is None and found:  # the image is not new
            wait = MIN_WAIT
        if put_items not in (None, found):  # another client writes the list, and may be slow
            wait = max(wait, BUSY_WAIT)
        listed_digests = {item["digest"] for item in found}
        if missing := [item for item in items if item["digest"] not in listed_digests]:
            put_items = [*found, *missing]
            _put_index(target, digest, put_items, etag)
            no_others, put_time = put_time is None and not found, clock()
            wait = max(wait, WAIT_FACTOR * (put_time - start))
            yield
            if no_others:  # no other client so far: one more read after the wait
                sleep(max(wait - (clock() - put_time), 0.0))
                continue
            # A random pause, longer in each round, so that clients do not write at the same time again.
            sleep(random.uniform(0.0, min(0.05 * (number + 1), 1.0)))  # noqa: S311
        elif put_time is None or start - put_time >= wait:
            return
        else:
            sleep(max(wait - (start - put_time), 0.01))
    raise RegistryError(
        f"{target.name.name}: other pushes keep overwriting the list of attachments of {digest}; "
        "push again when they are done"
    )


def _put_index(target: Target, digest: str, items: Sequence[dict[str, Any]], etag: str) -> None:
    data = canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": list(items)})
    if len(data) > DOCUMENT_LIMIT:
        raise RegistryError(f"{target.name.name}: the list of attachments of {digest} is too long; delete some")
    condition = {"if-match": etag} if etag else {}
    try:
        send_manifest(target, fallback_tag(digest), Descriptor(OCI.index, digest_of(data), len(data)), data, condition)
    except StatusError as error:
        if error.response.status != 412:  # 412 Precondition Failed: another client has written the list meanwhile
            raise
