"""Strict parsers of manifests, indexes and configurations. Errors name the `source` and the wrong field.

Implements manifest.md, image-index.md and config.md of the image-spec 1.1, and Docker's schema 2.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from hatch_docker.core.errors import ImageError
from hatch_docker.core.tables import table_at
from hatch_docker.oci.media_types import CONFIG_TYPES, INDEX_TYPES, LAYER_TYPES, MANIFEST_TYPES
from hatch_docker.oci.model import DIGEST, UNKNOWN, Descriptor, Image, Layer, Opener, Platform, canonical_json

DOCUMENT_LIMIT = 4 << 20  # largest manifest or index in bytes; every registry accepts this size
CONFIG_LIMIT = 8 << 20    # largest configuration in bytes
LARGEST = max(DOCUMENT_LIMIT, CONFIG_LIMIT)  # largest document in bytes
_SIZE_LIMIT = 1 << 50     # largest `size` of a descriptor in bytes
# All fields of documents that this program reads or displays.
_FIELDS = frozenset(
    {
        "schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers", "subject", "annotations",
        "digest", "size", "urls", "data", "platform", "os", "architecture", "variant",
        "created", "rootfs", "type", "diff_ids", "history", "User", "ExposedPorts", "Env", "Entrypoint", "Cmd",
        "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "Shell", "OnBuild",
    }
)  # fmt: skip
_FOLDED = {name.casefold(): name for name in _FIELDS}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The descriptors of a manifest (manifest.md)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse_json(data: bytes, source: str) -> dict[str, Any]:
    """Return a JSON object. Raises ImageError, also for JSON that parsers read differently (duplicate keys, NaN)."""
    value = parse_value(data, source)
    if not isinstance(value, dict):
        raise ImageError(f"{source}: not a JSON object")
    return value


def parse_value(data: bytes, source: str) -> object:
    """Return a JSON value of any type. Raises ImageError like `parse_json`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ImageError(f"{source}: a key appears twice in one object")
        return value

    def constant(name: str) -> NoReturn:
        raise ImageError(f"{source}: {name} is not JSON")

    try:
        value: object = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=constant)
        if b"\\ud" in data.lower():  # perhaps a lone surrogate, which UTF-8 cannot encode
            canonical_json(value)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{source}: not readable as JSON") from error
    return value


def _check_spelling(value: Mapping[str, Any], where: str) -> None:
    """Raise ImageError for a field name in the wrong case: Go's parser accepts it, other parsers ignore it."""
    for key in value:
        if key not in _FIELDS and key.casefold() in _FOLDED:
            raise ImageError(f"{where} has the field {key[:40]!r}, which must be {_FOLDED[key.casefold()]!r}")


def media_type_of(data: bytes, declared: str, source: str) -> str:
    """Return the media type of a manifest or index. Raises ImageError if `declared` and its own mediaType differ."""
    value = parse_json(data, source)
    inside = value.get("mediaType")
    declared = declared.partition(";")[0].strip().lower()
    if value.get("schemaVersion") == 1:
        raise ImageError(f"{source}: an image of the old schema 1; push it again with a current tool")
    if "manifests" in value and ("layers" in value or "config" in value):
        raise ImageError(f"{source}: a manifest and an index at once (CVE-2021-41190)")
    known = INDEX_TYPES if "manifests" in value else MANIFEST_TYPES
    found = inside if isinstance(inside, str) else declared
    if found not in known or (declared in INDEX_TYPES | MANIFEST_TYPES and declared != found):
        raise ImageError(f"{source}: mediaType is {str(found)[:100]!r}, sent as {declared[:100]!r}")
    return found


def parse_manifest(data: bytes, source: str) -> Manifest:
    """Return the descriptors of a manifest. Raises ImageError that names the wrong field."""
    value = parse_json(data, source)
    _check_spelling(value, source)
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise ImageError(f"{source}: layers is not a list")
    config = _descriptor(value.get("config"), f"{source}: config")
    if config.media_type not in CONFIG_TYPES:
        raise ImageError(f"{source}: not a container image, its config is {config.media_type[:100]!r}")
    read = tuple(_descriptor(layer, f"{source}: layers[{number}]") for number, layer in enumerate(layers))
    for number, layer in enumerate(read):
        if layer.media_type not in LAYER_TYPES:
            raise ImageError(f"{source}: layers[{number}] has the unknown media type {layer.media_type[:100]!r}")
    return Manifest(config, read)


def parse_index(data: bytes, source: str) -> tuple[Descriptor, ...]:
    """Return the descriptors of an index. Raises ImageError that names the wrong field."""
    value = parse_json(data, source)
    _check_spelling(value, source)
    manifests = value.get("manifests")
    if not isinstance(manifests, list):
        raise ImageError(f"{source}: manifests is not a list")
    return tuple(_descriptor(item, f"{source}: manifests[{number}]") for number, item in enumerate(manifests))


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ImageError(f"{where} is not a descriptor")
    _check_spelling(value, where)
    media_type, digest, size = (value.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not media_type:
        raise ImageError(f"{where}.mediaType is missing")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ImageError(f"{where}.digest is not a sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _SIZE_LIMIT:
        raise ImageError(f"{where}.size is not a size in bytes")
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        raise ImageError(f"{where}.annotations is not a map of texts")
    platform = value.get("platform")
    if platform is None:
        return Descriptor(media_type, digest, size, None, annotations)
    names = ("os", "architecture", "variant")
    if isinstance(platform, dict):
        _check_spelling(platform, f"{where}.platform")
    parts = [platform.get(name, "") for name in names] if isinstance(platform, dict) else []
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ImageError(f"{where}.platform is not a platform")
    return Descriptor(media_type, digest, size, Platform(*parts), annotations)


def choose(children: Sequence[Descriptor], platform: Platform, source: str) -> Descriptor:
    """Return the descriptor in an index for a platform. Raises ImageError that lists the platforms of the index."""
    images = [child for child in children if child.platform != UNKNOWN]
    for wanted in _compatible_platforms(platform):
        for child in images:
            if child.platform is not None and _canonical(child.platform) == wanted:
                return child
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    found = ", ".join(sorted({str(child.platform) for child in images if child.platform})) or "none"
    raise ImageError(f"{source} has no image for {platform}; it has: {found}")


def _canonical(platform: Platform) -> Platform:
    default = {"arm64": "v8", "amd64": "v1"}.get(platform.architecture)
    return replace(platform, variant="") if platform.variant == default else platform


def _compatible_platforms(platform: Platform) -> list[Platform]:
    """Return the platforms whose images run on `platform`, best first: 32-bit ARM also runs older variants."""
    if platform.architecture != "arm":
        return [_canonical(platform)]
    newest = int((platform.variant or "v7").removeprefix("v"))
    older = [replace(platform, variant=f"v{number}") for number in range(newest, 4, -1)]
    return [*older, replace(platform, variant="")]


def assemble(
    descriptor: Descriptor, manifest: bytes, config: bytes, opener: Callable[[Descriptor], Opener], source: str
) -> Image:
    """Return the image of a manifest and a configuration. `opener`: returns the function that opens a layer.

    Raises ImageError if configuration and manifest contradict each other, or if a required field is missing.
    """
    layers = parse_manifest(manifest, source).layers
    value = parse_json(config, f"{source}: config")
    _check_spelling(value, f"{source}: config")
    for name in ("os", "architecture"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise ImageError(f"{source}: config.{name} is missing")
    _check_config(value, f"{source}: config")
    rootfs = table_at(value, "rootfs")
    _check_spelling(rootfs, f"{source}: config.rootfs")
    diff_ids = rootfs.get("diff_ids")
    if not isinstance(diff_ids, list) or not all(DIGEST.fullmatch(str(item)) for item in diff_ids):
        raise ImageError(f"{source}: config.rootfs.diff_ids is not a list of digests")
    if len(diff_ids) != len(layers):
        raise ImageError(f"{source}: {len(layers)} layers but {len(diff_ids)} diff_ids")
    pairs = zip(layers, diff_ids, strict=True)
    opened = tuple(Layer(layer, diff_id, None, opener(layer)) for layer, diff_id in pairs)
    return Image(descriptor, manifest, config, opened)


def _check_config(value: dict[str, Any], where: str) -> None:
    """Raise ImageError if a field of a configuration does not follow config.md. Only used fields are checked."""
    settings = value.get("config") or {}
    if not isinstance(settings, dict):
        raise ImageError(f"{where}.config is not an object")
    _check_spelling(settings, f"{where}.config")
    for name in ("Env", "Entrypoint", "Cmd"):
        words = settings.get(name) or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ImageError(f"{where}.config.{name} is not a list of texts")
        if name == "Env" and not all("=" in word[1:] and "\0" not in word for word in words):
            raise ImageError(f"{where}.config.Env has an item that is not NAME=VALUE")
    for name in ("Labels", "ExposedPorts", "Volumes", "Healthcheck"):
        if not isinstance(settings.get(name) or {}, dict):
            raise ImageError(f"{where}.config.{name} is not an object")
    if not all(isinstance(text, str) for text in (settings.get("Labels") or {}).values()):
        raise ImageError(f"{where}.config.Labels is not a map of texts")
    for name in ("User", "WorkingDir", "StopSignal"):
        if not isinstance(settings.get(name) or "", str):
            raise ImageError(f"{where}.config.{name} is not a text")
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(item, dict) for item in history):
        raise ImageError(f"{where}.history is not a list of objects")
    if not all(isinstance(item.get(name) or "", str) for item in history for name in ("created_by", "comment")):
        raise ImageError(f"{where}.history has a line that is not a text")
    if not isinstance(value.get("variant") or "", str):
        raise ImageError(f"{where}.variant is not a text")


def check_platform(image: Image, platform: Platform, source: str) -> None:
    """Raise ImageError if an image cannot run on a platform, by the platform in its configuration."""
    if _canonical(image.platform) not in _compatible_platforms(platform):
        raise ImageError(f"{source} is for {image.platform}, not for {platform}")
