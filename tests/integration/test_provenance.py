"""Provenance of a whole build and push: all materials, each by its hash, and nothing else."""

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import run
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import done, run_build
from tests.projects import write_project

pytestmark = pytest.mark.network


def git(project: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "a@example.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return run("git", *arguments, cwd=project, variables={**who, "GIT_CONFIG_GLOBAL": os.devnull}).strip()


def test_what_was_built_of_what(tmp_path: Path, cache: Path) -> None:
    """The digest that was pushed, the base's, those of lock, packages and wheels, the commit and whether it is all."""
    home = tmp_path / "home-of-zoe-xyzzy"
    home.mkdir()
    project = write_project("extras-and-groups", tmp_path / "p", options=f'# {tmp_path.name}\nextras = ["colour"]')
    (project / ".gitignore").write_text("dist/\n")
    done(project, cache, "lock")
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
