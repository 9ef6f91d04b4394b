"""Tests of SBOMs: they list the packages in the image, are valid, and are the same each time."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from hatch_docker.core.context import Context
from hatch_docker.engines.model import BuiltImage, WheelInfo
from hatch_docker.oci.layer import Entry
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.project.licences import Licence, debian_licence, licence_of
from hatch_docker.release.purl import purl
from hatch_docker.release.sbom.formats import all_components, cyclonedx, spdx_document
from hatch_docker.release.sbom.inventory import headers, read_inventory
from hatch_docker.release.sbom.model import Component, Sbom, make_sbom
from tests.fakes.bases import file
from tests.fakes.context import context
from tests.fakes.images import layer_of
from tests.fakes.sbom_images import DEPENDENCIES, SITE, embedded_sbom, metadata, plan_and_image, system_layer

CARGO = {
    "bomFormat": "CycloneDX", "specVersion": "1.5",
    "metadata": {"component": {"type": "library", "bom-ref": "self", "name": "alpha", "version": "1.0"}},
    "components": [
        {
            "type": "library", "bom-ref": "path+file:///home/ann/x#inner", "name": "inner", "version": "0.1",
            "purl": "pkg:cargo/inner@0.1", "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "author": "Ann <ann@home.example>", "hashes": [{"alg": "SHA-256", "content": "d" * 64}],
        },
        {"type": "quantum", "bom-ref": "deep", "name": "deep", "group": "org", "version": "2", "newField": True},
    ],
    "dependencies": [{"ref": "self", "dependsOn": ["path+file:///home/ann/x#inner"]},
                     {"ref": "path+file:///home/ann/x#inner", "dependsOn": ["deep", "unknown"]}],
}  # fmt: skip
SPDX = {
    "spdxVersion": "SPDX-2.3", "documentDescribes": ["SPDXRef-alpha"],
    "packages": [
        {"SPDXID": "SPDXRef-alpha", "name": "alpha"},
        {"SPDXID": "SPDXRef-zlib", "name": "zlib", "versionInfo": "1.3", "licenseDeclared": "Zlib",
         "supplier": "Organization: Zlib (z@z.example)",
         "checksums": [{"algorithm": "SHA1", "checksumValue": "1" * 40}],
         "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:generic/zlib@1.3"}]},
    ],
    "relationships": [
        {"spdxElementId": "SPDXRef-alpha", "relationshipType": "CONTAINS", "relatedSpdxElement": "SPDXRef-zlib"},
    ],
}  # fmt: skip


def valid_sbom(plan: Plan, built: BuiltImage, ctx: Context) -> Sbom:
    """Return the SBOM of an image, after validating both documents with the schemas of their specifications."""
    sbom = make_sbom(plan, built, read_inventory(built.image.layers, ctx))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx(sbom))) is None
    document = JsonLikeDictParser().parse(json.loads(json.dumps(spdx_document(sbom))))
    assert validate_full_spdx_document(document) == []
    return sbom


def sbom_of(tmp_path: Path, *dependencies: Entry, **options: Any) -> Sbom:
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx, dependencies or DEPENDENCIES, **options)
    return valid_sbom(plan, built, ctx)


def components(sbom: Sbom) -> dict[str, Component]:
    return {item.name: item for item in all_components(sbom)}


def test_sbom_lists_all_packages_and_bases(tmp_path: Path) -> None:
    """A removed package is not listed."""
    sbom = sbom_of(tmp_path)
    assert [item.ref for item in sbom.components] == [
        f"pkg:oci/python@sha256:{'b' * 64}?repository_url=docker.io%2Flibrary%2Fpython&tag=3.13-slim",
        "os:debian-13",
        "pkg:generic/python@3.13.5",
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13&upstream=glibc",
        "pkg:deb/debian/libgcc-s1@14.2.0-19?arch=amd64&distro=debian-13&upstream=gcc-14%4014.2.0-18",
        "pkg:pypi/alpha@1.0",
        "pkg:pypi/beta@2.0%2Blocal",
        "pkg:pypi/delta@4",
        "pkg:pypi/gamma@3",
        "pkg:pypi/my-app@1.2.3",
        "pkg:pypi/pip@25.0",
    ]
    for item in all_components(sbom):
        assert not item.purl or PackageURL.from_string(item.purl).to_string() == item.purl.replace("%2F", "/")


def test_dependencies_follow_markers_extras_and_provides(tmp_path: Path) -> None:
    found = components(sbom_of(tmp_path))
    assert found["my-app"].requires == (found["my_app"].ref, found["python:3.13-slim"].ref)
    assert found["my_app"].requires == (found["alpha"].ref, found["beta"].ref)
    assert found["alpha"].requires == (found["beta"].ref, found["gamma"].ref)
    assert found["libc6"].requires == (found["libgcc-s1"].ref,)
    assert found["libgcc-s1"].requires == (found["libc6"].ref,)
    below = ("debian", "libc6", "libgcc-s1", "pip", "python")
    assert found["python:3.13-slim"].requires == tuple(found[name].ref for name in below)


def test_components_have_hashes_supplier_and_licence(tmp_path: Path) -> None:
    """The hash is the wheel's, or that of the sdist from which the wheel was built."""
    found = components(sbom_of(tmp_path))
    assert found["alpha"].hashes == {"SHA-256": "a" * 64}
    assert (found["beta"].hashes, found["beta"].sdist) == ({}, "e" * 64)
    assert found["my_app"].hashes == {"SHA-256": "c" * 64}
    assert (found["my_app"].supplier, found["alpha"].supplier) == ("Ann", "Bob")
    assert found["my_app"].licence == Licence("MIT")
    assert found["alpha"].licence == Licence("Apache-2.0")
    assert found["beta"].licence == Licence(names=("BSD",))
    assert found["libc6"].licence == Licence(names=("GPL-2.0-only", "LGPL-2.1-or-later OR MIT"))
    assert found["libc6"].supplier == "GNU Libc Maintainers"


def test_documents_are_valid_for_any_metadata(tmp_path: Path) -> None:
    invalid = metadata(
        "alpha", "1.0", "Author: Bob\n  the\tother <b@x>", "License: two\n        lines", "Requires-Dist: beta; a b",
        "Requires-Dist: ???", f"Requires-Dist: beta; {'(' * 5000}", "Requires-Dist: beta; python_version >= 'x y'",
        "Requires-Dist: beta; platform_release > '1.0'", "Classifier: License ::", "no colon", "\u200b: \x07",
    )
    sbom = sbom_of(tmp_path, invalid, metadata("beta", "1 0/0?#"), metadata("", ""))
    found = components(sbom)
    assert (found["alpha"].supplier, found["alpha"].licence) == ("Bob the other", Licence(names=("two lines",)))
    assert found["beta"].purl == "pkg:pypi/beta@1%200%2F0%3F%23"


def test_workspace_members_have_hashes(tmp_path: Path) -> None:
    """Their wheels are built together with the project's wheel."""
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx)
    built = replace(built, pins=(), members=(WheelInfo("alpha-1.0-py3-none-any.whl", "f" * 64),))
    sbom = valid_sbom(plan, built, ctx)
    assert components(sbom)["alpha"].hashes == {"SHA-256": "f" * 64}
    assert components(sbom)["my_app"].hashes == {"SHA-256": "c" * 64}


@pytest.mark.parametrize("document", [CARGO, SPDX], ids=["CycloneDX", "SPDX"])
def test_embedded_sbom_is_merged_below_its_wheel(document: dict[str, Any], tmp_path: Path) -> None:
    """No path of the machine on which the wheel was built is kept."""
    sbom = sbom_of(tmp_path, metadata("alpha", "1.0"), embedded_sbom("alpha", "1.0", document))
    alpha = components(sbom)["alpha"]
    if document is SPDX:
        (zlib,) = alpha.inside
        assert (zlib.name, zlib.version, zlib.purl) == ("zlib", "1.3", "pkg:generic/zlib@1.3")
        assert (zlib.licence, zlib.hashes) == (Licence("Zlib"), {"SHA-1": "1" * 40})
        assert alpha.requires == (zlib.ref,)
    else:
        inner, deep = alpha.inside
        assert (inner.name, inner.supplier, inner.hashes) == ("inner", "Ann", {"SHA-256": "d" * 64})
        assert (deep.type, deep.name) == ("library", "org/deep")
        assert (alpha.requires, inner.requires) == ((inner.ref,), (deep.ref,))
        assert "/home/ann" not in json.dumps([cyclonedx(sbom), spdx_document(sbom)])


MANY = json.dumps({"bomFormat": "CycloneDX", "components": [{"name": f"n{number}"} for number in range(5001)]})
STRANGE = {
    "xml": "<bom/>", "deep": "[" * 100_000, "a number": '{"bomFormat": "CycloneDX", "components": 3}',
    "a text": '{"bomFormat": "CycloneDX", "components": [{"name": 1, "hashes": "x"}]}',
    "no id": '{"spdxVersion": "SPDX-2.3", "packages": [{}]}', "SPDX 3": '{"spdxVersion": "SPDX-3.0"}', "many": MANY,
}  # fmt: skip


@pytest.mark.parametrize("document", [text.encode() for text in STRANGE.values()], ids=STRANGE)
def test_unreadable_embedded_sbom_is_referenced(document: bytes, tmp_path: Path) -> None:
    """The reference has path and hash."""
    sbom = sbom_of(tmp_path, metadata("alpha", "1.0"), embedded_sbom("alpha", "1.0", document))
    ((path, digest),) = components(sbom)["alpha"].documents
    assert path == f"{SITE}/alpha-1.0.dist-info/sboms/sbom.json"
    assert digest == hashlib.sha256(document).hexdigest()


def test_embedded_sboms_of_a_wheel_are_merged(tmp_path: Path) -> None:
    """A component in both documents is listed once, with the values of both."""
    hashes = [{"alg": "MD5", "content": "0" * 32}]
    part = {"name": "inner", "version": "0.1", "purl": "pkg:cargo/inner@0.1", "hashes": hashes}
    other = {**CARGO, "components": [part]}
    embedded = [embedded_sbom("alpha", "1.0", document, name) for document, name in ((CARGO, "a"), (other, "b"))]
    sbom = sbom_of(tmp_path, metadata("alpha", "1.0"), *embedded)
    inner, deep = components(sbom)["alpha"].inside
    assert inner.hashes == {"SHA-256": "d" * 64, "MD5": "0" * 32}
    assert inner.requires == (deep.ref,)


def test_same_distribution_in_base_and_layer_is_two_components(tmp_path: Path) -> None:
    sbom = sbom_of(tmp_path, metadata("pip", "25.0"))
    twice = [item for item in sbom.components if item.name == "pip"]
    assert [item.purl for item in twice] == ["pkg:pypi/pip@25.0"] * 2
    assert len({item.ref for item in twice}) == 2


def test_whiteouts_remove_findings_of_lower_layers(tmp_path: Path) -> None:
    """A whiteout removes a file or a directory, an opaque whiteout the earlier contents of a directory."""
    ctx = context(tmp_path / "cache")
    lower = layer_of([metadata("alpha", "1"), metadata("beta", "1"), metadata("gamma", "1", site="a")])
    info = f"{SITE}/alpha-1.dist-info"
    upper = layer_of([file(f"{SITE}/.wh.alpha-1.dist-info"), file("a/.wh..wh..opq"), metadata("delta", "1", site="a")])
    assert f"{info}/METADATA" in read_inventory([lower], ctx)
    names = {find["name"]: number for number, find in read_inventory([lower, upper], ctx).values()}
    assert names == {"beta": 0, "delta": 1}


def test_inventory_of_a_layer_is_read_once(tmp_path: Path) -> None:
    """It is stored by the diff-id. A second image does not open the layer."""
    ctx = context(tmp_path / "cache")
    layer = system_layer()

    def fail() -> Any:
        raise AssertionError("opened again")

    first = read_inventory([layer], ctx)
    again = read_inventory([replace(layer, open=fail)], ctx)
    assert json.dumps(again, sort_keys=True) == json.dumps(first, sort_keys=True)


def test_packages_of_alpine(tmp_path: Path) -> None:
    """The licence is in Alpine's database."""
    musl = "C:Q1x=\nP:musl\nV:1.2.5-r9\nA:x86_64\nL:MIT\no:musl\nm:Ann <a@b.example>\np:so:libc.musl=1\n"
    zlib = "P:zlib\nV:1.3-r0\nA:x86_64\nL:Zlib\no:zlib-src\nD:so:libc.musl>=1 !old\n"
    layer = layer_of([
        file("lib/apk/db/installed", f"{musl}\n{zlib}"), file("etc/os-release", "ID=alpine\nVERSION_ID=3.22.1\n"),
    ])  # fmt: skip
    sbom = sbom_of(tmp_path, system=layer)
    found = components(sbom)
    assert found["zlib"].purl == "pkg:apk/alpine/zlib@1.3-r0?arch=x86_64&distro=alpine-3.22.1&upstream=zlib-src"
    assert found["zlib"].requires == (found["musl"].ref,)
    assert found["musl"].licence == Licence("MIT")


def test_unknown_distribution_makes_sbom_incomplete(tmp_path: Path) -> None:
    sbom = sbom_of(tmp_path, system=layer_of([file("etc/os-release", "ID=fedora\n")]))
    assert cyclonedx(sbom)["compositions"][0]["aggregate"] == "incomplete"
    assert cyclonedx(sbom_of(tmp_path))["compositions"][0]["aggregate"] == "complete"


def test_documents_are_deterministic(tmp_path: Path) -> None:
    """Times and IDs come from the image, so another cache or machine gives the same documents."""
    first, second = (sbom_of(tmp_path / name) for name in ("a", "b"))
    assert (cyclonedx(first), spdx_document(first)) == (cyclonedx(second), spdx_document(second))
    assert cyclonedx(first)["metadata"]["timestamp"] == spdx_document(first)["creationInfo"]["created"]
    assert cyclonedx(first)["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    changed = sbom_of(tmp_path, metadata("alpha", "1.1"))
    assert cyclonedx(first)["serialNumber"] != cyclonedx(changed)["serialNumber"]


def test_sbom_has_minimum_elements(tmp_path: Path) -> None:
    """NTIA and CISA require supplier, name, version, licence and relationship of each component, also if unknown."""
    value = cyclonedx(sbom_of(tmp_path))
    related = {line["ref"] for line in value["dependencies"]}
    for item in value["components"]:
        assert item["supplier"]["name"]
        assert item["name"]
        assert item["version"]
        assert item["licenses"]
        assert item["bom-ref"] in related
    assert value["metadata"]["authors"]
    assert value["metadata"]["timestamp"]
    assert value["metadata"]["lifecycles"] == [{"phase": "build"}]


def test_sbom_has_no_path_of_a_layout(tmp_path: Path) -> None:
    ctx = context(tmp_path / "cache")
    plan, built = plan_and_image(ctx)
    path = "oci:/home/ann/secret/base.tar"
    built = replace(built, base=replace(built.base, name=path, plan=BasePlan("oci", path, path[4:])))
    sbom = valid_sbom(plan, built, ctx)
    assert "oci:base.tar" in components(sbom)
    assert "ann" not in json.dumps([cyclonedx(sbom), spdx_document(sbom)])


@pytest.mark.parametrize(("lines", "expected"), [
    ("License-Expression: mit or apache-2.0", Licence("MIT OR Apache-2.0")),
    ("License: BSD-3-Clause\nClassifier: License :: OSI Approved :: BSD License", Licence("BSD-3-Clause")),
    ("Classifier: License :: OSI Approved :: BSD License", Licence(names=("BSD License",))),
    ("License: " + "Permission is hereby granted " * 9, Licence()),
    ("License: Own\nClassifier: License :: OSI Approved :: MIT License", Licence("MIT")),
    ("Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other :: ISC License (ISCL)",
     Licence(names=("MIT License", "ISC License (ISCL)"))),
    ("License-Expression: LicenseRef-Own", Licence("LicenseRef-Own")),
    ("Name: x", Licence()),
])  # fmt: skip
def test_licences_of_distributions(lines: str, expected: Licence) -> None:
    assert licence_of(headers(lines)) == expected


def test_licences_of_debian_copyright_files() -> None:
    """Known short names of DEP-5 become SPDX IDs. A file in another format has no licence."""
    text = "Format: x\nLicense: GPL-3+\nLicense: Expat\nLicense: BSD-3-clause and Zlib\nLicense: own words\n"
    names = ("BSD-3-Clause AND Zlib", "GPL-3.0-or-later", "MIT", "own words")
    assert debian_licence(text) == Licence(names=names)
    assert debian_licence("Format: x\nLicense: Expat\nLicense: Expat\n") == Licence("MIT")
    assert debian_licence("This is\nLicense: MIT") == Licence()


def test_licence_ref_is_listed_with_a_text(tmp_path: Path) -> None:
    """SPDX requires a text for each LicenseRef."""
    sbom = sbom_of(tmp_path, metadata("alpha", "1.0", "License-Expression: LicenseRef-Own AND MIT"))
    assert [item["licenseId"] for item in spdx_document(sbom)["hasExtractedLicensingInfos"]] == ["LicenseRef-Own"]


def test_purls_are_the_same_as_packageurl_python() -> None:
    url = purl("deb", "libstdc++6", "1:14.2.0-19~x", namespace="debian", qualifiers={"arch": "amd64", "none": ""})
    assert url == "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19~x?arch=amd64"
    assert PackageURL.from_string(url).to_string() == url
    assert purl("pypi", "My_App.x", "1!2+a") == PackageURL("pypi", None, "my-app-x", "1!2+a").to_string()
