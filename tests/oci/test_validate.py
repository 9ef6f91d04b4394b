"""validate finds whatever breaks the specification, and says what it is."""

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


def remade(made: Image, *, manifest: Change = len, config: Change = len, **more: Any) -> Image:
    """The image with its documents changed and their digests set right."""
    configured, told = made.config_json, made.manifest_json
    config(configured)
    config_bytes = canonical_json(configured)
    told["config"].update(digest=digest_of(config_bytes), size=len(config_bytes))
    manifest(told)
    data = canonical_json(told)
    descriptor = dataclasses.replace(made.descriptor, digest=digest_of(data), size=len(data))
    return dataclasses.replace(made, **{"descriptor": descriptor, "manifest": data, "config": config_bytes, **more})


def with_layer(made: Image, **changes: Any) -> Image:
    return dataclasses.replace(made, layers=(dataclasses.replace(made.layers[0], **changes), *made.layers[1:]))


def with_new_layer(layer: Layer) -> Image:
    return build_image(scratch(AMD64), [(layer, History("x"))], Settings(), 0, {})


GOOD = image()
OTHER = bytes(range(256)) * 8


def test_good_images_pass() -> None:
    """Both families, an index, an empty image."""
    for item in (GOOD, docker_image(), scratch(AMD64), make_index([GOOD], {}), remade(GOOD)):
        validate(item)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dataclasses.replace(GOOD, manifest=GOOD.manifest + b" "), "manifest has the digest"),
        (dataclasses.replace(GOOD, config=GOOD.config + b" "), "configuration has the digest"),
        (remade(GOOD, manifest=lambda m: m.update(schemaVersion=1)), "schemaVersion 1"),
        (remade(GOOD, manifest=lambda m: m.update(mediaType=DOCKER.manifest)), "is listed as"),
        (remade(GOOD, manifest=lambda m: m["layers"].pop()), "other layers"),
        (remade(GOOD, manifest=lambda m: m["layers"].reverse()), "other layers"),
        (remade(GOOD, manifest=lambda m: m["layers"][0].update(mediaType=DOCKER.layer_type("gzip"))), "OCI's media"),
        (remade(GOOD, manifest=lambda m: m["config"].update(size=1)), "not 1"),
        (remade(GOOD, config=lambda c: c["rootfs"]["diff_ids"].pop()), "diff-ids"),
        (remade(GOOD, config=lambda c: c["rootfs"]["diff_ids"].reverse()), "diff-ids"),
        (remade(GOOD, config=lambda c: c["rootfs"].pop("type")), "rootfs"),
        (remade(GOOD, config=lambda c: c["history"].pop()), "history"),
        (remade(GOOD, config=lambda c: c.pop("os")), "no os"),
        (remade(GOOD, config=lambda c: c.update(architecture="arm64")), "descriptor says linux/amd64"),
        (with_layer(GOOD, open=lambda: io.BytesIO(OTHER)), "checksum"),
        (with_layer(GOOD, open=GOOD.layers[1].open), "bytes of the layer"),
        (with_layer(GOOD, unpacked_size=5), "not 5 bytes"),
        (with_new_layer(raw_layer(("a", b"0", ""), ("./a", b"0", ""))), "two entries for a"),
        (with_new_layer(raw_layer(("../a", b"0", ""))), "unsafe path"),
    ],
)  # fmt: skip
def test_broken_images_are_refused(bad: Image, message: str) -> None:
    """One fault at a time, each found."""
    with pytest.raises(ImageError, match=message):
        validate(bad)


def test_a_layer_that_is_compressed_otherwise_is_refused() -> None:
    """The media type says gzip, the bytes are plain; the diff-id is another one's."""
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
def test_broken_indexes_are_refused(change: Change, message: str) -> None:
    """An index must tell the truth about its images."""
    with pytest.raises(ImageError, match=message):
        validate(broken_index(change))
