"""Signing and verifying an image, its SBOMs and its provenance in a registry with cosign, by digest.

The manifests that cosign writes under its tags are also attached as referrers of the image, where other tools look for
them. A signature contains the name of its repository, but cosign does not compare this name. So it accepts an image
that was copied to another repository together with its signature. `verify_image` compares the name.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import ImageError, SignatureError
from hatch_docker.core.files import temporary_directory
from hatch_docker.oci.manifest import parse_json
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, Image, Index, canonical_json, digest_of
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.referrers import attach_manifests, fallback_tag, get_document, referrers
from hatch_docker.plan.model import SignPlan
from hatch_docker.release.cosign import Cosign, CosignError, check_key, key_identity, key_secrets
from hatch_docker.release.model import Document

KIND = "signed"
# cosign's names of predicate types, by the format of the document.
PREDICATES = {"cyclonedx": "cyclonedx", "spdx": "spdxjson", "slsa": "slsaprovenance1"}
# The suffixes of cosign's tags, and the artifact types of the referrers that are made from these manifests.
_TAGS = {".sig": "application/vnd.dev.cosign.artifact.sig.v1+json", ".att": "application/vnd.dsse.envelope.v1+json"}


@dataclass(frozen=True, slots=True)
class Signer:
    """The program cosign with the key or identity of a plan, for one repository."""

    cosign: Cosign
    plan: SignPlan
    target: Target

    def arguments(self, command: str) -> list[str]:
        """Return the start of a command line: the command and the flags that all signing commands need."""
        key = ["--key", self.cosign.key(self.plan.key)] if self.plan.key else []
        log = f"--tlog-upload={'true' if self.plan.log else 'false'}"
        return [command, "--yes", *key, log, *self.cosign.registry(self.target.name)]

    def run(self, *arguments: str) -> str:
        """Run cosign, with the key hidden from logs."""
        return self.cosign.run(*arguments, secrets=key_secrets(self.plan, self.cosign.ctx.environ))


def sign_item(
    signer: Signer, item: Image | Index, documents: Sequence[Document], read: Callable[[Document], bytes]
) -> None:
    """Sign an image, or an index and its images, and the documents of each.

    A subject is skipped if this machine has signed it with the same key before, and the registry still lists the
    signatures. Raises ProgramError, RegistryError or TransientError.
    """
    work = []
    for image in (item, *(item.images if isinstance(item, Index) else ())):
        subject = Descriptor(image.descriptor.media_type, image.digest, image.descriptor.size)
        own = [document for document in documents if document.subject == image.digest]
        work.append(partial(_sign_subject, signer, subject, {document.format: read(document) for document in own}))
    at_once(*work)


def _sign_subject(signer: Signer, subject: Descriptor, documents: Mapping[str, bytes]) -> None:
    target, ctx = signer.target, signer.cosign.ctx
    name = str(target.name.pinned(subject.digest))
    identity = key_identity(signer.plan, signer.cosign.root, ctx.environ)
    key = key_of(1, name, identity, signer.plan.log, {kind: digest_of(data) for kind, data in documents.items()})
    attached = referrers(target, subject.digest)
    known = ctx.store.recall(KIND, key)
    if known and set(known) <= attached.keys():
        return
    signer.run(*signer.arguments("sign"), name)
    _attest(signer, name, documents, has_attestations=_as_referrer(target, subject, ".att") is not None)
    manifests = [manifest for tag in _TAGS if (manifest := _as_referrer(target, subject, tag))]
    attach_manifests(target, subject, [manifest for manifest in manifests if digest_of(manifest) not in attached])
    ctx.store.remember(KIND, key, [digest_of(manifest) for manifest in manifests])


def _attest(signer: Signer, name: str, documents: Mapping[str, bytes], *, has_attestations: bool) -> None:
    """Sign the documents as attestations, except documents that this key has signed: cosign would add a second one.

    `has_attestations`: if False, there are no attestations that have to be read.
    """
    with temporary_directory() as temporary:
        public = temporary / "key.pub"
        check = has_attestations and bool(documents and signer.plan.key)
        if check:
            public.write_text(signer.run("public-key", "--key", signer.cosign.key(signer.plan.key)), encoding="utf-8")
        for kind, data in documents.items():
            value = json.loads(data)
            predicate = value["predicate"] if kind == "slsa" else value
            if check:
                trust = Trust(key=str(public), log=signer.plan.log)
                before = _statements(signer.cosign, signer.target.name, trust, PREDICATES[kind], name)
                if predicate in [statement.get("predicate") for statement in before]:
                    continue
            path = Path(temporary, f"{kind}.json")
            path.write_text(json.dumps(predicate), encoding="utf-8")
            signer.run(*signer.arguments("attest"), "--predicate", str(path), "--type", PREDICATES[kind], name)


def _as_referrer(target: Target, subject: Descriptor, tag: str) -> bytes | None:
    """Return the manifest under a tag of cosign, with the field `subject` added; None if the tag does not exist."""
    url = target.remote.url(target.name, f"manifests/{fallback_tag(subject.digest)}{tag}")
    response = get_document(target, url, "look for the signature", (200, 404))
    if response.status == 404:
        return None
    what = f"{target.name.name}:{fallback_tag(subject.digest)}{tag}"
    value = parse_json(response.body, what)
    if not isinstance(value.get("config"), dict) or not isinstance(value.get("layers"), list):
        raise ImageError(f"{what} was not written by cosign; delete that tag")
    # As in cosign's OCI 1.1 mode, the artifact type is also the media type of the configuration.
    config = {**value["config"], "mediaType": _TAGS[tag]}
    return canonical_json({
        "schemaVersion": 2, "mediaType": OCI.manifest, "artifactType": _TAGS[tag], "config": config,
        "layers": value["layers"], "subject": subject.to_json(),
    })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trust:
    """The accepted signatures: by a public key, or by an identity that an issuer certifies.

    `log`: require an entry in the transparency log for signatures by a key. For an identity it is always required.
    """

    key: str = ""
    identity: str = ""
    issuer: str = ""
    log: bool = False

    def arguments(self) -> list[str]:
        """Return the flags for cosign."""
        if not self.key:
            return ["--certificate-identity", self.identity, "--certificate-oidc-issuer", self.issuer]
        return ["--key", self.key, *([] if self.log else ["--insecure-ignore-tlog=true"])]


def verify_image(cosign: Cosign, name: Reference, trust: Trust, *, signed_as: str = "") -> list[str]:
    """Verify the signature of an image for its digest and repository. Return the formats of its signed documents.

    `signed_as`: the repository that must be in the signature instead, for an image that was copied to a mirror. Raises
    SignatureError if there is no such signature, ConfigError if the key is missing, and ProgramError if cosign is
    missing or fails.
    """
    if trust.key:
        check_key(trust.key, cosign.root, "verify-signature: --key", cosign.ctx.environ)
    wanted = parse_reference(signed_as).name if signed_as else name.name
    try:
        output = cosign.run("verify", "--output=json", *trust.arguments(), *cosign.registry(name), str(name))
    except CosignError as error:
        if error.transient:
            raise
        raise SignatureError(f"{name} has no valid signature: {error}") from error
    signed = [payload["critical"] for payload in _json(output)]
    repositories = {
        _repository(critical["identity"]["docker-reference"])
        for critical in signed if critical["image"]["docker-manifest-digest"] == name.digest
    }  # fmt: skip
    if wanted not in repositories:
        others = ", ".join(sorted(repositories)) or "nothing"
        raise SignatureError(
            f"{name} is signed, but for {others}, not for {wanted}: it was copied there with its signature; if this is "
            "intended, add --signed-as"
        )
    formats = []
    for kind, predicate in PREDICATES.items():
        subjects = [
            [_repository(subject["name"]) for subject in statement["subject"]
             if f"sha256:{subject['digest'].get('sha256')}" == name.digest]
            for statement in _statements(cosign, name, trust, predicate, str(name))
        ]  # fmt: skip
        if any(wanted in found[:1] for found in subjects):
            formats.append(kind)
    return formats


def _statements(cosign: Cosign, name: Reference, trust: Trust, predicate: str, image: str) -> list[dict[str, Any]]:
    """Return the signed in-toto statements of a predicate type for an image. Raises only transient errors."""
    flags = ("--output=json", "--type", predicate, *trust.arguments(), *cosign.registry(name))
    try:
        output = cosign.run("verify-attestation", *flags, image)
    except CosignError as error:
        if error.transient:
            raise
        return []
    envelopes = [_json(line) for line in output.splitlines() if line.strip().startswith("{")]
    return [_json(base64.b64decode(envelope["payload"]).decode()) for envelope in envelopes]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ImageError("cosign did not print valid JSON; its version may be newer than hatch-docker knows") from error


def _repository(name: str) -> str:
    try:
        return parse_reference(name).name
    except ImageError:
        return name
