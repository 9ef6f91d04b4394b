"""`hatch-docker verify`: a rebuild elsewhere has the same digest, and differences are reported by file and byte."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.verify import verify
from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import ImageError
from hatch_docker.oci.archive import read_archive, write_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.make_image import Settings, build_image, make_index
from hatch_docker.oci.model import Image, Index, Layer, host_platform
from tests.fakes.bases import python_image
from tests.fakes.images import layer_of, with_config
from tests.integration.builds import build, check_failed, install_in_new_venv, other_python, output_of, run_command
from tests.projects import write_project

pytestmark = pytest.mark.network


def alter_byte(layer: Layer, path: str, at: int) -> Layer:
    """Return a copy of a layer with one changed byte in one file."""
    entries = []
    for entry, content in layer_entries(layer):
        data = bytearray(content.read() if content is not None else b"")
        if entry.path == path:
            data[at] ^= 1
        entries.append(replace(entry, content=bytes(data) if entry.kind == "file" else None))
    return layer_of(entries)


def with_layer(image: Image, number: int, layer: Layer) -> Image:
    """Return a copy of an image with another layer and correct digests."""
    config, manifest = image.config_json, image.manifest_json
    config["rootfs"]["diff_ids"][number] = layer.diff_id
    manifest["layers"][number] = layer.descriptor.to_json()
    layers = (*image.layers[:number], layer, *image.layers[number + 1 :])
    return replace(with_config(image, config, layers=manifest["layers"]), layers=layers)


def write(item: Image | Index, path: Path) -> None:
    with path.open("wb") as out:
        write_archive(item, ["x:1"], out, host=host_platform())


def test_rebuild_elsewhere_has_the_same_digest(tmp_path: Path, cache: Path) -> None:
    """With a copy of the project in another directory, another Python and an empty cache."""
    project = write_project("extras-and-groups", tmp_path / "p", options='extras = ["colour"]')
    output_of(project, cache, "lock")
    digest = build(project, cache).digest
    venv = tmp_path / "venv"
    install_in_new_venv(other_python(), venv)
    twin = tmp_path / "another place"
    shutil.copytree(project, twin, ignore=shutil.ignore_patterns("dist"))
    found = subprocess.run(
        [str(venv / "bin/hatch-docker"), "verify", str(project / "dist/extras_and_groups-1.0.0.oci.tar")],
        cwd=twin, text=True, capture_output=True, check=False, timeout=600, umask=0o077,
        env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
             "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert f"yes, {digest}" in found.stdout
    assert "taken from before: nothing" in found.stdout
    assert list((tmp_path / "cache/v1/tmp").iterdir()) == []
    assert list((tmp_path / "cache/v1/blobs").iterdir()) == []  # the rebuild has a cache of its own


@pytest.mark.parametrize("hours", [(1, 1), (1, 2)], ids=["one time", "a time each"])
def test_rebuild_of_an_index_sets_the_time(hours: tuple[int, int], tmp_path: Path) -> None:
    """SOURCE_DATE_EPOCH is set only if all platforms have the same time. Without a commit, wheels decide the time."""
    index = make_index([
        build_image(python_image(name), [], Settings(), 3600 * hour, {})
        for name, hour in zip(("amd64", "arm64"), hours, strict=True)
    ], {})  # fmt: skip
    write(index, tmp_path / "x.oci.tar")
    environments: list[Mapping[str, str]] = []

    def rebuild(variables: Mapping[str, str]) -> tuple[Index, list[str]]:
        environments.append(variables)
        return index, ["x:1"]

    environ = {"SOURCE_DATE_EPOCH": "17", "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")}
    assert verify(tmp_path / "x.oci.tar", rebuild, environ)[1] == f"1970-01-01T0{hours[1]}:00:00Z"
    assert environments[0].get("SOURCE_DATE_EPOCH") == ("3600" if hours == (1, 1) else None)
    assert environments[0]["HATCH_DOCKER_PLATFORMS"] == "linux/amd64,linux/arm64"


@pytest.mark.parametrize("keep", [True, False])
def test_keep_downloads_copies_the_cache(keep: bool, tmp_path: Path) -> None:
    """With `keep_downloads` the rebuild reads downloads from a copy. Its changes do not affect the user's cache."""
    image = build_image(python_image("amd64"), [], Settings(), 0, {})
    write(image, tmp_path / "x.oci.tar")
    store = open_store(tmp_path / "cache")
    digest = store.put(b"a download")

    def rebuild(variables: Mapping[str, str]) -> tuple[Image, list[str]]:
        rebuild_store = open_store(Path(variables["HATCH_DOCKER_CACHE_DIR"]))
        assert rebuild_store.has(digest) is keep
        rebuild_store.discard(rebuild_store.blob_path(digest))
        return image, ["x:1"]

    verify(tmp_path / "x.oci.tar", rebuild, {"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")}, keep_downloads=keep)
    assert store.has(digest)


def test_archive_with_an_invalid_time_is_rejected(tmp_path: Path) -> None:
    image = build_image(python_image("amd64"), [], Settings(), 0, {})
    write(with_config(image, {**image.config_json, "created": "yesterday"}), tmp_path / "x.oci.tar")
    with pytest.raises(ImageError, match=r"x\.oci\.tar has an invalid creation time: 'yesterday'"):
        verify(tmp_path / "x.oci.tar", lambda _variables: (image, []), {})


def test_changed_byte_of_a_wheel_is_reported(base: str, tmp_path: Path, cache: Path) -> None:
    """The archive's digests are correct. The report has layer, file and byte; the exit status is 1."""
    project = write_project("extras-and-groups", tmp_path / "p", base=base)
    output_of(project, cache, "lock")
    outcome = build(project, cache)
    image = outcome.image()
    number = len(image.layers) - 2
    (path,) = [entry.path for entry, _ in layer_entries(image.layers[number]) if entry.path.endswith("/idna/core.py")]
    archive = tmp_path / "altered.oci.tar"
    write(with_layer(image, number, alter_byte(image.layers[number], path, 1234)), archive)
    found = run_command(project, cache, "verify", "--keep-downloads", str(archive))
    check_failed(found, f"layer {number + 1} of {number + 2} (hatch-docker dependencies)", f"{path}: byte 1234\n")
    assert len(re.findall(r": bytes? ", found.output)) == 1  # the only difference


def test_changed_module_of_the_project_is_reported_first(base: str, tmp_path: Path, cache: Path) -> None:
    """Files that depend on it (.pyc, RECORD) come later. Without an argument the archive in dist/ is verified."""
    project = write_project("hello", tmp_path / "p", base=base)
    assert "no archive" in run_command(project, cache, "verify").output
    build(project, cache)
    assert "run `hatch-docker lock`" in run_command(project, cache, "verify", "--keep-downloads").output
    output_of(project, cache, "lock")
    build(project, cache)
    source = project / "hello.py"
    source.write_text(source.read_text().replace("world", "World"))
    found = run_command(project, cache, "verify", "--keep-downloads")
    assert found.status == 1
    first = next(line for line in found.output.splitlines() if ": byte" in line)
    assert re.fullmatch(r"  linux/\w+:   opt/venv/lib/python3\.13/site-packages/hello\.py: byte \d+", first)


def test_damaged_archive_is_not_a_difference(tmp_path: Path, cache: Path) -> None:
    """A flipped bit in a blob is reported as damage before a rebuild."""
    project = write_project("hello", tmp_path / "p")
    archive = build(project, cache).archive
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    found = run_command(project, cache, "verify")
    assert found.status == 1
    assert "rebuild" not in found.output
    assert "Traceback" not in found.output
    assert read_archive(archive)
