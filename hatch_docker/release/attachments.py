"""Documents about an image that go where it goes: made with it, written beside it, attached where it is pushed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.errors import ConfigError, RegistryError, SecretError, TransientError
from hatch_docker.core.files import replacing
from hatch_docker.engines.layer_cache import search_layers
from hatch_docker.oci.model import Descriptor, Image, Index, images_of
from hatch_docker.release.model import Document

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.engines.model import BuiltImage
    from hatch_docker.oci.push import Target
    from hatch_docker.plan.model import Plan, SignPlan
    from hatch_docker.project.model import Project
    from hatch_docker.release.push import OnPushed
    from hatch_docker.release.sbom.model import Bill

RECIPE = 3  # raise it when the same image shall get other documents
KIND = "sbom"
MATERIALS = "materials"  # the files that the layers above a base were made of
# By format: how the file's name ends, and what the registry is told that it is.
SBOMS: Mapping[str, tuple[str, str]] = {
    "cyclonedx": ("cdx.json", "application/vnd.cyclonedx+json"), "spdx": ("spdx.json", "application/spdx+json"),
}
PROVENANCE = ("provenance.json", "application/vnd.in-toto+json")


def make_documents(
    plan: Plan, item: Image | Index, built: Sequence[BuiltImage], source: Project, ctx: Context
) -> tuple[Document, ...]:
    """The documents that a plan asks for, their bytes in the store: SBOMs by platform, one provenance."""
    sboms = [_sbom(plan, one, name, len(built) > 1, ctx) for one in built for name in plan.sbom]
    if not plan.provenance:
        return tuple(sboms)
    from hatch_docker.release.provenance import provenance

    statement = provenance(
        plan, item, built, locks=_locks(plan, source), used=ctx.used,
        documents={one.file: one.digest for one in sboms},
    )  # fmt: skip
    ending, media_type = PROVENANCE
    digest = _keep(statement, ctx)
    return (*sboms, Document(f"{plan.stem}.{ending}", "slsa", media_type, digest, item.digest))


def _locks(plan: Plan, source: Project) -> dict[str, str]:
    """The digests of the locks that a plan uses, by their names."""
    paths = [source.root / path for path in (plan.lock.path, plan.pins) if path]
    return {path.name: file_digest(path) for path in paths if path.is_file()}


def _keep(value: Mapping[str, Any], ctx: Context) -> str:
    """The digest of a document, whose bytes are in the store."""
    data = json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return digest if ctx.store.has(digest) else ctx.store.put(data)


def _sbom(plan: Plan, built: BuiltImage, name: str, several: bool, ctx: Context) -> Document:
    """The SBOM of one image, remembered by all that is in it."""
    from hatch_docker import __version__

    ending, media_type = SBOMS[name]
    built = _with_materials(built, ctx) if built.origin else built
    base = built.base
    files = [[one.name, one.version, one.filename, one.sha256] for one in built.pins]
    notes = (*built.members, *([built.wheel] if built.wheel else []))
    own = [[note.filename, note.sha256] for note in notes]
    key = key_of(
        RECIPE, __version__, name, built.image.digest, plan.name, plan.version, plan.lock.requirements, files, own,
        [base.name, base.digest, base.plan.kind, base.plan.location], dict(base.hashes),
    )  # fmt: skip
    digest = ctx.store.recall(KIND, key)
    if not isinstance(digest, str) or not ctx.store.has(digest):
        digest = _keep(_written(name, _bill(plan, built, ctx)), ctx)
        ctx.store.remember(KIND, key, digest)
        if not built.origin:
            rows = [[astuple(one) for one in part] for part in (built.pins, built.members)]
            ctx.store.remember(MATERIALS, _own_layers(built), rows)
    platform = f".{str(built.image.platform).replace('/', '-')}" if several else ""
    return Document(f"{plan.stem}{platform}.{ending}", name, media_type, digest, built.image.digest)


def _with_materials(built: BuiltImage, ctx: Context) -> BuiltImage:
    """An image on another base with the files that its wheels came in, if it was made here: its layers are the same."""
    from hatch_docker.engines.model import WheelInfo
    from hatch_docker.wheels.target import Pin

    pins, members = ctx.store.recall(MATERIALS, _own_layers(built)) or ((), ())
    return replace(built, pins=tuple(Pin(*row) for row in pins), members=tuple(WheelInfo(*row) for row in members))


def _own_layers(built: BuiltImage) -> str:
    return key_of([layer.diff_id for layer in built.image.layers[len(built.base.image.layers) :]])


def _bill(plan: Plan, built: BuiltImage, ctx: Context) -> Bill:
    from hatch_docker.release.sbom.inventory import read_inventory
    from hatch_docker.release.sbom.model import make_bill

    return make_bill(plan, built, read_inventory(built.image.layers, ctx))


def _written(name: str, bill: Bill) -> dict[str, Any]:
    if name == "spdx":
        from hatch_docker.release.sbom.spdx import spdx_document

        return spdx_document(bill)
    from hatch_docker.release.sbom.cyclonedx import cyclonedx

    return cyclonedx(bill)


def check_secrets(
    item: Image | Index, built: Sequence[BuiltImage], documents: Sequence[Document], ctx: Context
) -> None:
    """Raise SecretError where a secret of the build is in a layer, a manifest, a configuration or a document.

    Each is searched for all that a build may use when it is new, or there is more to look for than before, and
    documents always for what costs nothing to know.
    """
    texts = {f"the manifest {item.digest}": item.index if isinstance(item, Index) else item.manifest}
    for image in images_of(item):
        texts |= {f"the manifest {image.digest}": image.manifest, f"the configuration of {image.digest}": image.config}
    key = key_of(item.digest, [document.digest for document in documents], sorted(ctx.secrets.sought))
    new = ctx.store.recall("searched", key) is None
    if new:
        for one in built:
            own = list(zip(one.image.layers, one.notes, strict=True))[len(one.base.image.layers) :]
            made = {layer.descriptor.digest for layer, note in own if not note.cached}
            search_layers([layer for layer, _ in own], ctx, made)
        ctx.secrets.ask()
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
    """Write the documents beside the image's archive; those that are there already are left alone."""
    for document in documents:
        path = directory / document.file
        if path.is_file() and file_digest(path) == document.digest:
            continue
        with replacing(path) as stream:
            stream.write(read_stored(document, ctx))


def read_stored(document: Document, ctx: Context) -> bytes:
    """The bytes of a document that was made in this build."""
    with ctx.store.open(document.digest) as stream:
        return stream.read()


def document_reader(directory: Path) -> Callable[[Document], bytes]:
    """What reads the documents beside an archive; it raises ConfigError where they are not what was made with it."""

    def read(document: Document) -> bytes:
        path = directory / document.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}, made with the image: {error.strerror}; build again") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != document.digest:
            raise ConfigError(f"{path} is not what was made with the image; build again")
        return data

    return read


def attach_documents(
    target: Target, item: Image | Index, documents: Sequence[Document], read: Callable[[Document], bytes]
) -> list[int]:
    """Attach documents to the images that they are about, in a repository that has them.

    Returns the bytes sent for each that is new. Raises RegistryError or TransientError.
    """
    from hatch_docker.oci.referrers import Artifact, attach
    from hatch_docker.release.push import run_concurrently

    subjects = {one.digest: one.descriptor for one in (item, *images_of(item))}
    work: list[tuple[Descriptor, list[Artifact]]] = []
    for digest, subject in subjects.items():
        own = [one for one in documents if one.subject == digest]
        artifacts = [Artifact(one.media_type, read(one), _created(item), _notes(one)) for one in own]
        work += [(_bare(subject), artifacts)] if artifacts else []
    # Side by side: each may have to wait until its list is settled.
    done = run_concurrently([partial(attach, target, *pair) for pair in work])
    return [sent for one in done for sent in one.values()]


def attach_and_sign(
    sign: SignPlan | None, item: Image | Index, documents: Sequence[Document], root: Path, ctx: Context,
    read: Callable[[Document], bytes] | None = None,
) -> OnPushed:
    """What brings the documents into a repository that has the image, and signs it and them."""
    reader = read or (lambda document: read_stored(document, ctx))

    def on_pushed(target: Target) -> list[int]:
        try:
            attached = attach_documents(target, item, documents, reader)
        except TransientError:
            raise
        except RegistryError as error:
            text = f"{error}; where nothing can be attached, set sbom = [] and provenance = false"
            raise error.saying(text) from error
        if sign is not None:
            from hatch_docker.release.cosign import Cosign
            from hatch_docker.release.sign import Signer, sign_item

            sign_item(Signer(Cosign(root, ctx), sign, target), item, documents, reader)
        return attached

    return on_pushed


def _bare(descriptor: Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _created(item: Image | Index) -> dict[str, str]:
    from hatch_docker.plan.naming import PREFIX

    created = images_of(item)[0].config_json.get("created")
    return {PREFIX + "created": created} if isinstance(created, str) else {}


def _notes(document: Document) -> dict[str, str]:
    from hatch_docker.plan.naming import PREFIX
    from hatch_docker.release.provenance import PREDICATE_TYPE

    kind = {"in-toto.io/predicate-type": PREDICATE_TYPE} if document.format == "slsa" else {}
    return {PREFIX + "title": document.file, **kind}
