"""Layouts and archives: deterministic writing, and verified reading."""

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.archive import archive_matches, read_archive, write_archive
from hatch_docker.oci.layout import blob_path, read_layout, write_layout
from hatch_docker.oci.make_image import Settings, build_image, make_index, scratch
from hatch_docker.oci.model import Image, Index, Platform, canonical_json, digest_of
from tests.fakes.images import AMD64, docker_image, image
from tests.fakes.resource_use import quickest
from tests.validate import validate

ARM64 = Platform("linux", "arm64")
NAMES = ("app:1.0", "app:latest", "app:latest")
GOOD = image()
BOTH = make_index([GOOD, image(ARM64)], {"org.example.note": "1"})


def archive(item: Image | Index, path: Path, names: tuple[str, ...] = NAMES) -> Path:
    with path.open("wb") as out:
        write_archive(item, names, out, host=AMD64)
    return path


@pytest.mark.parametrize("item", [GOOD, BOTH, docker_image(), scratch(AMD64)])
def test_layout_and_archive_round_trip(item: Image | Index, tmp_path: Path) -> None:
    write_layout(item, tmp_path / "layout", NAMES)
    for found in (read_layout(tmp_path / "layout"), read_archive(archive(item, tmp_path / "a.tar"))):
        assert found.digest == item.digest
        validate(found)
    child = read_layout(tmp_path / "layout", AMD64)
    assert isinstance(child, Image)
    assert child.platform == AMD64


def test_archive_is_deterministic(tmp_path: Path) -> None:
    """No time, user or order of a directory is written."""
    one = archive(GOOD, tmp_path / "one.tar").read_bytes()
    assert one == archive(image(), tmp_path / "two.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in tar} == {(0, 0, 0, "")}
        names = tar.getnames()
    assert names[:5] == ["blobs", "blobs/sha256", "oci-layout", "index.json", "manifest.json"]
    assert len(names) == len(set(names)) == 9


def member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        return tar.extractfile(name).read()  # type: ignore[union-attr]


def test_archive_contains_every_name_once(tmp_path: Path) -> None:
    """In full form. containerd and podman read the names from index.json, docker from manifest.json."""
    path = archive(GOOD, tmp_path / "a.tar", (*NAMES, f"app@{GOOD.digest}"))
    full = ["docker.io/library/app:1.0", "docker.io/library/app:latest"]
    (docker,) = json.loads(member(path, "manifest.json"))
    assert docker["RepoTags"] == full
    assert docker["Layers"] == [blob_path(layer.descriptor.digest) for layer in GOOD.layers]
    assert member(path, docker["Config"]) == GOOD.config
    entries = json.loads(member(path, "index.json"))["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in entries] == full
    assert {entry["digest"] for entry in entries} == {GOOD.digest}
    with pytest.raises(ImageError):
        archive(GOOD, tmp_path / "b.tar", ("not a name",))


@pytest.mark.parametrize(("host", "expected"), [("linux/amd64", 0), ("linux/arm64/v8", 1), ("linux/s390x", 0)])
def test_docker_archive_of_an_index_is_for_the_host(host: str, expected: int, tmp_path: Path) -> None:
    """`docker load` without containerd supports one platform: that of the host, otherwise the first."""
    out = io.BytesIO()
    write_archive(BOTH, NAMES, out, host=Platform.parse(host))
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    (docker,) = json.loads(member(tmp_path / "a.tar", "manifest.json"))
    assert member(tmp_path / "a.tar", docker["Config"]) == BOTH.images[expected].config


def test_archive_matches_only_an_equal_archive(tmp_path: Path) -> None:
    """Headers, documents and length are compared. It takes less than 50 ms."""
    path = archive(GOOD, tmp_path / "a.tar")
    assert archive_matches(path, GOOD, NAMES, host=AMD64)
    assert quickest(lambda: archive_matches(path, GOOD, NAMES, host=AMD64)) < 0.05
    assert not archive_matches(path, GOOD, NAMES[:1], host=AMD64)
    assert not archive_matches(path, image(user="1"), NAMES, host=AMD64)
    assert not archive_matches(path, BOTH, NAMES, host=AMD64)
    assert not archive_matches(tmp_path / "missing", GOOD, NAMES, host=AMD64)
    assert not archive_matches(tmp_path, GOOD, NAMES, host=AMD64)
    data = path.read_bytes()
    for other in (data[:-1], data + b"\0", data[:5000] + b"x" + data[5001:], data[: len(data) - 2000], b""):
        path.write_bytes(other)
        assert not archive_matches(path, GOOD, NAMES, host=AMD64)


def test_damaged_layer_is_not_written_into_a_layout(tmp_path: Path) -> None:
    """Bytes are verified while they are copied. A damaged blob in the layout is replaced."""
    for bad in (b"x" * GOOD.layers[0].descriptor.size, b"short", b"x" * 9999):
        layer = dataclasses.replace(GOOD.layers[0], open=lambda bad=bad: io.BytesIO(bad))
        broken = dataclasses.replace(GOOD, layers=(layer, GOOD.layers[1]))
        with pytest.raises(ImageError, match="damaged"):
            write_layout(broken, tmp_path / "layout")
        assert not (tmp_path / "layout" / blob_path(layer.descriptor.digest)).exists()
        assert not (tmp_path / "layout/index.json").exists()
        with pytest.raises(ImageError, match="damaged"):
            archive(broken, tmp_path / "a.tar")
    write_layout(GOOD, tmp_path / "layout")
    blob = tmp_path / "layout" / blob_path(GOOD.layers[0].descriptor.digest)
    blob.write_bytes(b"x" * blob.stat().st_size)
    write_layout(GOOD, tmp_path / "layout")
    validate(read_layout(tmp_path / "layout"))
    assert not list((tmp_path / "layout").rglob(".*"))


def test_invalid_layouts_are_rejected(tmp_path: Path) -> None:
    """Missing and altered documents, several images, no image, another version."""
    with pytest.raises(ImageError, match="is not an OCI layout"):
        read_layout(tmp_path)
    layout = tmp_path / "layout"
    write_layout(GOOD, layout)
    config = layout / blob_path(GOOD.manifest_json["config"]["digest"])
    config.write_bytes(config.read_bytes().replace(b"amd64", b"arm64"))
    with pytest.raises(ImageError, match="damaged"):
        read_layout(layout)
    config.unlink()
    with pytest.raises(ImageError, match="has no blob"):
        read_layout(layout)
    write_layout(GOOD, layout)
    write_layout(image(ARM64), layout)
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"].append(GOOD.descriptor.to_json())
    (layout / "index.json").write_bytes(canonical_json(index))
    with pytest.raises(ImageError, match="2 images"):
        read_layout(layout)
    assert read_layout(layout, AMD64).digest == GOOD.digest
    with pytest.raises(ImageError, match="linux/s390x"):
        read_layout(layout, Platform("linux", "s390x"))
    (layout / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": []}))
    with pytest.raises(ImageError, match="holds no image"):
        read_layout(layout)
    (layout / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(ImageError, match="version"):
        read_layout(layout)


def test_invalid_archives_are_rejected(tmp_path: Path) -> None:
    """No tar, a truncated tar, an archive of Docker before 25, a missing file."""
    path = archive(GOOD, tmp_path / "a.tar")
    data = path.read_bytes()
    for bad, message in ((b"hello" * 200, "tar"), (data[:6000], "ends inside|cut short|no blob"), (b"", "index.json")):
        path.write_bytes(bad)
        with pytest.raises(ImageError, match=message):
            read_archive(path)
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"[]"))
    with pytest.raises(ImageError, match=r"no index\.json"):
        read_archive(path)
    with pytest.raises(ImageError, match=r"there is no archive .*missing: build it, or give another path"):
        read_archive(tmp_path / "missing")


def test_media_type_of_the_manifest_overrides_index_json(tmp_path: Path) -> None:
    """Another program may have written a wrong media type into index.json."""
    write_layout(GOOD, tmp_path)
    index = json.loads((tmp_path / "index.json").read_bytes())
    index["manifests"][0]["mediaType"] = "text/plain"
    (tmp_path / "index.json").write_bytes(canonical_json(index))
    found = read_layout(tmp_path)
    assert found.descriptor == GOOD.descriptor
    assert isinstance(found, Image)
    assert build_image(found, [], Settings(), 0, {}).digest == build_image(GOOD, [], Settings(), 0, {}).digest


def test_attestations_are_ignored(tmp_path: Path) -> None:
    """Their platform in BuildKit's index is unknown/unknown."""
    write_layout(BOTH, tmp_path)
    value = json.loads(BOTH.index)
    fake = build_image(scratch(Platform("unknown", "unknown")), [], Settings(), 0, {})
    value["manifests"].append(fake.descriptor.to_json())
    data = canonical_json(value)
    (tmp_path / blob_path(digest_of(data))).write_bytes(data)
    entry = {"mediaType": BOTH.descriptor.media_type, "digest": digest_of(data), "size": len(data)}
    (tmp_path / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [entry]}))
    found = read_layout(tmp_path)
    assert isinstance(found, Index)
    assert [child.platform for child in found.images] == [AMD64, ARM64]
