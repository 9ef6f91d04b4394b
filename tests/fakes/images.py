"""Small images made by hand, so that tests of one module need no other."""

import gzip
import io
import tarfile
from functools import partial

from hatch_docker.oci.layer import Compression, LayerFacts, make_layer
from hatch_docker.oci.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Image,
    Index,
    Layer,
    Platform,
    canonical_json,
    digest_of,
)

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")


def small_layer(name: str, content: bytes) -> Layer:
    """A gzip layer with one file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        item = tarfile.TarInfo(name)
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
    plain = stream.getvalue()
    packed = gzip.compress(plain, mtime=0)
    descriptor = Descriptor(f"{OCI_LAYER}+gzip", digest_of(packed), len(packed))
    return Layer(descriptor, digest_of(plain), len(plain), partial(io.BytesIO, packed))


def small_image(*layers: Layer, platform: Platform = AMD64) -> Image:
    """An image of some layers (by default of one)."""
    layers = layers or (small_layer("hello", b"hello\n"),)
    config = canonical_json(
        {
            "os": platform.os, "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )
    manifest = canonical_json(
        {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
        }
    )
    descriptor = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest), platform)
    return Image(descriptor, manifest, config, layers)


def small_index(*images: Image) -> Index:
    """An index of some images (by default one for amd64 and one for arm64)."""
    images = images or (small_image(), small_image(platform=ARM64))
    data = canonical_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image.descriptor.to_json() for image in images]}
    )
    return Index(Descriptor(OCI_INDEX, digest_of(data), len(data)), data, images)


def raw_layer(*members: tuple[str, bytes, str]) -> Layer:
    """A layer as an attacker writes it: name, tar type, link name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o755
            info.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    data = out.getvalue()
    facts = LayerFacts(digest_of(data), len(data), digest_of(data), len(data))
    return make_layer(facts, Compression("none"), lambda: io.BytesIO(data))
