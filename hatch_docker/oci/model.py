"""Descriptors, layers, images and indexes of the OCI image-spec 1.1: immutable values.

See descriptor.md, manifest.md, image-index.md and config.md. Layers are opened, not held in memory.
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
"""Function that opens the same bytes from their start each time; the caller closes the stream."""

Content = bytes | Path | Opener
"""The bytes of a file: in memory, on disk, or to be opened."""


def open_content(content: Content | None) -> BinaryIO:
    """Open the bytes of a file, none if it has no content; the caller closes the stream. Raises OSError."""
    if content is None or isinstance(content, bytes):
        return io.BytesIO(content or b"")
    return content.open("rb") if isinstance(content, Path) else content()


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes: `sha256:` and 64 hexadecimal digits (descriptor.md, Digests)."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: the form of every document that we write and that has a digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture (GOARCH names) and perhaps a variant (image-index.md, platform)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `linux/amd64` or `linux/arm/v7`; raises ImageError for anything else."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_]+", part) for part in parts):
            raise ImageError(f"platform {text!r} is not of the form os/architecture, such as linux/amd64")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


UNKNOWN = Platform("unknown", "unknown")
"""Platform of BuildKit's attestations, which an index lists beside its images."""


def host_platform() -> Platform:
    """Return the Linux platform of this machine's architecture, whatever its operating system is."""
    machine = platform.machine().lower()
    return Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed, sized, content-addressed reference to bytes (descriptor.md). `size` is in bytes."""

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
    """One file system change set (layer.md).

    `descriptor` is that of the bytes that `open` opens (compressed, as stored); `diff_id` is the digest of the
    uncompressed tar; `unpacked_size` is that tar's size in bytes, None if the layer was not read yet.
    """

    descriptor: Descriptor
    diff_id: str
    unpacked_size: int | None
    open: Opener


@dataclass(frozen=True, slots=True)
class History:
    """Origin of a layer (config.md, history), as `docker history` shows it."""

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
        """The configuration, parsed (config.md)."""
        return dict(json.loads(self.config))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that its containers start with: `config` in the configuration, which may be missing."""
        return dict(self.config_json.get("config") or {})

    @property
    def env(self) -> dict[str, str]:
        """The variables of the settings."""
        return {name: value for name, _, value in (str(line).partition("=") for line in self.settings.get("Env") or [])}

    @property
    def manifest_json(self) -> dict[str, Any]:
        """The manifest, parsed (manifest.md)."""
        return dict(json.loads(self.manifest))

    @property
    def platform(self) -> Platform:
        """Platform of the image by its configuration."""
        config = self.config_json
        return Platform(config["os"], config["architecture"], config.get("variant", ""))

    @property
    def size(self) -> int:
        """Bytes of all layers as stored (compressed)."""
        return sum(layer.descriptor.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Images of several platforms under one digest (image-index.md). `index` is the exact bytes."""

    descriptor: Descriptor
    index: bytes
    images: tuple[Image, ...]

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return self.descriptor.digest


def images_of(item: Image | Index) -> tuple[Image, ...]:
    """Return the images of an index, one for each platform, or the image itself."""
    return item.images if isinstance(item, Index) else (item,)
