"""Provenance of a whole build and push: it names all materials with their hashes, and no path or name of the host."""

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import run
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import output_of, run_build
from tests.projects import write_project

pytestmark = pytest.mark.network


def git(project: Path, *arguments: str) -> str:
    names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
    identity = dict.fromkeys(names, "a@example.invalid")
    return run("git", *arguments, cwd=project, variables={**identity, "GIT_CONFIG_GLOBAL": os.devnull}).strip()


def test_provenance_names_all_materials(tmp_path: Path, cache: Path) -> None:
    """Subject: the pushed digest. Materials: base, lock, packages, wheels, and the commit, which is not dirty."""
    home = tmp_path / "home-of-zoe-xyzzy"
    home.mkdir()
    project = write_project("extras-and-groups", tmp_path / "p", options=f'# {tmp_path.name}\nextras = ["colour"]')
    (project / ".gitignore").write_text("dist/\n")
    output_of(project, cache, "lock")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "all")
    variables = {"HOME": str(home), "USER": "zoe-xyzzy", "LOGNAME": "zoe-xyzzy", "HATCH_VERBOSE": "2"}
    with FakeRegistry(referrers=True) as registry:
        name = f"{registry.host}/team/app"
        outcome = run_build(project, cache, verb="docker:push", variables={**variables, "HATCH_DOCKER_IMAGE": name})
        assert outcome.status == 0, outcome.output
        digest = registry.repository("team/app").manifests["1.0.0"][1]
        text = (outcome.directory / outcome.receipt["provenance"]["file"]).read_text()
        attached = [data for _, data in registry.repository("team/app").manifests.values() if b"in-toto" in data]
        (layer,) = json.loads(attached[0])["layers"]
        assert registry.repository("team/app").blobs[layer["digest"]] == text.encode()
    statement = json.loads(text)
    assert statement["subject"] == [{"name": name, "digest": {"sha256": hashlib.sha256(digest).hexdigest()}}]
    definition = statement["predicate"]["buildDefinition"]
    materials = {material.get("uri") or material["name"]: material for material in definition["resolvedDependencies"]}
    assert all(material["digest"] for material in materials.values())
    (source,) = [material for material in materials.values() if material.get("name") == "source"]
    assert source["digest"] == {"gitCommit": git(project, "rev-parse", "HEAD")}
    assert source["annotations"] == {"dirty": False}
    lock = hashlib.sha256((project / "hatch-docker.lock").read_bytes()).hexdigest()
    assert materials["hatch-docker.lock"]["digest"] == {"sha256": lock}
    base = outcome.receipt["base"]
    assert materials[base["name"]]["digest"] == {"sha256": base["digest"].removeprefix("sha256:")}
    contents = [line for layer in outcome.layers for line in layer["contents"]]
    for line in contents:
        package, version = line.split()
        if package != "extras_and_groups":
            assert any(f"/{package.lower()}@{version}?" in unquote(uri) for uri in materials), line
    assert not any(word in text for word in (str(tmp_path), "zoe-xyzzy", os.uname().nodename, str(cache)))
