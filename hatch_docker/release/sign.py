"""Signatures of an image, its SBOMs and its provenance in a registry, by digest: cosign makes and checks them.

What cosign writes under its tags is listed as a referrer of the image besides, so that whoever lists what is
attached finds it. A signature says for which repository it is; cosign alone accepts it in another one as well, and
so would take an image that somebody copied, with its signature, to where it does not belong.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import ImageError, SignatureError
from hatch_docker.core.files import temporary_directory
from hatch_docker.oci.manifest import DOCUMENT_LIMIT, parse_json
from hatch_docker.oci.model import OCI_MANIFEST, Descriptor, Image, Index, canonical_json, digest_of
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.referrers import attach_manifests, fallback_tag, referrers
from hatch_docker.oci.registry import ACCEPT, refuse
from hatch_docker.release.cosign import Cosign, Refused, check_key, key_identity, key_secrets
from hatch_docker.release.push import run_concurrently

if TYPE_CHECKING:
    from hatch_docker.plan.model import SignPlan
    from hatch_docker.release.model import Document

KIND = "signed"
# What cosign calls a predicate, by the format of its document.
PREDICATES = {"cyclonedx": "cyclonedx", "spdx": "spdxjson", "slsa": "slsaprovenance1"}
# How its tags end, and as what their contents are listed.
_TAGS = {
    ".sig": "application/vnd.dev.cosign.artifact.sig.v1+json",
    ".att": "application/vnd.dsse.envelope.v1+json",
}


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs in one repository."""

    cosign: Cosign
    plan: SignPlan
    target: Target

    def arguments(self, command: str) -> list[str]:
        """The flags that signing commands share."""
        key = ["--key", self.cosign.key(self.plan.key)] if self.plan.key else []
        log = f"--tlog-upload={'true' if self.plan.log else 'false'}"
        return [command, "--yes", *key, log, *self.cosign.registry(self.target.name)]

    def run(self, *arguments: str) -> str:
        """One run of cosign that may see the key."""
        return self.cosign.run(*arguments, secrets=key_secrets(self.plan, self.cosign.ctx.environ))


def sign_item(
    signer: Signer, item: Image | Index, documents: Sequence[Document], read: Callable[[Document], bytes]
) -> None:
    """Sign an image or index, with the images of an index, and the documents about each; once.

    What this machine signed before with the same key, and the registry still lists, is not signed again. Raises
    ProgramError, RegistryError or TransientError.
    """
    work = []
    for one in (item, *(item.images if isinstance(item, Index) else ())):
        subject = Descriptor(one.descriptor.media_type, one.digest, one.descriptor.size)
        own = [document for document in documents if document.subject == one.digest]
        work.append(partial(_sign_one, signer, subject, {document.format: read(document) for document in own}))
    run_concurrently(work)


def _sign_one(signer: Signer, subject: Descriptor, documents: Mapping[str, bytes]) -> None:
    target, ctx = signer.target, signer.cosign.ctx
    name = str(target.name.pinned(subject.digest))
    identity = key_identity(signer.plan, signer.cosign.root, ctx.environ)
    key = key_of(1, name, identity, signer.plan.log, {kind: digest_of(data) for kind, data in documents.items()})
    listed = {one.descriptor.digest for one in referrers(target, subject.digest)}
    known = ctx.store.recall(KIND, key)
    if known and set(known) <= listed:
        return
    signer.run(*signer.arguments("sign"), name)
    _attest(signer, name, documents, before=_as_referrer(target, subject, ".att") is not None)
    manifests = [manifest for tag in _TAGS if (manifest := _as_referrer(target, subject, tag))]
    attach_manifests(target, subject, [one for one in manifests if digest_of(one) not in listed])
    ctx.store.remember(KIND, key, [digest_of(manifest) for manifest in manifests])


def _attest(signer: Signer, name: str, documents: Mapping[str, bytes], *, before: bool) -> None:
    """Sign the documents as attestations, each of which cosign would add again however often it is there.

    `before` says whether somebody has signed any; if nobody, they need not be read.
    """
    with temporary_directory() as temporary:
        public = temporary / "key.pub"
        check = before and bool(documents and signer.plan.key)
        if check:
            public.write_text(signer.run("public-key", "--key", signer.cosign.key(signer.plan.key)), encoding="utf-8")
        for kind, data in documents.items():
            value = json.loads(data)
            predicate = value["predicate"] if kind == "slsa" else value
            if check and predicate in _attested(signer, name, kind, public):
                continue
            path = Path(temporary, f"{kind}.json")
            path.write_text(json.dumps(predicate), encoding="utf-8")
            signer.run(*signer.arguments("attest"), "--predicate", str(path), "--type", PREDICATES[kind], name)


def _attested(signer: Signer, name: str, kind: str, public: Path) -> list[Any]:
    """The predicates of a type that this key has signed for an image."""
    how = Trust(key=str(public), log=signer.plan.log)
    try:
        statements = _statements(signer.cosign, signer.target.name, how, PREDICATES[kind], name)
    except Refused as error:
        if error.passing:
            raise
        return []
    return [statement.get("predicate") for statement in statements]


def _as_referrer(target: Target, subject: Descriptor, tag: str) -> bytes | None:
    """What cosign wrote under a tag, as a manifest that names its subject; None where there is nothing."""
    url = target.remote.url(target.name, f"manifests/{fallback_tag(subject.digest)}{tag}")

    def attempt() -> bytes:
        response = target.remote.send(
            target.name, "GET", url, target.scopes(), headers={"accept": ACCEPT}, limit=DOCUMENT_LIMIT
        )
        if response.status not in (200, 404):
            raise refuse(target.name, response)
        return response.body if response.status == 200 else b""

    data = target.remote.client.retry(f"{target.name.name}: look for the signature", attempt)
    if not data:
        return None
    what = f"{target.name.name}:{fallback_tag(subject.digest)}{tag}"
    value = parse_json(data, what)
    if not isinstance(value.get("config"), dict) or not isinstance(value.get("layers"), list):
        raise ImageError(f"{what} is nothing that cosign wrote; delete that tag")
    # As cosign itself writes it in the mode of OCI 1.1, where the type is the configuration's.
    config = {**value["config"], "mediaType": _TAGS[tag]}
    return canonical_json(
        {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": _TAGS[tag], "config": config,
            "layers": value["layers"], "subject": subject.to_json(),
        }
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures are accepted: those of a public key, or of an identity that an issuer vouches for.

    `log` asks that they are in the transparency log; those of an identity always are.
    """

    key: str = ""
    identity: str = ""
    issuer: str = ""
    log: bool = False

    def arguments(self) -> list[str]:
        """As flags of cosign."""
        if not self.key:
            return ["--certificate-identity", self.identity, "--certificate-oidc-issuer", self.issuer]
        return ["--key", self.key, *([] if self.log else ["--insecure-ignore-tlog=true"])]


def verify_image(cosign: Cosign, name: Reference, trust: Trust, *, signed_as: str = "") -> list[str]:
    """Check that an image is signed, by digest, for its own repository; returns what else is signed of it.

    `signed_as` is the repository that the signature must name where the image was copied by its owner: a mirror.
    Raises SignatureError where there is no such signature, ConfigError where there is no such key, ProgramError where
    cosign is missing or did not get to look.
    """
    if trust.key:
        check_key(trust.key, cosign.root, "verify-signature: --key", cosign.ctx.environ)
    wanted = parse_reference(signed_as).name if signed_as else name.name
    try:
        output = cosign.run("verify", "--output=json", *_common(cosign, name, trust), str(name))
    except Refused as error:
        if error.passing:
            raise
        raise SignatureError(f"{name} is not signed as it should be: {error}") from error
    found = {_identity(payload, name.digest) for payload in _json(output)}
    if wanted not in found:
        others = ", ".join(sorted(filter(None, found))) or "nothing"
        raise SignatureError(
            f"{name} is signed, but for {others}, not for {wanted}: somebody copied it there with its signature; "
            "if that was meant, say --signed-as"
        )
    signed = []
    for kind, predicate in PREDICATES.items():
        try:
            statements = _statements(cosign, name, trust, predicate, str(name))
        except Refused as error:
            if error.passing:
                raise
            continue
        if any(_stated(statement, name.digest) == wanted for statement in statements):
            signed.append(kind)
    return signed


def _common(cosign: Cosign, name: Reference, trust: Trust) -> list[str]:
    return [*trust.arguments(), *cosign.registry(name)]


def _statements(cosign: Cosign, name: Reference, trust: Trust, predicate: str, image: str) -> list[dict[str, Any]]:
    """The in-toto statements of a type that are signed for an image."""
    output = cosign.run(
        "verify-attestation", "--output=json", "--type", predicate, *_common(cosign, name, trust), image
    )
    envelopes = [_json(line) for line in output.splitlines() if line.strip().startswith("{")]
    return [_json(base64.b64decode(envelope["payload"]).decode()) for envelope in envelopes]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ImageError("cosign's answer is not readable as JSON; is it a version that nobody knows yet?") from error


def _identity(payload: Mapping[str, Any], digest: str) -> str:
    """The repository that a signature's payload names, "" where it is about another digest."""
    critical = payload["critical"]
    if critical["image"]["docker-manifest-digest"] != digest:
        return ""
    return _repository(critical["identity"]["docker-reference"])


def _stated(statement: Mapping[str, Any], digest: str) -> str:
    """The same of a statement's subject."""
    names = [one["name"] for one in statement["subject"] if f"sha256:{one['digest'].get('sha256')}" == digest]
    return _repository(names[0]) if names else ""


def _repository(name: str) -> str:
    try:
        return parse_reference(name).name
    except ImageError:
        return name
