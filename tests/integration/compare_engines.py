"""Projects that are in no cache, and comparisons of the images that the engines and `docker build` make of them."""

import hashlib
import json
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image
from tests.conftest import run
from tests.integration.builds import Outcome, build, check_option
from tests.projects import KINDS, write_project

SIX_KINDS = ("hello", "c-extension", "scripts-and-data", "extras-and-groups", "namespace", "vcs-version")
NAME = "hatch-docker/tested"  # a name that a developer's own image does not have
# The second step reads a file of the first. Outputs: a program, a link, an empty directory, a module in site-packages.
STEPS = """
[[tool.hatch-docker.steps]]
command = ["python", "-c", '''import os, pathlib
top = pathlib.Path("/srv/made")
(top / "run").write_text(os.environ["MODE"] + pathlib.Path("pyproject.toml").read_text()[:14])
(top / "run").chmod(0o700)
(top / "link").symlink_to("run")
(top / "empty").mkdir()
''']
outputs = ["/srv/made"]
inputs = ["pyproject.toml"]
env = { MODE = "a $b" }
[[tool.hatch-docker.steps]]
command = ["python", "-c", '''import pathlib, sysconfig
top = pathlib.Path(sysconfig.get_path("purelib"))
(top / "made.py").write_text("TEXT = " + repr(pathlib.Path("/srv/made/run").read_text()))
''']
outputs = ["/opt/venv/lib"]
"""
OPTIONS = {
    "scripts-and-data": STEPS,
    "extras-and-groups": 'extras = ["all"]\ndependency-groups = ["production"]',
    "c-extension": 'volumes = ["/data", "/data/cache", "/var/lib/app/store", "/var/run/app", "/var/tmp"]',
}
# Some machines have no Docker bridge network, and no build of the tests needs the network.
PLAIN = {"HATCH_DOCKER_BUILD_NETWORK": "false"}
BUILDKIT = {**PLAIN, "HATCH_DOCKER_ENGINE": "buildkit"}

ONLY_IN_DOCKER_BUILD: Mapping[str, str] = {
    "opt": "COPY adds entries for the parents of a copied tree; the embedded engine does not, as unpacking makes them",
    "w $y": "WORKDIR adds an entry for its directory; otherwise the runtime makes it when a container starts",
}
"""Paths that only the image of `docker build` has, each with the reason."""


def new_project(kind: str, directory: Path, **options: str) -> Path:
    """Write a project with a unique module, so that no cache contains its wheel."""
    project = write_project(kind, directory, options=options.get("options", OPTIONS.get(kind, "")))
    edit_module(project)
    return project


def edit_module(project: Path) -> None:
    """Append a random comment to a module, so that no cache contains the project's wheel."""
    module = next(path for path in sorted(project.rglob("*.py")) if path.name != "hatch_build.py")
    module.write_text(f"{module.read_text()}\n# {secrets.token_hex()}\n")


def materials(outcome: Outcome) -> list[str]:
    """Return the names of the materials in the provenance (`resolvedDependencies`) that have a digest."""
    statement = json.loads((outcome.directory / outcome.receipt["provenance"]["file"]).read_bytes())
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return [material.get("uri", material.get("name")) for material in found if material["digest"]]


def check_engines(kind: str, base: str, docker: str, work: Path, cache: Path, *, more: str = "") -> None:
    """Build a project (with `more` tables) with both engines; compare digest, receipt, provenance and container."""
    options = f'image = "{NAME}"\n{OPTIONS.get(kind, "")}\n{check_option(kind)}\n{more}'
    project = new_project(kind, work / "p", options=options)
    plain = {"SOURCE_DATE_EPOCH": "1700000000", "HATCH_DOCKER_BASE": base}
    embedded = build(project, cache, variables={**PLAIN, **plain, "HATCH_DOCKER_TAGS": "embedded"})
    embedded.directory.rename(work / "embedded")
    embedded = replace(embedded, directory=work / "embedded")
    other = build(project, cache, variables={**BUILDKIT, **plain, "HATCH_DOCKER_TAGS": "buildkit"})
    assert "install-project" in other.output, "the image came from a cache: nothing was compared"
    assert other.digest == embedded.digest
    (platform,), (expected,) = other.receipt["platforms"], embedded.receipt["platforms"]
    assert [layer["contents"] for layer in platform["layers"]] == [layer["contents"] for layer in expected["layers"]]
    assert abs(platform["unpacked_size"] - expected["unpacked_size"]) <= 0.03 * expected["unpacked_size"]
    assert other.receipt["wheel"] == embedded.receipt["wheel"]
    if base.startswith("debian:"):  # on another base its own apt installs the compiler, so that the materials differ
        assert materials(other) == materials(embedded)
        assert kind != "c-extension" or any("/gcc@" in uri for uri in materials(embedded))
    found, of_embedded = behaviours(docker, {"buildkit": other, "embedded": embedded})
    assert found == of_embedded
    assert (found.status, found.user, found.group) == (0, 65532, 65532 if base.startswith("debian:") else 0)
    if kind not in ("extras-and-groups", "vcs-version"):  # their output depends on the options and on the edit
        assert found.output == KINDS[kind].output


@dataclass(frozen=True)
class Behaviour:
    """The output and exit status of a container, and its user, group, variables, working directory and Python."""

    output: str
    status: int
    user: int
    group: int
    variables: Mapping[str, str]
    directory: str
    python: str
    path: Sequence[str]


REPORT = """
import json, os, sys
env = {name: os.environ[name] for name in sorted(os.environ) if name != "HOSTNAME"}
print(json.dumps([os.getuid(), os.getgid(), env, os.getcwd(), sys.version, sys.path]))
"""


def behaviours(docker: str, outcomes: Mapping[str, Outcome]) -> list[Behaviour]:
    """Run the images of several builds (tag -> outcome) in Docker, read-only and without capabilities."""
    start = [docker, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL"]
    names = [f"{NAME}:{tag}" for tag in outcomes]
    found = []
    try:
        for name, outcome in zip(names, outcomes.values(), strict=True):
            run(docker, "load", "--quiet", "--input", outcome.archive)
            done = subprocess.run([*start, name], capture_output=True, text=True, check=False)
            report = json.loads(run(*start, "--entrypoint=python", name, "-c", REPORT))
            found.append(Behaviour(done.stdout, done.returncode, *report))
    finally:
        run(docker, "rmi", "--force", *names)
    return found


def stages(outcome: Outcome) -> list[str]:
    """Return the names of the stages that a build ran, instead of taking them from BuildKit's cache."""
    return re.findall(r"^  ((?:install|build|environment)-\S+) ", outcome.output, re.MULTILINE)


def written_dockerfile(project: Path, cache: Path) -> tuple[Outcome, Path]:
    """Build an image with the embedded engine and write the Dockerfile; return the outcome and the Dockerfile."""
    outcome = build(project, cache, verb="docker:image,dockerfile", variables={**PLAIN, "HATCH_DOCKER_IMAGE": NAME})
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    return outcome, dockerfile


def tree(image: Image) -> dict[str, tuple[object, ...]]:
    """Apply all layers with their whiteouts; return type, mode, owner, link target and SHA-256 of each path."""
    found: dict[str, tuple[object, ...]] = {}
    for layer in image.layers:
        removed = [entry for entry, _ in layer_entries(layer) if entry.kind in ("whiteout", "opaque")]
        for path in list(found):
            if any(path == entry.path or path.startswith(f"{entry.path}/") for entry in removed):
                del found[path]
        for entry, stream in layer_entries(layer):
            if entry in removed:
                continue
            content = hashlib.sha256(stream.read()).hexdigest() if stream is not None else ""
            mode = entry.mode if entry.kind != "symlink" else 0
            found[entry.path] = (entry.kind, mode, entry.uid, entry.gid, entry.target, content)
    return found


def comparable_config(image: Image) -> dict[str, Any]:
    """Return the configuration without empty values, which mean the same as absent ones."""
    config = {key: value for key, value in image.config_json["config"].items() if value}
    config.pop("ArgsEscaped", None)  # for Windows
    config["Labels"].pop("io.buildah.version", None)  # added by Podman
    return {**config, "Env": sorted(config["Env"])}


def assert_same(by_hand: Image, ours: Image) -> None:
    expected, found = tree(ours), tree(by_hand)
    extra = set(found) - set(expected)
    assert extra <= set(ONLY_IN_DOCKER_BUILD)
    assert {path: found.get(path) for path in expected} == expected
    assert comparable_config(by_hand) == comparable_config(ours)
    assert abs(size(by_hand) - size(ours)) <= 0.03 * size(ours)


def size(image: Image) -> int:
    """Return the sum of the sizes of all files in all layers, in bytes."""
    return sum(entry.size for layer in image.layers for entry, _ in layer_entries(layer))
