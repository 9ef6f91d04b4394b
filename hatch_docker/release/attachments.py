"""SBOMs and provenance of an image: making them, writing them beside the archive, and attaching them in registries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker import __version__
from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, RegistryError, SecretError, TransientError
from hatch_docker.core.files import write_file
from hatch_docker.engines.layer_cache import search_layers
from hatch_docker.engines.model import BuiltImage, WheelInfo
from hatch_docker.oci.model import Descriptor, Image, Index, canonical_json, digest_of, images_of
from hatch_docker.plan.model import Plan, SignPlan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.model import Project
from hatch_docker.release.model import Document
from hatch_docker.release.provenance import PREDICATE_TYPE, provenance
from hatch_docker.release.push import OnPushed
from hatch_docker.wheels.target import Pin

if TYPE_CHECKING:
    from hatch_docker.oci.push import Target
    from hatch_docker.oci.referrers import Artifact

RECIPE = 4  # raise it when the documents of the same image change
KIND = "sbom"
MATERIALS = "materials"  # facts: the wheels and sdists in the layers above a base, by the key of these layers
# For each format: the suffix of the file name, and the media type.
SBOMS: Mapping[str, tuple[str, str]] = {
    "cyclonedx": ("cdx.json", "application/vnd.cyclonedx+json"), "spdx": ("spdx.json", "application/spdx+json"),
}
PROVENANCE = ("provenance.json", "application/vnd.in-toto+json")


def make_documents(
    plan: Plan, item: Image | Index, built: Sequence[BuiltImage], project: Project, ctx: Context
) -> tuple[Document, ...]:
    """Make the documents in a plan: SBOMs for each image, and one provenance. Their bytes are put into the store."""
    sboms = [_sbom(plan, image, name, len(built) > 1, ctx) for image in built for name in plan.sbom]
    if not plan.provenance:
        return tuple(sboms)

    paths = [project.root / path for path in (plan.lock.path, plan.pins) if path]
    locks = {path.name: file_digest(path) for path in paths if path.is_file()}
    documents = {sbom.file: sbom.digest for sbom in sboms}
    statement = provenance(plan, item, built, locks=locks, used=ctx.materials, documents=documents)
    ending, media_type = PROVENANCE
    digest = _store_document(statement, ctx)
    return (*sboms, Document(f"{plan.stem}.{ending}", "slsa", media_type, digest, item.digest))


def _store_document(value: Mapping[str, Any], ctx: Context) -> str:
    """Put a document into the store and return its digest."""
    data = canonical_json(value)
    digest = digest_of(data)
    return digest if ctx.store.has(digest) else ctx.store.put(data)


def _sbom(plan: Plan, built: BuiltImage, name: str, with_platform: bool, ctx: Context) -> Document:
    """Make the SBOM of one image in the format `name`, unless the store has it for the same contents."""
    ending, media_type = SBOMS[name]
    base = built.base
    own_layers = key_of([layer.diff_id for layer in built.image.layers[len(base.image.layers) :]])
    if built.origin:  # a rebased image: if its layers were made on this machine, their materials are known
        pins, members = ctx.store.recall(MATERIALS, own_layers) or ((), ())
        wheels = tuple(WheelInfo(*row) for row in members)
        built = replace(built, pins=tuple(Pin(*row) for row in pins), members=wheels)
    files = [[pin.name, pin.version, pin.filename, pin.sha256] for pin in built.pins]
    own = [[wheel.filename, wheel.sha256] for wheel in built.own_wheels]
    key = key_of(
        RECIPE, __version__, name, built.image.digest, plan.name, plan.version, plan.lock.requirements, files, own,
        [base.name, base.digest, base.plan.kind, base.plan.location], dict(base.hashes),
    )  # fmt: skip
    digest = ctx.store.recall(KIND, key)
    if not isinstance(digest, str) or not ctx.store.has(digest):
        from hatch_docker.release.sbom.formats import FORMATS
        from hatch_docker.release.sbom.inventory import read_inventory
        from hatch_docker.release.sbom.model import make_sbom

        digest = _store_document(FORMATS[name](make_sbom(plan, built, read_inventory(built.image.layers, ctx))), ctx)
        ctx.store.remember(KIND, key, digest)
        if not built.origin:
            rows = [[astuple(row) for row in table] for table in (built.pins, built.members)]
            ctx.store.remember(MATERIALS, own_layers, rows)
    platform = f".{str(built.image.platform).replace('/', '-')}" if with_platform else ""
    return Document(f"{plan.stem}{platform}.{ending}", name, media_type, digest, built.image.digest)


def check_secrets(
    item: Image | Index, built: Sequence[BuiltImage], documents: Sequence[Document], ctx: Context
) -> None:
    """Raise SecretError if a secret of the build is in a layer, a manifest, a configuration or a document.

    If the image is new, or there is a new source of secrets, search everything for the secrets of all sources.
    Otherwise search manifests and configurations for the secrets that are already known, without asking the sources.
    """
    texts = {f"the manifest {item.digest}": item.index if isinstance(item, Index) else item.manifest}
    for image in images_of(item):
        texts |= {f"the manifest {image.digest}": image.manifest, f"the configuration of {image.digest}": image.config}
    key = key_of(item.digest, [document.digest for document in documents], sorted(ctx.secrets.search_terms))
    new = ctx.store.recall("searched", key) is None
    if new:
        for result in built:
            own = list(zip(result.image.layers, result.notes, strict=True))[len(result.base.image.layers) :]
            made = {layer.descriptor.digest for layer, note in own if not note.cached}
            search_layers([layer for layer, _ in own], ctx, made)
        ctx.secrets.call_sources()
        texts |= {document.file: read_stored(document, ctx) for document in documents}
    try:
        for where, data in texts.items():
            ctx.secrets.check(where, data)
    except SecretError:
        for document in documents:
            ctx.store.blob_path(document.digest).unlink(missing_ok=True)
        raise
    if new:
        ctx.store.remember("searched", key, True)


def write_documents(documents: Sequence[Document], directory: Path, ctx: Context) -> None:
    """Write documents beside the image's archive, unless the files already have the same contents."""
    for document in documents:
        path = directory / document.file
        if not path.is_file() or file_digest(path) != document.digest:
            write_file(path, read_stored(document, ctx))


def read_stored(document: Document, ctx: Context) -> bytes:
    """Return the bytes of a document from the store."""
    with ctx.store.open(document.digest) as stream:
        return stream.read()


def document_reader(directory: Path) -> Callable[[Document], bytes]:
    """Return a function that reads a document from a directory and raises ConfigError if the file has changed."""

    def read(document: Document) -> bytes:
        path = directory / document.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}, which was made with the image: {error.strerror}; build again"
            ) from error
        if digest_of(data) != document.digest:
            raise ConfigError(f"{path} is not what was made with the image; build again")
        return data

    return read


def attach_documents(
    target: Target, item: Image | Index, documents: Sequence[Document], read: Callable[[Document], bytes]
) -> list[int]:
    """Attach documents to their images as referrers (distribution-spec) in a repository that has the images.

    Returns the bytes sent for each new document. Raises RegistryError or TransientError.
    """
    from hatch_docker.oci.referrers import attach

    # In parallel, because each may wait until the registry lists its referrers.
    done = at_once(*(partial(attach, target, *pair) for pair in artifacts_of(item, documents, read)))
    return [sent for attached in done for sent in attached.values()]


def artifacts_of(
    item: Image | Index, documents: Sequence[Document], read: Callable[[Document], bytes]
) -> list[tuple[Descriptor, list[Artifact]]]:
    """Return each subject (an image or the index) with the artifacts to attach to it, one for each document."""
    from hatch_docker.oci.referrers import Artifact

    created = images_of(item)[0].config_json.get("created")
    annotations = {PREFIX + "created": created} if isinstance(created, str) else {}
    subjects = {subject.digest: subject.descriptor for subject in (item, *images_of(item))}
    work: list[tuple[Descriptor, list[Artifact]]] = []
    for digest, subject in subjects.items():
        artifacts = []
        for document in (document for document in documents if document.subject == digest):
            kind = {"in-toto.io/predicate-type": PREDICATE_TYPE} if document.format == "slsa" else {}
            described = {PREFIX + "title": document.file, **kind}
            artifacts.append(Artifact(document.media_type, read(document), annotations, described))
        work += [(Descriptor(subject.media_type, subject.digest, subject.size), artifacts)] if artifacts else []
    return work


def attach_and_sign(
    sign: SignPlan | None, item: Image | Index, documents: Sequence[Document], root: Path, ctx: Context,
    read: Callable[[Document], bytes] | None = None,
) -> OnPushed:
    """Return a function that attaches the documents in a repository with the image, and signs image and documents."""
    reader = read or (lambda document: read_stored(document, ctx))

    def on_pushed(target: Target) -> list[int]:
        if sign is not None:  # do not defer the list of referrers, because the signatures are added to it
            target = replace(target, later=None)
        try:
            attached = attach_documents(target, item, documents, reader)
        except TransientError:
            raise
        except RegistryError as error:
            text = f"{error}; for a registry that accepts no attachments, set sbom = [] and provenance = false"
            raise error.with_message(text) from error
        if sign is not None:
            from hatch_docker.release.cosign import Cosign
            from hatch_docker.release.sign import Signer, sign_item

            sign_item(Signer(Cosign(root, ctx), sign, target), item, documents, reader)
        return attached

    return on_pushed
