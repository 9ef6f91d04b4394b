"""skopeo, umoci, Docker and Podman read the archive and find the image that was written to it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.filesystem import extract
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.make_image import Settings, build_image, make_index, scratch
from hatch_docker.oci.model import History, Image, Platform
from hatch_docker.oci.reference import parse_reference
from tests.conftest import need, need_docker, run
from tests.fakes.images import AMD64, layer_of
from tests.fakes.sandbox_roots import tree

pytestmark = pytest.mark.engine

NAME = "registry.example/hatch-docker-tests/reader"
SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
ENTRIES = [
    Entry("etc", "directory", 0o755, 1), Entry("etc/a", "file", 0o640, 1, content=b"a" * 5000, uid=7),
    Entry("etc/Főtanúsítvány", "file", 0o644, 1, content=b"unicode"),
    Entry("l" * 99 + "/" + "m" * 99, "file", 0o644, 1, content=b"long"),
    Entry("etc/link", "symlink", 0o777, 1, target="a"), Entry("hard", "hardlink", 0o640, 1, target="etc/a"),
    Entry("tmp", "directory", 0o1777, 1), Entry("gone", "directory", 0o755, 1),
    Entry("gone/file", "file", 0o644, 1, content=b"1"),
]  # fmt: skip
UPPER = [
    Entry("gone/.wh.file", "file", 0o644, 1), Entry("etc/.wh.link", "file", 0o644, 1),
    Entry("etc/a", "file", 0o644, 1, content=b"new"), Entry("tmp/.wh..wh..opq", "file", 0o644, 1),
]  # fmt: skip


def make_test_image(compression: str, platform: Platform = AMD64) -> Image:
    lower, upper = (layer_of(entries, compression) for entries in (ENTRIES, UPPER))
    layers = [(lower, History("COPY lower")), (upper, History("COPY upper"))]
    settings = Settings(("/etc/a",), user="65532", env={"A": "ő"}, ports=("80/tcp",), labels={"x": "1"})
    return build_image(scratch(platform), layers, settings, 1_700_000_000, {"org.example.note": "1"})


@pytest.fixture(params=["gzip", "zstd", "none"])
def image(request: pytest.FixtureRequest) -> Image:
    return make_test_image(request.param)


@pytest.fixture
def archive(image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "image.oci.tar"
    with path.open("wb") as out:
        write_archive(image, [f"{NAME}:1"], out, host=AMD64)
    return path


def test_skopeo_reads_both_formats_of_the_archive(image: Image, archive: Path) -> None:
    """As an OCI archive it has the same digest; as a docker-archive it has the same layers."""
    skopeo = need("skopeo")
    assert json.loads(run(skopeo, "inspect", f"oci-archive:{archive}"))["Digest"] == image.digest
    config = json.loads(run(skopeo, "inspect", "--config", f"docker-archive:{archive}"))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    run(skopeo, "copy", "--insecure-policy", f"oci-archive:{archive}", f"dir:{archive.parent / 'copy'}")
    run(skopeo, "copy", "--insecure-policy", f"docker-archive:{archive}", f"dir:{archive.parent / 'copy2'}")


def test_skopeo_selects_an_image_by_its_full_name(image: Image, tmp_path: Path) -> None:
    """As in docs/quickstart.md. Without a name skopeo rejects an archive with several names."""
    skopeo, archive = need("skopeo"), tmp_path / "image.oci.tar"
    with archive.open("wb") as out:
        write_archive(image, [f"{NAME}:1", f"{NAME}:latest"], out, host=AMD64)
    full = parse_reference(f"{NAME}:1")
    assert json.loads(run(skopeo, "inspect", f"oci-archive:{archive}:{full}"))["Digest"] == image.digest
    with pytest.raises(AssertionError, match="more than one image"):
        run(skopeo, "inspect", f"oci-archive:{archive}")


def test_umoci_unpacks_the_same_tree(tmp_path: Path) -> None:
    """umoci and `extract` agree on whiteouts, opaque directories, modes and long names."""
    umoci = need("umoci")
    image = make_test_image("gzip")
    write_layout(image, tmp_path / "layout", [f"{NAME}:1"])
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run(umoci, "unpack", *rootless, "--image", f"{tmp_path / 'layout'}:{NAME}:1", tmp_path / "bundle")
    (tmp_path / "ours").mkdir()
    extract(image.layers, tmp_path / "ours")
    assert tree(tmp_path / "ours") == tree(tmp_path / "bundle/rootfs")


@pytest.fixture
def docker() -> Iterator[str]:
    program = need_docker()
    yield program
    subprocess.run([program, "rmi", "-f", f"{NAME}:1"], capture_output=True, check=False)


def test_docker_load_keeps_name_layers_and_config(image: Image, archive: Path, docker: str) -> None:
    assert f"Loaded image: {NAME}:1" in run(docker, "load", "-i", archive)
    (loaded,) = json.loads(run(docker, "image", "inspect", f"{NAME}:1"))
    assert loaded["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
    assert loaded["Id"] in (image.manifest_json["config"]["digest"], image.digest)
    assert loaded["Config"]["User"] == "65532"
    assert loaded["Config"]["Env"] == ["A=ő"]


def test_docker_loads_the_hosts_platform_of_an_index(docker: str, tmp_path: Path) -> None:
    index = make_index([make_test_image("gzip"), make_test_image("gzip", Platform("linux", "arm64"))], {})
    with (tmp_path / "index.tar").open("wb") as out:
        write_archive(index, [f"{NAME}:1"], out, host=AMD64)
    run(docker, "load", "-i", tmp_path / "index.tar")
    assert json.loads(run(docker, "image", "inspect", f"{NAME}:1"))[0]["Architecture"] == "amd64"


@pytest.fixture
def podman(tmp_path: Path) -> list[str]:
    program = need("podman")
    root = [f"--root={tmp_path / 'podman'}", f"--runroot={tmp_path / 'podman-run'}", "--storage-driver=vfs"]
    return [program, *root]


def test_podman_load_keeps_name_layers_and_digest(image: Image, archive: Path, podman: list[str]) -> None:
    run(*podman, "load", "-i", archive)
    (loaded,) = json.loads(run(*podman, "image", "inspect", f"{NAME}:1"))
    assert loaded["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
    assert loaded["Digest"] == image.digest


def _without_id(value: dict[str, object]) -> dict[str, object]:
    """Remove the `id` of a schema, so that references by file name resolve."""
    return {key: part for key, part in value.items() if key != "id" or not isinstance(part, str)}


def test_documents_conform_to_image_spec_schemas(tmp_path: Path) -> None:
    if not SCHEMAS.is_dir():
        need("/golang-github-opencontainers-image-spec-dev")
    import jsonschema
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    documents = {path.name: json.loads(path.read_bytes(), object_hook=_without_id) for path in SCHEMAS.glob("*.json")}
    resources = [(name, Resource(document, DRAFT4)) for name, document in documents.items()]
    registry = Registry().with_resources(resources)

    def check(schema: str, data: bytes) -> None:
        jsonschema.Draft4Validator(documents[schema], registry=registry).validate(json.loads(data))

    image = make_test_image("gzip")
    index = make_index([image, make_test_image("zstd", Platform("linux", "arm64", "v8"))], {"n": "1"})
    write_layout(index, tmp_path, [f"{NAME}:1"])
    check("image-manifest-schema.json", image.manifest)
    check("config-schema.json", image.config)
    check("image-index-schema.json", index.index)
    check("image-index-schema.json", (tmp_path / "index.json").read_bytes())
    check("image-layout-schema.json", (tmp_path / "oci-layout").read_bytes())
    with pytest.raises(jsonschema.ValidationError):
        check("image-manifest-schema.json", b"{}")
