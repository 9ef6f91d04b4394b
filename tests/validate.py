"""Validation of images that tests make: all invariants are computed again from the bytes."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import HashingStream, drain
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.manifest import parse_index, parse_json, parse_manifest
from hatch_docker.oci.media_types import INDEX_TYPES, LAYER_TYPES, MANIFEST_TYPES, MediaTypes, family_of
from hatch_docker.oci.model import Descriptor, Image, Index, Layer, digest_of
from hatch_docker.oci.tar import read_tar

VALID: set[str] = set()
"""Layers that were already validated in this process."""


def validate(item: Image | Index) -> None:
    """Check digests, sizes, diff-ids, media types, platform, history and the tar of each layer.

    Read each layer, and unpack it the first time. Raise ImageError for the first error.
    """
    if isinstance(item, Image):
        _validate_image(item)
        return
    _check_bytes(item.index, item.descriptor, "the index")
    listed = parse_index(item.index, "the index")
    _check_type(json.loads(item.index), item.descriptor, INDEX_TYPES)
    if [entry.digest for entry in listed] != [image.digest for image in item.images]:
        raise ImageError("the index lists other manifests than its images have")
    for entry, image in zip(listed, item.images, strict=True):
        if entry.size != image.descriptor.size or entry.media_type != image.descriptor.media_type:
            raise ImageError(f"the index has a wrong size or media type for {entry.digest}")
        if entry.platform != image.platform:
            raise ImageError(f"the index says {entry.platform} for an image for {image.platform}")
        _validate_image(image)
    if len({entry.platform for entry in listed}) != len(listed):
        raise ImageError("the index has two images for one platform")


def _validate_image(image: Image) -> None:
    _check_bytes(image.manifest, image.descriptor, "the manifest")
    _check_type(parse_json(image.manifest, "the manifest"), image.descriptor, MANIFEST_TYPES)
    manifest = parse_manifest(image.manifest, "the manifest")
    _check_bytes(image.config, manifest.config, "the configuration")
    _check_family(family_of(image.descriptor.media_type), manifest.config, manifest.layers)
    if [layer.descriptor for layer in image.layers] != list(manifest.layers):
        raise ImageError("the manifest lists other layers than the image has")
    config = parse_json(image.config, "the configuration")
    _check_config(config, image.layers)
    if image.descriptor.platform not in (None, image.platform):
        raise ImageError(f"the descriptor says {image.descriptor.platform}, the image {image.platform}")
    for layer in image.layers:
        _validate_layer(layer)


def _check_bytes(data: bytes, descriptor: Descriptor, name: str) -> None:
    if digest_of(data) != descriptor.digest:
        raise ImageError(f"{name} has the digest {digest_of(data)}, not {descriptor.digest}")
    if len(data) != descriptor.size:
        raise ImageError(f"{name} has {len(data)} bytes, not {descriptor.size}")


def _check_type(value: dict[str, Any], descriptor: Descriptor, types: frozenset[str]) -> None:
    found = value.get("mediaType")
    if descriptor.media_type not in types or found not in (None, descriptor.media_type):
        raise ImageError(f"{descriptor.digest} is listed as {descriptor.media_type!r} and is {found!r}")
    if value.get("schemaVersion") != 2:
        raise ImageError(f"{descriptor.digest} has the schemaVersion {value.get('schemaVersion')!r}, not 2")


def _check_family(types: MediaTypes, config: Descriptor, layers: Sequence[Descriptor]) -> None:
    if config.media_type != types.config:
        raise ImageError(f"an image of {types.name}'s media types has a configuration {config.media_type!r}")
    for layer in layers:
        if not layer.media_type.startswith(types.layer):
            raise ImageError(f"an image of {types.name}'s media types has a layer {layer.media_type!r}")


def _check_config(config: dict[str, Any], layers: Sequence[Layer]) -> None:
    for key in ("os", "architecture"):
        if not isinstance(config.get(key), str) or not config[key]:
            raise ImageError(f"the configuration has no {key}")
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise ImageError("the configuration has no rootfs of the type layers")
    if rootfs.get("diff_ids") != [layer.diff_id for layer in layers]:
        raise ImageError("the configuration's diff-ids are not those of the layers")
    history = config.get("history") or []
    if history and sum(not line.get("empty_layer") for line in history) != len(layers):
        raise ImageError(f"the configuration's history does not have {len(layers)} layers")


def _validate_layer(layer: Layer) -> None:
    descriptor, known = layer.descriptor, f"{layer.descriptor} {layer.diff_id} {layer.unpacked_size}"
    if known in VALID:
        with contextlib.closing(layer.open()) as stream:
            stored = HashingStream(stream)
            drain(stored)
        if stored.digest == descriptor.digest:
            return
    with contextlib.closing(layer.open()) as stream:
        stored = HashingStream(stream)
        unpacked = Decompressed(stored)
        plain = HashingStream(unpacked)
        paths: set[str] = set()
        for entry, _content in read_tar(plain):
            if entry.path in paths:
                raise ImageError(f"the layer {descriptor.digest} has two entries for {entry.path}")
            paths.add(entry.path)
        drain(plain)
        drain(stored)
    if (stored.digest, stored.size) != (descriptor.digest, descriptor.size):
        raise ImageError(f"the bytes of the layer {descriptor.digest} have the digest {stored.digest}")
    if unpacked.compression != LAYER_TYPES[descriptor.media_type]:
        raise ImageError(f"the layer {descriptor.digest} of {descriptor.media_type} is {unpacked.compression}")
    if plain.digest != layer.diff_id:
        raise ImageError(f"the layer {descriptor.digest} does not unpack to its diff-id {layer.diff_id}")
    if layer.unpacked_size not in (None, plain.size):
        raise ImageError(f"the layer {descriptor.digest} unpacks to {plain.size}, not {layer.unpacked_size} bytes")
    VALID.add(known)
