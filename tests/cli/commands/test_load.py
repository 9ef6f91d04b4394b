"""`hatch-docker load`: load an archive into a daemon, under its own names or others."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.build.receipt import read_receipt, receipt_from_image
from hatch_docker.cli.main import main
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.model import Image, Platform
from tests.conftest import need, need_docker, run
from tests.fakes.images import AMD64, small_image, small_layer
from tests.validate import validate

pytestmark = pytest.mark.usefixtures("own_cache")

NAME = "registry.example/hatch-docker-tests/load"


@pytest.fixture
def image() -> Image:
    image = small_image(small_layer("hello", os.urandom(20_000)))
    validate(image)
    return image


@pytest.fixture
def dist(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write dist/ of a project as after a build with push, and change to the project's directory."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "dist"
    directory.mkdir()
    with (directory / "app-1.0.oci.tar").open("wb") as stream:
        write_archive(image, [f"{NAME}:1.0", f"{NAME}:latest"], stream, host=AMD64)
    value = json.loads(receipt_from_image(image, "app-1.0.oci.tar", NAME, ["1.0", "latest"]).to_json())
    value["references"] = [f"{NAME}@{image.digest}", f"{NAME}:old"]
    (directory / "app-1.0.image.json").write_text(json.dumps(value))
    return directory


@pytest.fixture
def docker() -> Iterator[str]:
    program = need_docker()
    yield program
    names = [f"{NAME}:{tag}" for tag in ("1.0", "latest", "other")]
    subprocess.run([program, "rmi", "-f", *names], capture_output=True, check=False)


@pytest.mark.engine
def test_load_into_docker_updates_the_receipt(
    docker: str, image: Image, dist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The receipt keeps the references in registries."""
    assert main(["load", "--into", "docker"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == [f"{NAME}:1.0", f"{NAME}:latest"]
    assert "sent" in err
    receipt = read_receipt(dist / "app-1.0.image.json")
    assert receipt.references == (f"{NAME}@{image.digest}", f"{NAME}:1.0", f"{NAME}:latest")
    found = run(docker, "image", "inspect", f"{NAME}:1.0", "--format", "{{json .RootFS.Layers}}")
    assert json.loads(found) == [layer.diff_id for layer in image.layers]
    assert main(["load", "dist/app-1.0.oci.tar", "--into", "docker", "--tag", f"{NAME}:other"]) == 0
    out, err = capsys.readouterr()
    assert (out.split(), "it was there" in err) == ([f"{NAME}:other"], True)


@pytest.mark.engine
def test_into_podman_uses_podman_program_without_socket(
    image: Image, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = need("podman")
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    assert main(["load", "--into", "podman"]) == 0
    assert capsys.readouterr().out.split() == [f"{NAME}:1.0", f"{NAME}:latest"]
    found = subprocess.run([program, "image", "inspect", f"{NAME}:1.0"], capture_output=True, check=True)
    assert json.loads(found.stdout)[0]["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]


def test_load_without_daemon_fails(
    dist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///missing")
    assert main(["load", "--into", "docker"]) == 1
    assert capsys.readouterr().err == (
        "error: no Docker answers: start it, or set its address (DOCKER_HOST, CONTAINER_HOST)\n"
    )


@pytest.mark.parametrize(("arguments", "message"), [
    (["missing.oci.tar"], "there is no archive missing.oci.tar: build it, or give another path"),
    (["README"], "cannot read the archive README: a tar"),
    (["empty"], "empty contains no .oci.tar: build it first (`hatch-docker build`), or name an archive"),
    ([], "dist contains no .oci.tar"),
])  # fmt: skip
def test_invalid_archive_is_an_error_of_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README").write_text("a text that is no archive\n" * 99)
    (tmp_path / "empty").mkdir()
    assert main(["load", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_archive_without_name_needs_tag_and_foreign_platform_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///missing")
    path = tmp_path / "a.oci.tar"
    with path.open("wb") as stream:
        write_archive(small_image(platform=Platform("linux", "s390x")), [], stream, host=AMD64)
    assert main(["load", "--into", "docker", str(path)]) == 1
    assert "set one with --tag NAME:TAG" in capsys.readouterr().err
    assert main(["load", "--into", "docker", str(path), "--tag", f"{NAME}:1"]) == 1
    assert "a.oci.tar is for linux/s390x, and this machine is" in capsys.readouterr().err
