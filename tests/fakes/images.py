"""Small images that are made without `build_image`, so that tests do not depend on it, and images made by it."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hatch_docker.oci.layer import Compression, Entry, LayerFacts, make_layer, write_layer
from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.media_types import DOCKER, OCI, MediaTypes
from hatch_docker.oci.model import Descriptor, History, Image, Index, Layer, Platform, canonical_json, digest_of

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")
CREATED = 1_700_000_000


def layer_of(entries: Iterable[Entry], compression: str = "gzip") -> Layer:
    """Return a layer of some entries, in memory."""
    out = io.BytesIO()
    facts = write_layer(list(entries), out, Compression(compression))
    return make_layer(facts, Compression(compression), partial(io.BytesIO, out.getvalue()))


def layer(path: str, content: bytes = b"x", compression: str = "gzip") -> Layer:
    """Return a layer with one file, written by hatch-docker."""
    return layer_of([Entry(path, "file", 0o644, 315532800, content=content)], compression)


def small_layer(name: str, content: bytes) -> Layer:
    """Return a gzip layer with one file, written by tarfile."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        item = tarfile.TarInfo(name)
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
    plain = stream.getvalue()
    packed = gzip.compress(plain, mtime=0)
    descriptor = Descriptor(OCI.layer_type("gzip"), digest_of(packed), len(packed))
    return Layer(descriptor, digest_of(plain), len(plain), partial(io.BytesIO, packed))


def raw_layer(*members: tuple[str, bytes, str]) -> Layer:
    """Return a layer with any members: name, tar type and link target of each. For tests of attacks."""
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


def _manifest(config: bytes, layers: tuple[Layer, ...], platform: Platform, types: MediaTypes = OCI) -> Image:
    """Return an image with a configuration and layers. `types`: the media types, of the OCI or of Docker."""
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": types.manifest,
        "config": Descriptor(types.config, digest_of(config), len(config)).to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    })  # fmt: skip
    return Image(Descriptor(types.manifest, digest_of(manifest), len(manifest), platform), manifest, config, layers)


def _image(layers: tuple[Layer, ...], platform: Platform, config: Mapping[str, Any]) -> Image:
    data = canonical_json({
        "os": platform.os, "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}), "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    })  # fmt: skip
    return _manifest(data, layers, platform)


def image_of(*layers: Layer, architecture: str = "amd64", path: str = "") -> Image:
    """Return an image of some layers. The configuration has only PATH, if `path` is given."""
    return _image(layers, Platform("linux", architecture), {"Env": [f"PATH={path}"]} if path else {})


def small_image(*layers: Layer, platform: Platform = AMD64) -> Image:
    """Return an image of some layers, by default with one layer. Its command is /hello."""
    return _image(layers or (small_layer("hello", b"hello\n"),), platform, {"Cmd": ["/hello"]})


def small_index(*images: Image) -> Index:
    """Return an index of some images, by default an image for amd64 and an image for arm64."""
    images = images or (small_image(), small_image(platform=ARM64))
    data = canonical_json({
        "schemaVersion": 2, "mediaType": OCI.index, "manifests": [image.descriptor.to_json() for image in images],
    })  # fmt: skip
    return Index(Descriptor(OCI.index, digest_of(data), len(data)), data, images)


def with_config(image: Image, config: Any, **manifest: Any) -> Image:
    """Return an image with another configuration and other values in the manifest, with correct digests."""
    data = canonical_json(config)
    described = {**image.manifest_json["config"], "digest": digest_of(data), "size": len(data)}
    document = canonical_json({**image.manifest_json, **manifest, "config": described})
    descriptor = replace(image.descriptor, digest=digest_of(document), size=len(document))
    return replace(image, descriptor=descriptor, manifest=document, config=data)


def image(platform: Platform = AMD64, **settings: Any) -> Image:
    """Return an image of two layers, made by `build_image`."""
    additions = [(layer("a"), History("COPY a")), (layer("b", str(platform).encode()), History("COPY b"))]
    return build_image(scratch(platform), additions, Settings(**settings), CREATED, {"org.example.note": "1"})


def docker_image(**config: Any) -> Image:
    """Return an image with the media types and the configuration of old versions of Docker."""
    base = layer("etc")
    base = replace(base, descriptor=replace(base.descriptor, media_type=DOCKER.layer_type("gzip")))
    data = canonical_json({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "container": "abc",
        "container_config": {"Cmd": ["x"]}, "docker_version": "20", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [base.diff_id]},
        "history": [{"created_by": "ADD file"}, {"created_by": "CMD", "empty_layer": True}],
    })  # fmt: skip
    return _manifest(data, (base,), AMD64, DOCKER)
