"""Altered archives: an archive whose readers would find different images is rejected by every command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.build.existing import open_existing
from hatch_docker.build.receipt import receipt_from_image
from hatch_docker.cli.main import main
from hatch_docker.core.errors import ImageError
from hatch_docker.oci.archive import CONTAINERD_NAME, docker_manifest, read_archive, write_archive
from hatch_docker.oci.layout import REF_NAME, blob_path
from hatch_docker.oci.model import canonical_json
from hatch_docker.oci.tar import BLOCK, END, Entry, pack_header, read_tar
from tests.fakes.context import context
from tests.fakes.images import AMD64, small_image, small_layer

pytestmark = pytest.mark.usefixtures("own_cache")

GOOD, EVIL = small_image(small_layer("app", b"good")), small_image(small_layer("app", b"evil"))
EVIL_BLOBS = {
    blob_path(EVIL.layers[0].descriptor.digest): EVIL.layers[0].open().read(),
    blob_path(EVIL.digest): EVIL.manifest,
    blob_path(EVIL.manifest_json["config"]["digest"]): EVIL.config,
}
OTHER_CASE = {"Config": blob_path(EVIL.manifest_json["config"]["digest"])}

Members = dict[str, bytes]
Alter = Callable[[Members], Any]


def document(name: str, change: Callable[[Any], Any]) -> Alter:
    """Return a function that changes a JSON document of an archive, and adds the blobs of another image."""

    def alter(members: Members) -> None:
        value = json.loads(members[name])
        members |= {**EVIL_BLOBS, name: canonical_json(change(value) or value)}

    return alter


def entry(**annotations: str) -> dict[str, Any]:
    return {**EVIL.descriptor.to_json(), "annotations": annotations}


ALTERED: dict[str, Alter] = {
    "Docker loads another image": document("manifest.json", lambda _: json.loads(docker_manifest(EVIL, ["app:1"]))),
    "Docker loads a second image": document(
        "manifest.json", lambda value: [*value, *json.loads(docker_manifest(EVIL, ["app:2"]))]
    ),
    "Docker reads any case": document("manifest.json", lambda value: [{**value[0], "config": OTHER_CASE["Config"]}]),
    "another name for Docker": document("manifest.json", lambda value: [{**value[0], "RepoTags": ["postgres:latest"]}]),
    "one more name for Docker": document(
        "manifest.json", lambda value: [{**value[0], "RepoTags": ["app:1", "postgres:latest"]}]
    ),
    "no list": document("manifest.json", lambda _: {"Config": 1}),
    "a second entry": document(
        "index.json", lambda value: value["manifests"].append(entry(**{CONTAINERD_NAME: "docker.io/library/app:2"}))
    ),
    "a second list": document("index.json", lambda value: {**value, "Manifests": [entry()]}),
    "another ref.name": document(
        "index.json", lambda value: value["manifests"][0]["annotations"].update({REF_NAME: "postgres:latest"})
    ),
    "names of other repositories": document(
        "repositories", lambda _: {"postgres": {"latest": EVIL.layers[0].diff_id[7:]}}
    ),
    "a stranger's member": lambda members: members.update({"0123/layer.tar": b"x"}),
}
# Alterations after which all readers find the same image.
HARMLESS: dict[str, Alter] = {
    "a blob that nothing names": lambda members: members.update(EVIL_BLOBS),
    "no manifest.json": lambda members: members.pop("manifest.json"),
    "spaces": lambda members: members.update({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}),
    "another order": lambda members: members.update({"index.json": members.pop("index.json")}),
    "as docker save names it": document(
        "index.json", lambda value: value["manifests"][0]["annotations"].update({REF_NAME: "1"})
    ),
}


def altered_archive(path: Path, alter: Alter = lambda _: None, *extra: bytes, end: bytes = END) -> Path:
    """Write an archive of GOOD with altered members, and `extra` raw members at its end."""
    with path.open("wb") as out:
        write_archive(GOOD, ["app:1"], out, host=AMD64)
    with path.open("rb") as stream:
        members = {found.path: content.read() for found, content in read_tar(stream) if content is not None}
    members.setdefault("repositories", b"{}")
    alter(members)
    if members["repositories"] == b"{}":
        del members["repositories"]
    parts = [pack_header(Entry(name, "directory", 0o755, 0), 0) for name in ("blobs", "blobs/sha256")]
    parts += [member(name, data) for name, data in members.items()]
    path.write_bytes(b"".join([*parts, *extra, end]))
    return path


def member(name: str, data: bytes) -> bytes:
    return pack_header(Entry(name, "file", 0o644, 0), len(data)) + data + bytes(-len(data) % BLOCK)


def test_unaltered_archive_is_read(tmp_path: Path) -> None:
    """This test checks the helper `altered_archive`."""
    path = altered_archive(tmp_path / "a.oci.tar")
    assert read_archive(path).digest == read_archive(path, foreign=True).digest == GOOD.digest


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_altered_archive_is_rejected(alter: Alter, tmp_path: Path) -> None:
    """Docker, containerd or podman would load another image or other names."""
    path = altered_archive(tmp_path / "a.oci.tar", alter)
    for foreign in (False, True):
        with pytest.raises(ImageError, match=r"a\.oci\.tar"):
            read_archive(path, foreign=foreign)


@pytest.mark.parametrize("extra", [
    member("../escape", b"x"), member("index.json", b"{}"), pack_header(Entry("more", "symlink", 0o777, 0, "x"), 0),
    pack_header(Entry("blobs/sha256/" + "0" * 64, "hardlink", 0o644, 0, "index.json"), 0),
], ids=["climbs", "twice", "symlink", "hard link"])  # fmt: skip
def test_archive_with_unsafe_members_is_rejected(extra: bytes, tmp_path: Path) -> None:
    path = altered_archive(tmp_path / "a.oci.tar", lambda _: None, extra)
    for foreign in (False, True):
        with pytest.raises(ImageError, match=r"a\.oci\.tar"):
            read_archive(path, foreign=foreign)


@pytest.mark.parametrize("alter", HARMLESS.values(), ids=HARMLESS)
def test_harmless_alteration_is_accepted_in_foreign_archives(alter: Alter, tmp_path: Path) -> None:
    """It is rejected if the archive must be written by hatch-docker."""
    path = altered_archive(tmp_path / "a.oci.tar", alter)
    assert read_archive(path, foreign=True).digest == GOOD.digest
    with pytest.raises(ImageError, match=r"is not as hatch-docker writes it: .*; build it again"):
        read_archive(path)


def test_archive_with_trailing_data_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the order, the headers or the end"):
        read_archive(altered_archive(tmp_path / "a.oci.tar", end=END + b"more"))


def test_archive_with_two_repository_names_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.oci.tar"
    with path.open("wb") as out:
        write_archive(GOOD, ["app:1", "postgres:latest"], out, host=AMD64)
    with pytest.raises(ImageError, match="names of several repositories"):
        read_archive(path)


@pytest.mark.parametrize("command", [
    ["load", "--into", "docker"], ["push", "--registry", "registry.invalid"], ["inspect"], ["verify"],
    ["diff", "{good}"], ["rebase"],
], ids=lambda command: command[0])  # fmt: skip
def test_every_command_rejects_an_altered_archive(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line that names the archive and the altered document."""
    good = altered_archive(tmp_path / "good.oci.tar")
    bad = altered_archive(tmp_path / "bad.oci.tar", ALTERED["Docker loads another image"])
    if command[0] == "rebase":  # opens the project first
        with pytest.raises(ImageError, match=r"bad\.oci\.tar .* manifest\.json"):
            open_existing(str(bad), context(tmp_path / "cache"))
        return
    words = [command[0], *(word.format(good=good) for word in command[1:] if word == "{good}"), str(bad)]
    assert main([*words, *(word for word in command[1:] if word != "{good}")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.oci.tar" in line
    assert "manifest.json" in line


def test_error_for_damaged_layer_names_archive_and_blob(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is raised before anything is unpacked, loaded or sent."""
    path = altered_archive(tmp_path / "a.oci.tar")
    layer, data = GOOD.layers[0], path.read_bytes()
    at = data.index(layer.open().read()) + 30
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for command in (["inspect", str(path)], ["load", str(path)], ["verify", str(path)]):
        assert main(command) == 1
        lines = capsys.readouterr().err
        assert f"the archive {path}: the blob {layer.descriptor.digest} is damaged" in lines, command


def test_receipt_with_other_names_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = altered_archive(tmp_path / "a.oci.tar")
    receipt_from_image(GOOD, path.name, "postgres", ["latest"]).write(tmp_path / "a.image.json")
    for command in (["load"], ["push", "--registry", "registry.invalid"]):
        assert main([*command, str(path)]) == 1
        assert "its receipt names another image or other tags" in capsys.readouterr().err
