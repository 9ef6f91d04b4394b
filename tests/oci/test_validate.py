"""The tests' own validator of images: it finds violations of the specification, and names them."""

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.layer import Compression, make_layer, write_layer
from hatch_docker.oci.make_image import Settings, build_image, make_index, scratch
from hatch_docker.oci.media_types import DOCKER
from hatch_docker.oci.model import Descriptor, History, Image, Index, Layer, Platform, canonical_json, digest_of
from tests.fakes.images import AMD64, docker_image, image, raw_layer
from tests.validate import validate

Change = Callable[[dict[str, Any]], object]


def changed(made: Image, *, manifest: Change = len, config: Change = len, **more: Any) -> Image:
    """Return the image with changed documents and correct digests."""
    config_value, manifest_value = made.config_json, made.manifest_json
    config(config_value)
    config_bytes = canonical_json(config_value)
    manifest_value["config"].update(digest=digest_of(config_bytes), size=len(config_bytes))
    manifest(manifest_value)
    data = canonical_json(manifest_value)
    descriptor = dataclasses.replace(made.descriptor, digest=digest_of(data), size=len(data))
    return dataclasses.replace(made, **{"descriptor": descriptor, "manifest": data, "config": config_bytes, **more})


def with_layer(made: Image, **changes: Any) -> Image:
    return dataclasses.replace(made, layers=(dataclasses.replace(made.layers[0], **changes), *made.layers[1:]))


def with_new_layer(layer: Layer) -> Image:
    return build_image(scratch(AMD64), [(layer, History("x"))], Settings(), 0, {})


GOOD = image()
OTHER = bytes(range(256)) * 8


def test_valid_images_are_accepted() -> None:
    """Of both families of media types, an index, and an image without layers."""
    for item in (GOOD, docker_image(), scratch(AMD64), make_index([GOOD], {}), changed(GOOD)):
        validate(item)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dataclasses.replace(GOOD, manifest=GOOD.manifest + b" "), "manifest has the digest"),
        (dataclasses.replace(GOOD, config=GOOD.config + b" "), "configuration has the digest"),
        (changed(GOOD, manifest=lambda m: m.update(schemaVersion=1)), "schemaVersion 1"),
        (changed(GOOD, manifest=lambda m: m.update(mediaType=DOCKER.manifest)), "is listed as"),
        (changed(GOOD, manifest=lambda m: m["layers"].pop()), "other layers"),
        (changed(GOOD, manifest=lambda m: m["layers"].reverse()), "other layers"),
        (changed(GOOD, manifest=lambda m: m["layers"][0].update(mediaType=DOCKER.layer_type("gzip"))), "OCI's media"),
        (changed(GOOD, manifest=lambda m: m["config"].update(size=1)), "not 1"),
        (changed(GOOD, config=lambda c: c["rootfs"]["diff_ids"].pop()), "diff-ids"),
        (changed(GOOD, config=lambda c: c["rootfs"]["diff_ids"].reverse()), "diff-ids"),
        (changed(GOOD, config=lambda c: c["rootfs"].pop("type")), "rootfs"),
        (changed(GOOD, config=lambda c: c["history"].pop()), "history"),
        (changed(GOOD, config=lambda c: c.pop("os")), "no os"),
        (changed(GOOD, config=lambda c: c.update(architecture="arm64")), "descriptor says linux/amd64"),
        (with_layer(GOOD, open=lambda: io.BytesIO(OTHER)), "checksum"),
        (with_layer(GOOD, open=GOOD.layers[1].open), "bytes of the layer"),
        (with_layer(GOOD, unpacked_size=5), "not 5 bytes"),
        (with_new_layer(raw_layer(("a", b"0", ""), ("./a", b"0", ""))), "two entries for a"),
        (with_new_layer(raw_layer(("../a", b"0", ""))), "unsafe path"),
    ],
)  # fmt: skip
def test_invalid_images_are_rejected(bad: Image, message: str) -> None:
    """Each image has one fault."""
    with pytest.raises(ImageError, match=message):
        validate(bad)


def test_wrong_compression_or_diff_id_is_rejected() -> None:
    """The media type is gzip but the bytes are not compressed; the diff-id is of other bytes."""
    out = io.BytesIO()
    facts = write_layer([], out, Compression("none"))
    opened = make_layer(facts, Compression("gzip"), lambda: io.BytesIO(out.getvalue()))
    with pytest.raises(ImageError, match="is none"):
        validate(with_new_layer(opened))
    wrong = Layer(GOOD.layers[0].descriptor, digest_of(b"x"), None, GOOD.layers[0].open)
    with pytest.raises(ImageError, match="does not unpack to its diff-id"):
        validate(with_new_layer(wrong))


def broken_index(change: Change) -> Index:
    index = make_index([GOOD, image(Platform("linux", "arm64"))], {})
    value = json.loads(index.index)
    change(value)
    data = canonical_json(value)
    return Index(Descriptor(index.descriptor.media_type, digest_of(data), len(data)), data, index.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["manifests"].pop(), "other manifests"),
        (lambda v: v["manifests"][0].update(size=1), "wrong size"),
        (lambda v: v["manifests"][0]["platform"].update(architecture="s390x"), "says linux/s390x"),
        (lambda v: v["manifests"][0].pop("platform"), "says None"),
    ],
)
def test_invalid_indexes_are_rejected(change: Change, message: str) -> None:
    """Its entries must match its images."""
    with pytest.raises(ImageError, match=message):
        validate(broken_index(change))
