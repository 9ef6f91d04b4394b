"""Several images of one project (`images`): each has its own files and names; they share layers."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.oci.archive import archive_names, read_archive
from tests.fakes.github_outputs import read_outputs
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build, check_failed, lock_of, output_of, run_build, run_command, run_in
from tests.projects import write_project
from tests.validate import validate

pytestmark = pytest.mark.network

OPTIONS = """
entrypoint = ["extras-and-groups"]
dotenv = "build.env"
[tool.hatch-docker.images.worker]
entrypoint = ["python", "-m", "extras_and_groups"]
extras = ["colour"]
env = { MODE = "worker" }
[tool.hatch-docker.images.worker.runtime]
packages = ["libgomp1"]
"""


def receipt(project: Path, part: str = "") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((project / f"dist/extras_and_groups-1.0.0{part}.image.json").read_bytes())
    return value


def test_images_have_own_names_and_share_layers(tmp_path: Path, cache: Path) -> None:
    """One build makes both; they share the base's and the project's layer; a build of one image is cached."""
    project = write_project("extras-and-groups", tmp_path / "p", options=OPTIONS)
    outcome = build(project, cache, variables={"GITHUB_OUTPUT": str(tmp_path / "github")})
    archives = [project / f"dist/extras_and_groups-1.0.0{part}.oci.tar" for part in ("", ".worker")]
    lines = [line for line in outcome.output.splitlines() if line.startswith("dist/")]
    assert list(dict.fromkeys(lines)) == [str(path.relative_to(project)) for path in archives]
    for archive, name in zip(archives, ("extras-and-groups", "extras-and-groups-worker"), strict=True):
        validate(read_archive(archive))
        assert archive_names(archive) == [f"docker.io/library/{name}:1.0.0", f"docker.io/library/{name}:latest"]
    assert re.findall(r"^(.*)linux/amd64  sha256:", outcome.output, re.MULTILINE) == ["", "worker: "]
    web, worker = receipt(project), receipt(project, ".worker")
    assert (web["part"], worker["part"]) == ("", "worker")
    assert web["wheel"] == worker["wheel"]
    layers = [{layer["digest"]: layer["kind"] for layer in part["platforms"][0]["layers"]} for part in (web, worker)]
    assert sorted(layers[0][digest] for digest in set(layers[0]) & set(layers[1])) == ["base", "project"]
    assert "libgomp1" in json.dumps(worker["platforms"][0]["layers"])
    again = build(project, cache, variables={"HATCH_DOCKER_IMAGES": "worker"})
    assert again.output.splitlines()[-1] == "dist/extras_and_groups-1.0.0.worker.oci.tar"
    assert all(layer["cached"] for layer in receipt(project, ".worker")["platforms"][0]["layers"])
    outputs = read_outputs(tmp_path / "github")
    assert (outputs["digest"], outputs["worker-digest"]) == (web["digest"], worker["digest"])
    variables = dict(line.split("=", 1) for line in (project / "build.env").read_text().splitlines())
    assert (variables["IMAGE_DIGEST"], variables["IMAGE_WORKER_DIGEST"]) == (web["digest"], worker["digest"])


@pytest.mark.parametrize(("verb", "option", "words"), [
    ("docker:plan", 'python = "3.11"', "python = '3.11' does not fit base"),
    ("docker:dockerfile", 'volumes = ["/etc/passwd"]', "tool.hatch-docker.volumes: /etc/passwd cannot be"),
    ("docker", 'user = "nobody-else"', "tool.hatch-docker.user: 'nobody-else' is not a user of base"),
])  # fmt: skip
def test_error_names_the_image(verb: str, option: str, words: str, tmp_path: Path, cache: Path) -> None:
    options = f'[tool.hatch-docker.images.worker]\n{option}\n'
    project = write_project("hello", tmp_path / "p", options=options)
    wrong = run_build(project, cache, verb=verb)
    check_failed(wrong, f"image 'worker': {words}")


def test_several_images_in_other_commands(tmp_path: Path, cache: Path) -> None:
    """docker:plan, lock, rebase and --clean; an unknown image name is an error."""
    project = write_project("extras-and-groups", tmp_path / "p", options=OPTIONS)
    build(project, cache, verb="docker:plan")
    for part in ("", ".worker"):
        assert (project / f"dist/extras_and_groups-1.0.0{part}.plan.json").is_file()
    output_of(project, cache, "lock")
    requirements = [entry["asked"] for entry in lock_of(project)["requirements"]]
    assert any("colorama>=0.4" in lines for lines in requirements)
    assert {entry["for"] for entry in lock_of(project)["debian"]} == {"base", "runtime"}
    output_of(project, cache, "lock", "--check")
    build(project, cache)
    before = receipt(project, ".worker")["digest"]
    assert "worker.oci.tar" in output_of(project, cache, "rebase", "dist/extras_and_groups-1.0.0.worker.oci.tar",
                                    HATCH_DOCKER_LOAD="never")  # fmt: skip
    assert receipt(project, ".worker")["digest"] == before
    wrong = run_build(project, cache, variables={"HATCH_DOCKER_IMAGES": "wroker"})
    check_failed(wrong, "there is no image 'wroker'; there are: default, worker")
    clean = (sys.executable, "-m", "hatchling", "build", "-t", "docker", "--clean-only")
    assert run_in(project, cache, *clean).status == 0
    assert list((project / "dist").iterdir()) == []


def test_each_image_is_pushed_to_its_repository(tmp_path: Path, cache: Path) -> None:
    """The image's name is appended to a registry or a repository. A push of an archive uses the repository as it is."""
    project = write_project("extras-and-groups", tmp_path / "p", options=OPTIONS)
    with FakeRegistry() as registry:
        variables = {"HATCH_DOCKER_REGISTRIES": f"{registry.host},{registry.host}/team/app"}
        build(project, cache, verb="docker:push", variables=variables)
        digests = [receipt(project, part)["digest"] for part in ("", ".worker")]
        pushed = [[sent["reference"] for sent in receipt(project, part)["deliveries"]] for part in ("", ".worker")]
        assert pushed == [
            [f"{registry.host}/extras-and-groups@{digests[0]}", f"{registry.host}/team/app@{digests[0]}"],
            [f"{registry.host}/extras-and-groups-worker@{digests[1]}", f"{registry.host}/team/app-worker@{digests[1]}"],
        ]
        build(project, cache)
        archive = "dist/extras_and_groups-1.0.0.worker.oci.tar"
        found = run_command(project, cache, "push", "--registry", f"{registry.host}/other", archive)
        assert found.output.splitlines()[-1] == f"{registry.host}/other@{digests[1]}", found.output
