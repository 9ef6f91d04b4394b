"""Descriptors, layers, images and indexes of the OCI image-spec 1.1: immutable values.

See descriptor.md, manifest.md, image-index.md and config.md. Layers are not in memory; each has a function to open it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.core.errors import ImageError

DIGEST = re.compile(r"sha256:[a-f0-9]{64}")

Opener = Callable[[], BinaryIO]
"""Function that opens a new stream of the same bytes at each call; the caller closes the stream."""

Content = bytes | Path | Opener
"""The content of a file: bytes, a path on disk, or a function that opens it."""


def open_content(content: Content | None) -> BinaryIO:
    """Open the content of a file (empty for None); the caller closes the stream. Raises OSError."""
    if content is None or isinstance(content, bytes):
        return io.BytesIO(content or b"")
    return content.open("rb") if isinstance(content, Path) else content()


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes: `sha256:` and 64 hexadecimal digits (descriptor.md, Digests)."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces. All documents with a digest are written in this form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system (GOOS name), an architecture (GOARCH name) and a variant or "" (image-index.md, platform)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse a text such as `linux/amd64` or `linux/arm/v7`. Raises ImageError for another format."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_]+", part) for part in parts):
            raise ImageError(f"platform {text!r} is not of the form os/architecture, such as linux/amd64")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


UNKNOWN = Platform("unknown", "unknown")
"""Platform of the attestations that BuildKit adds to an index."""


def host_platform() -> Platform:
    """Return the Linux platform with this machine's architecture, on any operating system."""
    machine = platform.machine().lower()
    return Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob: media type, digest and size in bytes (descriptor.md)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of descriptor.md, without empty optional fields."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            value["platform"] = {"os": self.platform.os, "architecture": self.platform.architecture}
            if self.platform.variant:
                value["platform"]["variant"] = self.platform.variant
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


@dataclass(frozen=True, slots=True)
class Layer:
    """A file system changeset (layer.md).

    `open` opens the (usually compressed) blob of `descriptor`. `diff_id` is the digest of the uncompressed tar,
    `unpacked_size` its size in bytes, None if the layer was not read yet.
    """

    descriptor: Descriptor
    diff_id: str
    unpacked_size: int | None
    open: Opener


@dataclass(frozen=True, slots=True)
class History:
    """The history entry of a layer (config.md, history); `docker history` shows it."""

    created_by: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest, its configuration and its layers, base first. `manifest` and `config` are the exact bytes."""

    descriptor: Descriptor
    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.descriptor.digest

    @property
    def config_json(self) -> dict[str, Any]:
        """The parsed configuration (config.md)."""
        return dict(json.loads(self.config))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of containers: the field `config` of the configuration, {} if it is missing."""
        return dict(self.config_json.get("config") or {})

    @property
    def env(self) -> dict[str, str]:
        """The environment variables in the settings."""
        return {name: value for name, _, value in (str(line).partition("=") for line in self.settings.get("Env") or [])}

    @property
    def manifest_json(self) -> dict[str, Any]:
        """The parsed manifest (manifest.md)."""
        return dict(json.loads(self.manifest))

    @property
    def platform(self) -> Platform:
        """The platform in the configuration."""
        config = self.config_json
        return Platform(config["os"], config["architecture"], config.get("variant", ""))

    @property
    def size(self) -> int:
        """The sum of the compressed sizes of the layers in bytes."""
        return sum(layer.descriptor.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: images of several platforms (image-index.md). `index` is its exact bytes."""

    descriptor: Descriptor
    index: bytes
    images: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return self.descriptor.digest


def images_of(item: Image | Index) -> tuple[Image, ...]:
    """Return the images of an index, or the image itself."""
    return item.images if isinstance(item, Index) else (item,)
