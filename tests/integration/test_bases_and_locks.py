"""Whole builds with bases from registries and OCI layouts, and with versions from each kind of lock."""

import re
from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.make_image import make_index
from hatch_docker.oci.model import Image
from tests.fakes.package_index import FakeIndex, make_wheel, only_source
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, require, run_build, uv
from tests.integration.prepared_build import push_index
from tests.projects import write_project

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Image, Image]:
    """Return a Debian base with Python for amd64 and one for arm64."""
    found = []
    for platform in ("linux/amd64", "linux/arm64"):
        project = write_project("hello", tmp_path_factory.mktemp("base") / "p", options="entrypoint = []\ncmd = ['x']")
        text = (project / "pyproject.toml").read_text().replace("cmd = ['x']", 'cmd = ["python"]')
        (project / "pyproject.toml").write_text(text)
        image = build(project, cache, variables={"HATCH_DOCKER_PLATFORMS": platform}).image()
        found.append(image)
    return found[0], found[1]


def wheels_above(outcome: Outcome) -> list[str]:
    return [layer["diff_id"] for layer in outcome.layers if layer["kind"] != "base"]


def test_base_from_registry(registry: FakeRegistry, bases: tuple[Image, Image], tmp_path: Path, cache: Path) -> None:
    """By tag and by digest; the manifest of the platform is used; compiled code is built in the base and runs."""
    digest = push_index(registry, bases, "python:3.13-slim")
    check = '[tool.hatch-docker.check]\ncommand = ["c-extension"]'
    by_tag = write_project("c-extension", tmp_path / "tag", base=f"{registry.host}/python:3.13-slim", options=check)
    tagged = build(by_tag, cache)
    assert tagged.receipt["base"] == {"name": f"{registry.host}/python:3.13-slim", "digest": digest}
    by_digest = write_project("c-extension", tmp_path / "digest", base=f"{registry.host}/python@{digest}")
    other = build(by_digest, cache)
    assert wheels_above(tagged) == wheels_above(other)
    tagged.item()
    annotations = other.image().manifest_json["annotations"]
    assert annotations["org.opencontainers.image.base.digest"] == digest
    arm = build(
        write_project("hello", tmp_path / "arm", base=f"{registry.host}/python@{digest}"), cache,
        variables={"HATCH_DOCKER_PLATFORMS": "linux/arm64"},
    )
    assert str(arm.image().platform) == "linux/arm64"


def test_cached_base_by_digest_needs_no_registry(bases: tuple[Image, Image], tmp_path: Path, cache: Path) -> None:
    with FakeRegistry() as registry:
        digest = push_index(registry, bases, "pinned")
        project = write_project("hello", tmp_path / "p", base=f"{registry.host}/pinned@{digest}")
        first = build(project, cache)
    assert build(project, cache).digest == first.digest


def test_base_from_layout(bases: tuple[Image, Image], tmp_path: Path, cache: Path) -> None:
    """The path of the layout is relative to the project."""
    project = write_project("hello", tmp_path / "p", base="oci:bases/python")
    write_layout(make_index(bases, {}), project / "bases/python")
    outcome = build(project, cache)
    outcome.item()
    assert outcome.receipt["base"]["name"] == "oci:bases/python"


def test_unreachable_registry_suggests_debian_base(tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p", base="127.0.0.1:9/python:3.13-slim")
    outcome = run_build(project, cache)
    assert outcome.status in (1, 75)
    assert "Traceback" not in outcome.output
    assert "debian:trixie" in outcome.output


EXPORTED = ("--no-emit-project", "--all-extras")
LOCKS = {
    "pylock.toml": ("export", "-q", "--format", "pylock.toml", *EXPORTED, "-o", "pylock.toml"),
    "uv.lock": (),
    "requirements.txt": ("export", "-q", *EXPORTED, "-o", "requirements.txt"),
}


@pytest.mark.parametrize("name", list(LOCKS))
def test_lock_decides_the_versions(name: str, tmp_path: Path, cache: Path) -> None:
    """uv.lock and files exported from it: locked versions, not the newest; `created` is SOURCE_DATE_EPOCH."""
    options = 'extras = ["colour"]'
    project = write_project("extras-and-groups", tmp_path / "p", options=options)
    text = (project / "pyproject.toml").read_text()
    # An older version than the newest: a resolution would not choose it.
    (project / "pyproject.toml").write_text(text.replace('"idna>=3"', '"idna>=3,<3.8"'))
    uv("lock", "-q", cwd=project)
    (project / "pyproject.toml").write_text(text.replace('"idna>=3"', '"idna>=3,<4"'))
    if LOCKS[name]:
        (project / "pyproject.toml").write_text(text.replace('"idna>=3"', '"idna>=3,<3.8"'))
        uv(*LOCKS[name], cwd=project)
        (project / "uv.lock").unlink()
    outcome = build(project, cache, variables={"SOURCE_DATE_EPOCH": "1700000000"})
    contents = [item for layer in outcome.layers[1:] for item in layer["contents"]]
    (idna,) = [item for item in contents if item.startswith("idna ")]
    assert re.fullmatch(r"idna 3\.[0-7](\.\d+)?", idna)
    assert any(item.startswith("colorama ") for item in contents)
    assert outcome.image().config_json["created"] == "2023-11-14T22:13:20Z"
    assert read_archive(outcome.archive).digest == outcome.digest


def test_sdist_dependency_is_built_in_the_builder(tmp_path: Path, cache: Path) -> None:
    """The requirements of the sdist are known after its build in the sandbox; both wheels are installed."""
    index = FakeIndex()
    index.add("only-source", only_source())
    index.add("needed-by-it", make_wheel("needed-by-it", "2.0"))
    command = '["python", "-c", "import only_source, needed_by_it; assert only_source.VALUE == 42"]'
    project = write_project("hello", tmp_path / "p", options=f"[tool.hatch-docker.check]\ncommand = {command}")
    require(project, "only-source")
    with index.serving() as serving:
        outcome = build(project, cache, variables={"UV_DEFAULT_INDEX": serving.url, "no_proxy": "*", "NO_PROXY": "*"})
    contents = [item for layer in outcome.layers[1:] for item in layer["contents"]]
    assert contents == ["only-source 1.0", "needed-by-it 2.0", "hello 1.0.0"]
