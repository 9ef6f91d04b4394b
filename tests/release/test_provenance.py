"""Tests of hatch_docker.release.provenance: all materials of an image, and no facts about the machine."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from hatch_docker.engines.model import BuiltImage
from hatch_docker.oci.make_image import make_index
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.project.git import Revision
from hatch_docker.release.provenance import provenance
from tests.fakes.context import context
from tests.fakes.sbom_images import CREATED, plan_and_image

HOME = "/home/zoe"


def fake_image(tmp_path: Path, table: dict[str, Any] | None = None, **facts: Any) -> tuple[Plan, BuiltImage]:
    return plan_and_image(context(tmp_path / "cache"), table=table, **facts)


def valid_statement(plan: Plan, built: BuiltImage, **more: Any) -> dict[str, Any]:
    """The statement about one image, found valid by the specifications' own schemas."""
    value = provenance(plan, built.image, [built], **{"locks": {}, "used": {}, "documents": {}, **more})
    check(value)
    return value


def check(value: dict[str, Any]) -> None:
    text: dict[str, Any] = json.loads(json.dumps(value))
    statement = statement_pb2.Statement()
    text["type"] = text.pop("_type")
    Statement.copy_from_pb(ParseDict(text, statement)).validate()
    predicate = ParseDict(text["predicate"], provenance_pb2.Provenance())
    assert predicate.build_definition.build_type
    assert predicate.run_details.builder.id
    for resource in predicate.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(resource).validate()


def materials(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the resolved dependencies."""
    found: list[dict[str, Any]] = value["predicate"]["buildDefinition"]["resolvedDependencies"]
    return found


def resources(value: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the digests of the materials, by URI or name."""
    return {material.get("uri") or material["name"]: material["digest"] for material in materials(value)}


def test_materials_and_subject_have_digests(tmp_path: Path) -> None:
    """Materials are sources, lock, base, wheels and sdists. The subject has the digest that is pushed."""
    plan, built = fake_image(tmp_path, {"image": "registry.example/team/app"})
    lock, sbom = ({name: f"sha256:{digit * 64}"} for name, digit in (("uv.lock", "7"), ("x.cdx.json", "8")))
    value = valid_statement(plan, built, locks=lock, documents=sbom)
    name = "registry.example/team/app"
    assert value["subject"] == [{"name": name, "digest": {"sha256": built.image.digest.removeprefix("sha256:")}}]
    assert resources(value) == {
        "source": {"gitCommit": plan.revision},
        "uv.lock": {"sha256": "7" * 64},
        f"pkg:oci/python@sha256:{'b' * 64}?repository_url=docker.io%2Flibrary%2Fpython&tag=3.13-slim": {
            "sha256": "b" * 64
        },
        "pkg:pypi/alpha@1.0?file_name=alpha-1.0-py3-none-any.whl": {"sha256": "a" * 64},
        "pkg:pypi/beta@2.0%2Blocal?file_name=beta-2.0%2Blocal.tar.gz": {"sha256": "e" * 64},
    }
    details = value["predicate"]["runDetails"]
    assert details["byproducts"] == [
        {"name": "my_app-1.2.3-py3-none-any.whl", "digest": {"sha256": "c" * 64}},
        {"name": "x.cdx.json", "digest": {"sha256": "8" * 64}},
    ]
    assert details["metadata"] == {}


def test_packages_of_debian_base_are_materials(tmp_path: Path) -> None:
    plan, built = fake_image(tmp_path)
    plan = replace(plan, base=BasePlan("debian", "debian:trixie", "trixie"))
    hashes = {"libc6 2.41-12 amd64": f"sha256:{'1' * 64}"}
    base = replace(built.base, plan=plan.base, name="debian:trixie", hashes=hashes, suite="trixie")
    built = replace(built, base=base)
    found = resources(valid_statement(plan, built))
    assert found["pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie"] == {"sha256": "1" * 64}
    assert found["debian:trixie"] == {"sha256": "b" * 64}


def test_packages_of_the_builder_are_annotated(tmp_path: Path) -> None:
    """A package that is also in the image is listed once, without the annotation."""
    plan, built = fake_image(tmp_path)
    hashes = {"libc6 2.41-12 amd64": "1" * 64}
    built = replace(built, base=replace(built.base, hashes=hashes, suite="trixie"))
    used = {
        ("pypi", "cffi", "2.0", "cffi-2.0-cp313-cp313-manylinux_2_17_x86_64.whl"): "2" * 64,
        ("deb", "gcc 4:14.2.0-1 amd64", "trixie"): "3" * 64, ("deb", "libc6 2.41-12 amd64", "trixie"): "1" * 64,
    }  # fmt: skip
    value = valid_statement(plan, built, used=used)
    builder = [material for material in materials(value) if material.get("annotations") == {"stage": "builder"}]
    assert {material["uri"]: material["digest"]["sha256"] for material in builder} == {
        "pkg:deb/debian/gcc@4:14.2.0-1?arch=amd64&distro=trixie": "3" * 64,
        "pkg:pypi/cffi@2.0?file_name=cffi-2.0-cp313-cp313-manylinux_2_17_x86_64.whl": "2" * 64,
    }
    assert sum("/libc6@" in material.get("uri", "") for material in materials(value)) == 1


@pytest.mark.parametrize("dirty", [False, True])
def test_source_is_marked_as_dirty(dirty: bool, tmp_path: Path) -> None:
    """The names of uncommitted files are not included."""
    revision = Revision("0" * 40, "main", CREATED, ("secret-plans.txt",) if dirty else ())
    urls = {"Source": "https://git.example/app"}
    value = valid_statement(*fake_image(tmp_path, urls=urls, revision=revision))
    (source,) = [material for material in materials(value) if material.get("name") == "source"]
    assert source["uri"] == f"git+https://git.example/app@{'0' * 40}"
    assert source["annotations"] == {"dirty": dirty}
    assert "secret-plans" not in json.dumps(value)
    assert "source" not in resources(valid_statement(*fake_image(tmp_path, revision=None)))


def test_index_has_all_images_as_subjects(tmp_path: Path) -> None:
    plan, built = fake_image(tmp_path)
    other = replace(built, image=fake_image(tmp_path, dependencies=())[1].image)
    index = make_index([built.image], {})
    value = provenance(plan, index, [built, other], locks={}, used={}, documents={})
    check(value)
    assert [item["name"] for item in value["subject"]] == ["my-app", "my-app#linux/amd64"]
    assert value["subject"][0]["digest"] == {"sha256": index.digest.removeprefix("sha256:")}
    assert len(resources(value)) == len(materials(value))


def test_provenance_has_no_paths_logins_or_values(tmp_path: Path) -> None:
    table = {
        "base": f"oci:{HOME}/bases/python", "lock": f"{HOME}/locks/uv.lock", "env": {"MOTTO": "s3cret-env"},
        "debian": {"mirror": "https://zoe:s3cret-mirror@mirror.example/debian"},
        "build": {"env": {"TOKEN": "s3cret-build"}, "secrets": ["API_KEY"]},
        "files": [{"source": "shared/static", "target": "/srv/static"}],
        "sbom": [],
    }
    text = json.dumps(valid_statement(*fake_image(tmp_path, table)))
    for word in (HOME, "zoe", "s3cret", "mirror.example", str(tmp_path)):
        assert word not in text
    for word in ("oci:python", "uv.lock", "MOTTO", "TOKEN", "API_KEY", "static"):
        assert word in text


def test_provenance_is_deterministic(tmp_path: Path) -> None:
    first, second = (valid_statement(*fake_image(tmp_path / name)) for name in ("a", "b"))
    assert json.dumps(first) == json.dumps(second)


def test_rebased_image_has_original_image_as_material(tmp_path: Path) -> None:
    """The sources may have changed since."""
    plan, built = fake_image(tmp_path)
    digest = f"sha256:{'9' * 64}"
    found = resources(valid_statement(plan, replace(built, pins=(), origin=digest), locks={"uv.lock": digest}))
    base = f"pkg:oci/python@sha256:{'b' * 64}?repository_url=docker.io%2Flibrary%2Fpython&tag=3.13-slim"
    assert found == {"my-app": {"sha256": "9" * 64}, base: {"sha256": "b" * 64}}
