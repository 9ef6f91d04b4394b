"""New images made from a base image, with additional layers and other settings; and indexes of images."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.manifest import parse_json
from hatch_docker.oci.media_types import DOCKER, LAYER_TYPES, OCI, MediaTypes, family_of
from hatch_docker.oci.model import Descriptor, History, Image, Index, Layer, Platform, canonical_json, digest_of

# Fields by Docker about the container in which the base was built. They do not describe the new image.
_BUILD_TRACES = ("container", "container_config", "docker_version", "id", "parent")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an image's configuration (config.md, config). An empty value keeps the base's value.

    `env` and `labels` are added to those of the base. If `entrypoint` or `cmd` is set, both values of the base are
    dropped. `ports` are like "8000/tcp". `healthcheck` is Docker's object, {"Test": [...], "Interval": ns, ...}.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Mapping[str, Any] | None = None


def rfc3339(seconds: int) -> str:
    """Return a time (seconds since the epoch) in the format of RFC 3339. Raises ImageError if it is out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise ImageError(f"the creation time {seconds} is not a number of seconds since 1970") from None


def scratch(platform: Platform) -> Image:
    """Return an image without layers, with OCI media types."""
    config: dict[str, Any] = {
        "architecture": platform.architecture, "config": {}, "history": [], "os": platform.os,
        "rootfs": {"diff_ids": [], "type": "layers"},
    }  # fmt: skip
    if platform.variant:
        config["variant"] = platform.variant
    return _image(config, (), OCI, {})


def build_image(
    base: Image, additions: Sequence[tuple[Layer, History]], settings: Settings, created: int,
    annotations: Mapping[str, str],
) -> Image:
    """Return a new image: the base with additional layers (each with its history entry) and settings.

    The new image has the media types of the base, OCI or Docker; Docker manifests have no annotations. `created` is in
    seconds since the epoch. Raises ImageError for zstd layers on a base with Docker media types, and for a base whose
    configuration is not a JSON object.
    """
    config = parse_json(base.config, "the configuration of the base image")
    for key in _BUILD_TRACES:
        config.pop(key, None)
    time = rfc3339(created)
    config["created"] = time
    config["config"] = _apply_settings(config.get("config") or {}, settings)
    layers = (*base.layers, *(layer for layer, _ in additions))
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    lines = config.get("history") or []
    if sum(not line.get("empty_layer") for line in lines) != len(base.layers):  # history is optional
        lines = [{"comment": "a layer of the base"} for _ in base.layers]
    for _, history in additions:
        line = {"created": time, "created_by": history.created_by, "comment": history.comment}
        lines.append({key: value for key, value in line.items() if value})
    config["history"] = lines
    return _image(config, layers, family_of(base.descriptor.media_type), annotations)


def _apply_settings(config: dict[str, Any], settings: Settings) -> dict[str, Any]:
    for key in ("Image", "Hostname", "OnBuild"):
        config.pop(key, None)
    if settings.entrypoint or settings.cmd:
        config.pop("Entrypoint", None)
        config.pop("Cmd", None)
        config.pop("ArgsEscaped", None)
    env = dict(line.partition("=")[::2] for line in config.get("Env") or [])
    env.update(sorted(settings.env.items()))  # variables of the base keep their position, new ones are sorted
    ports = {**(config.get("ExposedPorts") or {}), **{port: {} for port in settings.ports}}
    volumes = {**(config.get("Volumes") or {}), **{volume: {} for volume in settings.volumes}}
    values = {
        "Entrypoint": list(settings.entrypoint), "Cmd": list(settings.cmd),
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**(config.get("Labels") or {}), **settings.labels},
        "User": settings.user, "WorkingDir": settings.workdir, "StopSignal": settings.stop_signal,
        "ExposedPorts": ports, "Volumes": volumes,
        "Healthcheck": dict(settings.healthcheck) if settings.healthcheck is not None else None,
    }  # fmt: skip
    return {**config, **{key: value for key, value in values.items() if value}}


def _image(config: dict[str, Any], layers: Sequence[Layer], types: MediaTypes, annotations: Mapping[str, str]) -> Image:
    layers = tuple(_with_media_type(layer, types) for layer in layers)
    config_bytes = canonical_json(config)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": Descriptor(types.config, digest_of(config_bytes), len(config_bytes)).to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    if annotations and types is OCI:
        manifest["annotations"] = dict(annotations)
    data = canonical_json(manifest)
    platform = Platform(config["os"], config["architecture"], config.get("variant", ""))
    return Image(Descriptor(types.manifest, digest_of(data), len(data), platform), data, config_bytes, layers)


def _with_media_type(layer: Layer, types: MediaTypes) -> Layer:
    """Return the layer with a media type of the family `types`: an image must not mix OCI and Docker media types."""
    compression = LAYER_TYPES.get(layer.descriptor.media_type)
    if compression is None:
        raise ImageError(f"an image cannot take a layer of the media type {layer.descriptor.media_type!r}")
    if types is DOCKER and compression == "zstd":
        raise ImageError(
            "the base image has Docker's media types, which do not have zstd: "
            'set compression = "gzip" or use a base with OCI media types'
        )
    media_type = types.layer_type(compression)
    if media_type == layer.descriptor.media_type:
        return layer
    return dataclasses.replace(layer, descriptor=dataclasses.replace(layer.descriptor, media_type=media_type))


def make_index(images: Sequence[Image], annotations: Mapping[str, str]) -> Index:
    """Return an index of images, sorted by platform (image-index.md).

    Raises ImageError for no image, two images of one platform, and a mix of OCI and Docker media types.
    """
    ordered = sorted(images, key=lambda image: image.platform)
    families = {family_of(image.descriptor.media_type) for image in ordered}
    if len(families) != 1:
        raise ImageError("an index needs images, all of them with OCI's media types or all with Docker's")
    for image, following in itertools.pairwise(ordered):
        if image.platform == following.platform:
            raise ImageError(f"an index cannot have two images for {image.platform}")
    (types,) = families
    children = tuple(
        dataclasses.replace(image, descriptor=dataclasses.replace(image.descriptor, platform=image.platform))
        for image in ordered
    )
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": types.index,
        "manifests": [image.descriptor.to_json() for image in children],
    }
    if annotations and types is OCI:
        value["annotations"] = dict(annotations)
    data = canonical_json(value)
    return Index(Descriptor(types.index, digest_of(data), len(data)), data, children)
