"""Scanners on the images: syft finds exactly the packages that the SBOM lists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image
from hatch_docker.release.sbom.formats import cyclonedx
from hatch_docker.release.sbom.inventory import read_inventory
from hatch_docker.release.sbom.model import make_sbom
from tests.conftest import need
from tests.fakes.bases import file
from tests.fakes.context import context
from tests.fakes.images import AMD64, layer_of
from tests.fakes.sbom_images import plan_and_image
from tests.integration.builds import Outcome, build, require
from tests.projects import write_project
from tests.validate import validate

pytestmark = pytest.mark.engine

KINDS = ("python", "deb", "apk")


def syft(archive: Path) -> set[str]:
    """Return the purls of the Python and system packages that syft finds in an archive."""
    program = shutil.which("syft", path=str(Path(sys.executable).parent)) or need("syft")
    environ = {**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    command = [program, "scan", "--quiet", "--output", "json", f"oci-archive:{archive}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300)
    assert done.returncode == 0, done.stderr
    return {artifact["purl"] for artifact in json.loads(done.stdout)["artifacts"] if artifact["type"] in KINDS}


def purls_of(document: dict[str, Any]) -> set[str]:
    """Return the purls of a document, without the parts that are compiled into packages, which no scanner finds."""
    purls = (component.get("purl", "") for component in document["components"])
    return {purl for purl in purls if purl.startswith(("pkg:pypi/", "pkg:deb/", "pkg:apk/"))}


def documents(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return the SBOMs by format, after checks that they are valid."""
    # Imported here: the import takes 0.4 s, in each worker if it is at the top.
    from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    files = {sbom["format"]: outcome.directory / sbom["file"] for sbom in outcome.receipt["sbom"]}
    found = {name: json.loads(path.read_bytes()) for name, path in files.items()}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found["cyclonedx"])) is None
    assert validate_full_spdx_document(JsonLikeDictParser().parse(found["spdx"])) == []
    check_required_fields(found["cyclonedx"])
    return found


def check_required_fields(document: dict[str, Any]) -> None:
    """Check the minimum elements of NTIA and CISA: author, time, supplier, name, version, identifiers, relations."""
    assert document["metadata"]["authors"]
    assert document["metadata"]["timestamp"]
    assert document["metadata"]["tools"]
    assert document["metadata"]["lifecycles"] == [{"phase": "build"}]
    related = {line["ref"] for line in document["dependencies"]}
    for component in document["components"]:
        assert component["supplier"]["name"]
        assert component["name"]
        assert component["version"]
        assert component["licenses"]
        assert component["bom-ref"] in related
        if component["type"] == "library":
            assert component["purl"]
            assert component["hashes"]


def embedded_sboms(image: Image, document: dict[str, Any]) -> set[str]:
    """Return the distributions with an embedded SBOM (PEP 770), after a check that exactly these list parts."""
    paths = [entry.path for layer in image.layers for entry, _ in layer_entries(layer)]
    found = {re.search(r"([\w.]+)-[^/]+\.dist-info/sboms/.+\.json$", path) for path in paths}
    brought = {canonicalize_name(match[1]) for match in found if match}
    with_parts = [component for component in document["components"] if component.get("components")]
    assert {canonicalize_name(component["name"]) for component in with_parts} == brought
    return brought


@pytest.mark.network
def test_syft_finds_the_packages_of_the_sbom(tmp_path: Path, cache: Path) -> None:
    """The purls agree, each with its hash; the provenance lists the same Debian packages."""
    project = write_project("hello", tmp_path / "p", options='sbom = ["cyclonedx", "spdx"]')
    outcome = build(require(project, "fastapi"), cache)
    found = documents(outcome)
    named = purls_of(found["cyclonedx"])
    assert syft(outcome.archive) == named
    assert {purl for purl in named if purl.startswith("pkg:pypi/fastapi@")}
    assert embedded_sboms(outcome.image(), found["cyclonedx"]) >= {"pydantic-core"}
    in_spdx = {
        ref["referenceLocator"] for package in found["spdx"]["packages"] for ref in package.get("externalRefs", ())
    }
    assert named <= in_spdx
    libraries = {component["purl"]: component["hashes"][0]["content"] for component in found["cyclonedx"]["components"]
                 if component["type"] == "library"}  # fmt: skip
    assert named <= set(libraries)
    statement = json.loads((outcome.directory / outcome.receipt["provenance"]["file"]).read_bytes())
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {item["uri"].partition("&")[0]: item["digest"]["sha256"] for item in materials if "uri" in item}
    assert all(digests[purl.partition("&")[0]] == digest for purl, digest in libraries.items() if "pkg:deb/" in purl)


@pytest.mark.network
def test_sbom_lists_code_compiled_into_a_wheel(tmp_path: Path, cache: Path) -> None:
    """PEP 770: the SBOM in cryptography's wheel lists OpenSSL, which no scanner finds."""
    project = write_project("hello", tmp_path / "p", options='sbom = ["cyclonedx", "spdx"]')
    outcome = build(require(project, "cryptography"), cache)
    found = documents(outcome)
    (wheel,) = [component for component in found["cyclonedx"]["components"] if component["name"] == "cryptography"]
    parts = {part["name"]: part for part in wheel["components"]}
    assert embedded_sboms(outcome.image(), found["cyclonedx"]) == {"cryptography"}
    assert parts["openssl"]["version"]
    assert {"pyo3", "openssl-sys"} <= set(parts)
    assert "openssl" in {package["name"] for package in found["spdx"]["packages"]}
    assert not any("openssl" in purl and "generic" in purl for purl in syft(outcome.archive))


@pytest.mark.parametrize("system", ["debian", "alpine"])
def test_syft_on_a_foreign_base(system: str, tmp_path: Path) -> None:
    """A package database of Debian or Alpine, and the base's own pip."""
    ctx = context(tmp_path / "cache")
    musl = "C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=\nP:musl\nV:1.2.5-r9\nA:x86_64\nT:libc\nL:MIT\no:musl\n\n"
    alpine = layer_of([
        file("lib/apk/db/installed", musl),
        file("etc/os-release", "ID=alpine\nVERSION_ID=3.22.1\n"), file("etc/alpine-release", "3.22.1\n"),
    ])  # fmt: skip
    plan, built = plan_and_image(ctx, system=alpine if system == "alpine" else None)
    validate(built.image)
    document = cyclonedx(make_sbom(plan, built, read_inventory(built.image.layers, ctx)))
    archive = tmp_path / "image.tar"
    with archive.open("wb") as stream:
        write_archive(built.image, ["app:1"], stream, host=AMD64)
    # syft also lists packages that are removed but not purged (dpkg status "config-files").
    removed = {"pkg:deb/debian/gone@1?arch=amd64&distro=debian-13"} if system == "debian" else set()
    assert syft(archive) == purls_of(document) | removed
