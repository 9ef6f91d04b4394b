"""`hatch-docker rebase`: an archive, or an image in a registry, on a newer version of its base."""

import json
from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History, Image
from tests.fakes.images import layer_of
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build, check_failed, output_of, run_command
from tests.integration.prepared_build import push_index
from tests.projects import write_project
from tests.validate import validate

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Image:
    """Return a Debian image with Python, in place of python:3.13-slim."""
    project = write_project("hello", tmp_path_factory.mktemp("base"), options='entrypoint = []\ncmd = ["python"]')
    return build(project, cache).image()


def patched(base: Image) -> Image:
    """Return a newer base: with one more layer and one more variable."""
    fix = layer_of([Entry("etc/fixed", "file", 0o644, 0, size=3, content=b"yes")])
    return build_image(base, [(fix, History("fix"))], Settings(env={"FIXED": "1"}), 1, {})


def test_rebase_of_an_archive(registry: FakeRegistry, base: Image, tmp_path: Path, cache: Path) -> None:
    """The digest is that of a new build on the new base. No code is compiled; the check runs again."""
    check = '[tool.hatch-docker.check]\ncommand = ["c-extension"]'
    project = write_project("c-extension", tmp_path / "p", base=f"{registry.host}/python:3.13-slim", options=check)
    push_index(registry, (base,), "python:3.13-slim")  # type: ignore[arg-type]
    old = build(project, cache).receipt
    push_index(registry, (patched(base),), "python:3.13-slim")  # type: ignore[arg-type]
    output = output_of(project, cache, "rebase", HATCH_DOCKER_LOAD="never")
    assert "building" not in output
    assert output.splitlines()[-1] == "dist/c_extension-1.0.0.oci.tar"
    archive = project / "dist/c_extension-1.0.0.oci.tar"
    item = read_archive(archive)
    validate(item)
    rebased = json.loads((project / "dist/c_extension-1.0.0.image.json").read_bytes())
    assert all(layer["cached"] for layer in rebased["platforms"][0]["layers"])
    fresh = build(project, cache)
    assert fresh.digest == item.digest != old["digest"]
    assert fresh.receipt["wheel"] == old["wheel"]


def test_rebase_of_an_image_in_a_registry(registry: FakeRegistry, base: Image, tmp_path: Path, cache: Path) -> None:
    """With --push the rebased image is pushed. A base with another minor version of Python is rejected."""
    name = f"{registry.host}/python:3.13-slim"
    project = write_project("hello", tmp_path / "p", base=name)
    push_index(registry, (base,), "python:3.13-slim")  # type: ignore[arg-type]
    image = {"HATCH_DOCKER_IMAGE": f"{registry.host}/team/hello", "HATCH_DOCKER_TAGS": "1"}
    build(project, cache, verb="docker:push", variables=image)
    push_index(registry, (patched(base),), "python:3.13-slim")  # type: ignore[arg-type]
    found = output_of(project, cache, "rebase", "--push", "-o", str(tmp_path / "out"), f"{registry.host}/team/hello:1",
                 HATCH_DOCKER_LOAD="never")  # fmt: skip
    (archive,) = (tmp_path / "out").glob("*.oci.tar")
    digest = read_archive(archive).digest
    assert found.splitlines()[-1] == f"{registry.host}/team/hello@{digest}"
    again = run_command(project, cache, "rebase", f"{registry.host}/team/hello:1", "--base", "debian:bookworm")
    check_failed(again, "Python 3.13", "base debian:bookworm has Python 3.11")
