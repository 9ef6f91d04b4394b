"""New images from a base: kept and replaced settings, media types, and deterministic digests."""

import json

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.make_image import Settings, build_image, make_index, rfc3339, scratch
from hatch_docker.oci.media_types import DOCKER, OCI
from hatch_docker.oci.model import History, Image, Platform, canonical_json
from tests.fakes.images import CREATED, docker_image, image, layer
from tests.validate import validate

AMD64 = Platform("linux", "amd64")


def test_image_has_the_known_digest() -> None:
    """Manifest and configuration are canonical JSON. The layer is not compressed."""
    made = build_image(
        scratch(AMD64), [(layer("a", compression="none"), History("COPY a"))], Settings(user="65532"), 0, {}
    )
    assert made.digest == "sha256:0a173d6380b58a9837e3795c7af6e67653ff6efa305791da666f60ae384a30f9"
    validate(made)


def test_settings_are_written_to_the_configuration() -> None:
    """In the fields of config.md."""
    made = image(
        entrypoint=("/opt/venv/bin/app",), cmd=("--serve",), env={"PATH": "/opt/venv/bin", "A": "1"},
        labels={"org.opencontainers.image.title": "app"}, user="65532:65532", workdir="/srv",
        ports=("8000/tcp",), volumes=("/data",), stop_signal="SIGINT",
        healthcheck={"Test": ["CMD", "/opt/venv/bin/app", "--health"], "Interval": 5_000_000_000},
    )  # fmt: skip
    validate(made)
    assert made.config_json["config"] == {
        "Entrypoint": ["/opt/venv/bin/app"], "Cmd": ["--serve"], "Env": ["A=1", "PATH=/opt/venv/bin"],
        "Labels": {"org.opencontainers.image.title": "app"}, "User": "65532:65532", "WorkingDir": "/srv",
        "ExposedPorts": {"8000/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "/opt/venv/bin/app", "--health"], "Interval": 5_000_000_000},
    }  # fmt: skip
    assert made.config_json["created"] == "2023-11-14T22:13:20Z"
    assert made.manifest_json["annotations"] == {"org.example.note": "1"}
    assert [line["created_by"] for line in made.config_json["history"]] == ["COPY a", "COPY b"]
    assert made.platform == AMD64
    assert made.size == sum(layer["size"] for layer in made.manifest_json["layers"])


def test_unset_settings_of_the_base_are_kept() -> None:
    """Variables and labels are merged; a new entry point removes the base's command."""
    base = docker_image(
        Env=["PATH=/usr/bin", "LANG=C.UTF-8"], Entrypoint=["/docker-entrypoint.sh"], Cmd=["python3"],
        Labels={"a": "1", "b": "1"}, OnBuild=["RUN x"], Hostname="abc", StopSignal="SIGQUIT", WorkingDir="/w",
    )  # fmt: skip
    settings = Settings(("app",), env={"Z": "1", "PATH": "/opt/venv/bin:/usr/bin"}, labels={"b": "2"})
    made = build_image(base, [(layer("app"), History("COPY app", "small"))], settings, CREATED, {"x": "y"})
    validate(made)
    assert made.config_json["config"] == {
        "Env": ["PATH=/opt/venv/bin:/usr/bin", "LANG=C.UTF-8", "Z=1"], "Entrypoint": ["app"],
        "Labels": {"a": "1", "b": "2"}, "StopSignal": "SIGQUIT", "WorkingDir": "/w",
    }  # fmt: skip
    assert set(made.config_json) == {"architecture", "os", "created", "config", "rootfs", "history"}
    assert made.config_json["history"] == [
        {"created_by": "ADD file"}, {"created_by": "CMD", "empty_layer": True},
        {"created": "2023-11-14T22:13:20Z", "created_by": "COPY app", "comment": "small"},
    ]  # fmt: skip
    kept = build_image(base, [], Settings(), CREATED, {}).config_json["config"]
    assert (kept["Entrypoint"], kept["Cmd"]) == (["/docker-entrypoint.sh"], ["python3"])


def test_media_types_are_of_one_family() -> None:
    """The family of the base is kept. Docker's family has no annotations and no zstd."""
    made = build_image(docker_image(), [(layer("app"), History("COPY"))], Settings(), CREATED, {"x": "y"})
    validate(made)
    types = [layer["mediaType"] for layer in made.manifest_json["layers"]]
    assert types == [DOCKER.layer_type("gzip")] * 2
    assert made.manifest_json["config"]["mediaType"] == DOCKER.config
    assert "annotations" not in made.manifest_json
    zstd = [(layer("app", compression="zstd"), History("COPY"))]
    with pytest.raises(ImageError, match="zstd"):
        build_image(docker_image(), zstd, Settings(), CREATED, {})
    mixed = build_image(scratch(AMD64), [(docker_image().layers[0], History("x")), *zstd], Settings(), 0, {})
    validate(mixed)
    types = [layer["mediaType"] for layer in mixed.manifest_json["layers"]]
    assert types == [OCI.layer_type("gzip"), OCI.layer_type("zstd")]


def test_history_is_completed_for_a_base_without_one() -> None:
    """History is optional. A partial history would shift the lines of `docker history`."""
    base = docker_image()
    config = json.loads(base.config)
    del config["history"]
    base = Image(base.descriptor, base.manifest, canonical_json(config), base.layers)
    made = build_image(base, [(layer("app"), History("COPY app"))], Settings(), CREATED, {})
    assert [line.get("created_by") for line in made.config_json["history"]] == [None, "COPY app"]
    validate(made)


def test_order_of_settings_does_not_change_the_image() -> None:
    one = image(env={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"})
    other = image(env={"B": "2", "A": "1"}, labels={"y": "2", "x": "1"})
    assert one.digest == other.digest


def test_index_is_sorted_by_platform() -> None:
    """The order of the images does not change the digest. Each platform occurs once; no mix of families."""
    arm = image(Platform("linux", "arm64", "v8"))
    index = make_index([arm, image()], {"n": "1"})
    assert index.digest == make_index([image(), arm], {"n": "1"}).digest
    value = json.loads(index.index)
    assert value["mediaType"] == OCI.index
    assert [entry["platform"] for entry in value["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
    ]
    validate(index)
    assert json.loads(make_index([docker_image()], {}).index)["mediaType"] == DOCKER.index
    for images in ([], [image(), image()], [arm, docker_image()]):
        with pytest.raises(ImageError):
            make_index(images, {})


def test_rfc3339() -> None:
    """In UTC. A time out of range is an error."""
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    with pytest.raises(ImageError, match="creation time"):
        rfc3339(1 << 60)
