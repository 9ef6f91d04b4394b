"""Images as `build_image` makes them of small layers, and one as an old Docker pushed it."""

import io
from typing import Any

from hatch_docker.oci.layer import Compression, Entry, make_layer, write_layer
from hatch_docker.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Descriptor,
    History,
    Image,
    Layer,
    Platform,
    canonical_json,
    digest_of,
)
from hatch_docker.oci.mutate import Settings, build_image, scratch
from tests.fakes.images import AMD64

CREATED = 1_700_000_000


def layer(path: str, content: bytes = b"x", compression: str = "gzip") -> Layer:
    out = io.BytesIO()
    entry = Entry(path, "file", 0o644, 315532800, content=content)
    facts = write_layer([entry], out, Compression(compression))
    return make_layer(facts, Compression(compression), lambda: io.BytesIO(out.getvalue()))


def image(platform: Platform = AMD64, **settings: Any) -> Image:
    """A small image of two layers."""
    additions = [(layer("a"), History("COPY a")), (layer("b", str(platform).encode()), History("COPY b"))]
    return build_image(scratch(platform), additions, Settings(**settings), CREATED, {"org.example.note": "1"})


def docker_image(**config: Any) -> Image:
    """An image as an old Docker pushed it."""
    brought = layer("etc")
    brought = Layer(
        Descriptor(DOCKER_LAYER + ".gzip", brought.descriptor.digest, brought.descriptor.size),
        brought.diff_id, brought.unpacked_size, brought.open,
    )  # fmt: skip
    config_bytes = canonical_json({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "container": "abc",
        "container_config": {"Cmd": ["x"]}, "docker_version": "20", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [brought.diff_id]},
        "history": [{"created_by": "ADD file"}, {"created_by": "CMD", "empty_layer": True}],
    })  # fmt: skip
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": Descriptor(DOCKER_CONFIG, digest_of(config_bytes), len(config_bytes)).to_json(),
        "layers": [brought.descriptor.to_json()],
    })  # fmt: skip
    descriptor = Descriptor(DOCKER_MANIFEST, digest_of(manifest), len(manifest), AMD64)
    return Image(descriptor, manifest, config_bytes, (brought,))
