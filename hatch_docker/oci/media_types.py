"""Media types of images: those of the OCI (image-spec, media-types.md) and Docker's older ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """A family of media types. All documents and layers of an image have media types of one family.

    `layer` is the type of an uncompressed tar, `mark` the character between `layer` and the name of the compression.
    """

    name: str
    index: str
    manifest: str
    config: str
    layer: str
    mark: str

    def layer_type(self, compression: str) -> str:
        """Return the media type of a layer with a compression: "none", "gzip" or "zstd"."""
        return self.layer if compression == "none" else f"{self.layer}{self.mark}{compression}"


OCI = MediaTypes(
    "OCI",
    index="application/vnd.oci.image.index.v1+json",
    manifest="application/vnd.oci.image.manifest.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar",
    mark="+",
)
DOCKER = MediaTypes(
    "Docker",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar",
    mark=".",
)
FAMILIES = (OCI, DOCKER)

INDEX_TYPES = frozenset(family.index for family in FAMILIES)
MANIFEST_TYPES = frozenset(family.manifest for family in FAMILIES)
CONFIG_TYPES = frozenset(family.config for family in FAMILIES)
LAYER_TYPES = {family.layer_type(name): name for family in FAMILIES for name in ("none", "gzip", "zstd")}
"""Media types of layers that can be read, with their compression."""


def family_of(media_type: str) -> MediaTypes:
    """Return the family that contains the media type of a manifest or index."""
    return next(family for family in FAMILIES if media_type in (family.manifest, family.index))
