"""Tests of hatch_docker.release.attachments: documents are made once, written to files, and attached in registries."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.core.cache.store import file_digest
from hatch_docker.core.errors import ConfigError, RegistryError
from hatch_docker.oci.make_image import make_index
from hatch_docker.oci.model import Image, Index
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import referrers
from hatch_docker.oci.registry import Remote
from hatch_docker.project.model import Project
from hatch_docker.release.attachments import (
    Document,
    attach_and_sign,
    attach_documents,
    document_reader,
    make_documents,
    read_stored,
    write_documents,
)
from hatch_docker.release.sbom import inventory
from tests.fakes.context import context
from tests.fakes.images import with_config
from tests.fakes.registry import FakeRegistry, push
from tests.fakes.sbom_images import plan_and_image
from tests.validate import validate

BOTH = {"sbom": ["cyclonedx", "spdx"]}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(referrers=True) as fake:
        yield fake


def fail() -> Path:
    raise AssertionError("the project must not be built")


def project_at(root: Path) -> Project:
    return Project(root, fail, fail)


def documents_of(tmp_path: Path, **options: Any) -> tuple[Document, ...]:
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx, **options)
    return make_documents(plan, built.image, [built], project_at(tmp_path), ctx)


def test_documents_follow_the_options(tmp_path: Path) -> None:
    """By default they are a CycloneDX SBOM and a provenance that lists it."""
    cdx, statement = documents_of(tmp_path)
    assert (cdx.file, statement.file) == ("my_app-1.2.3.cdx.json", "my_app-1.2.3.provenance.json")
    assert cdx.subject == statement.subject
    ctx = context(tmp_path / "cache")
    assert json.loads(read_stored(cdx, ctx))["bomFormat"] == "CycloneDX"
    (_wheel, product) = json.loads(read_stored(statement, ctx))["predicate"]["runDetails"]["byproducts"]
    assert f"sha256:{product['digest']['sha256']}" == cdx.digest
    assert [item.format for item in documents_of(tmp_path, table=BOTH)] == ["cyclonedx", "spdx", "slsa"]
    assert documents_of(tmp_path, table={"sbom": [], "provenance": False}) == ()


def test_sbom_is_made_once_for_the_same_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another wheel with the same name needs a new SBOM."""
    first = documents_of(tmp_path)
    monkeypatch.setattr(inventory, "read_inventory", fail)
    assert documents_of(tmp_path) == first
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx)
    other = replace(built, pins=(replace(built.pins[0], sha256="9" * 64), *built.pins[1:]))
    with pytest.raises((AssertionError, TypeError)):
        make_documents(plan, built.image, [other], project_at(tmp_path), ctx)


def test_locks_are_materials(tmp_path: Path) -> None:
    """The image lock is a material, too."""
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "hatch-docker.lock").write_text("version = 1\n")
    *_, statement = documents_of(tmp_path, locks=("uv.lock",), pins="hatch-docker.lock")
    value = json.loads(read_stored(statement, context(tmp_path / "cache")))
    found = value["predicate"]["buildDefinition"]["resolvedDependencies"]
    digest = file_digest(tmp_path / "uv.lock").removeprefix("sha256:")
    for name in ("uv.lock", "hatch-docker.lock"):
        assert {"name": name, "digest": {"sha256": digest}} in found


def test_only_changed_files_are_written(tmp_path: Path) -> None:
    ctx = context(tmp_path / "cache")
    documents = documents_of(tmp_path)
    write_documents(documents, tmp_path / "dist", ctx)
    paths = [tmp_path / "dist" / document.file for document in documents]
    assert [file_digest(path) for path in paths] == [document.digest for document in documents]
    before = [path.stat().st_ino for path in paths]
    paths[0].write_text("{}")
    write_documents(documents, tmp_path / "dist", ctx)
    assert [path.stat().st_ino == inode for path, inode in zip(paths, before, strict=True)] == [False, True]


def pushed(registry: FakeRegistry, item: Image | Index, tmp_path: Path) -> Target:
    ctx = context(tmp_path / "cache")
    remote = Remote(ctx.client, {})
    push(remote, item, [parse_reference(f"{registry.host}/team/app:1")])
    return Target(remote, replace(parse_reference(f"{registry.host}/team/app"), tag=""), lambda _digest: "")


def test_documents_are_attached_as_referrers(registry: FakeRegistry, tmp_path: Path) -> None:
    """Each has the image's time and the file's name, and is attached once, with unchanged bytes."""
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx, table=BOTH)
    validate(built.image)
    documents = make_documents(plan, built.image, [built], project_at(tmp_path), ctx)
    to = pushed(registry, built.image, tmp_path)
    on_pushed = attach_and_sign(None, built.image, documents, tmp_path, ctx)
    sent = sum(len(read_stored(document, ctx)) for document in documents)
    first = on_pushed(to)
    assert len(first) == 3
    assert sent < sum(first) < sent + 3000
    assert on_pushed(to) == []
    found = referrers(to, built.image.digest)
    assert [item["artifactType"] for item in found.values()] == [document.media_type for document in documents]
    created = {"org.opencontainers.image.created": "2023-11-14T22:13:20Z"}
    assert all(item["annotations"] == created for item in found.values())
    for document in documents:
        assert registry.repository("team/app").blobs[document.digest] == read_stored(document, ctx)
    manifest = json.loads(registry.repository("team/app").manifests[next(iter(found))][1])
    assert manifest["layers"][0]["annotations"] == {"org.opencontainers.image.title": documents[0].file}


def test_documents_of_an_index(registry: FakeRegistry, tmp_path: Path) -> None:
    """Each image has its SBOM; the provenance is attached to the index."""
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx, table={"platforms": ["linux/amd64", "linux/arm64"]})
    config = json.loads(built.image.config) | {"architecture": "arm64"}
    other = replace(built, image=with_config(built.image, config))
    index = make_index([built.image, other.image], {})
    documents = make_documents(plan, index, [built, other], project_at(tmp_path), ctx)
    assert [(document.file, document.subject) for document in documents] == [
        ("my_app-1.2.3.linux-amd64.cdx.json", built.image.digest),
        ("my_app-1.2.3.linux-arm64.cdx.json", other.image.digest), ("my_app-1.2.3.provenance.json", index.digest),
    ]  # fmt: skip
    to = pushed(registry, index, tmp_path)
    assert len(attach_documents(to, index, documents, lambda document: document.file.encode())) == 3
    for digest, kind in (
        (built.image.digest, "cyclonedx"), (other.image.digest, "cyclonedx"), (index.digest, "in-toto"),
    ):
        (referrer,) = referrers(to, digest).values()
        assert kind in referrer["artifactType"]


def test_rejected_document_error_suggests_options(registry: FakeRegistry, tmp_path: Path) -> None:
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx)
    documents = make_documents(plan, built.image, [built], project_at(tmp_path), ctx)
    to = pushed(registry, built.image, tmp_path)
    registry.fault("PUT", "/manifests/sha256:", 415)
    with pytest.raises(RegistryError, match=r"415 .*; for a registry that accepts no attachments, set sbom = \[\]"):
        attach_and_sign(None, built.image, documents, tmp_path, ctx)(to)


def test_sbom_of_rebased_image_has_hashes_of_wheels(tmp_path: Path) -> None:
    """They are stored by the layers, which do not change. For an image from another machine they are unknown."""

    def alpha(cache: str) -> dict[str, Any]:
        ctx = context(tmp_path / cache)
        plan, built = plan_and_image(ctx, table={"provenance": False})
        rebased = replace(built, pins=(), origin=f"sha256:{'9' * 64}")
        (document,) = make_documents(plan, rebased.image, [rebased], project_at(tmp_path), ctx)
        (found,) = [item for item in json.loads(read_stored(document, ctx))["components"] if item["name"] == "alpha"]
        return found

    documents_of(tmp_path)
    assert alpha("cache")["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert "hashes" not in alpha("another")


def test_documents_beside_an_archive_must_be_unchanged(tmp_path: Path) -> None:
    """A push without a build reads these files."""
    ctx = context(tmp_path / "cache")
    documents = documents_of(tmp_path)
    write_documents(documents, tmp_path, ctx)
    read = document_reader(tmp_path)
    assert [read(document) for document in documents] == [read_stored(document, ctx) for document in documents]
    (tmp_path / documents[0].file).write_text("{}")
    with pytest.raises(ConfigError, match=r"cdx\.json is not what was made with the image; build again"):
        read(documents[0])
    (tmp_path / documents[1].file).unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*provenance\.json, which was made with the image: No such"):
        read(documents[1])
