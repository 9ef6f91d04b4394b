"""The image that a user names on the command line: where it is, one of its platforms, and its contents."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.build.existing import ExistingImage, existing_image
from hatch_docker.build.publish import DIST, resolve_archive
from hatch_docker.cli.inspect.model import ImageContents
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.model import Excluded
from hatch_docker.oci.archive import child_for
from hatch_docker.oci.model import Image, Index, Platform, host_platform


@dataclass(frozen=True, slots=True)
class NamedImage:
    """The contents of an image that has a name.

    `digest` is that of the index if there is one. `platforms` are all platforms of the index, each with its image's
    digest and stored size in bytes. `left_out` is what the receipt says was left out of wheels.
    """

    name: str
    digest: str
    platforms: tuple[tuple[Platform, str, int], ...]
    contents: ImageContents
    left_out: tuple[Excluded, ...] = ()


@contextlib.contextmanager
def open_image(name: str, platform: str, ctx: Context) -> Iterator[tuple[ExistingImage, Image]]:
    """Open the image of a name, for a platform or else for this machine's.

    The name of a directory stands for the only archive in it, or for a layout. Raises ConfigError if there is no image
    for the platform.
    """
    path = Path(name)
    if (path / "oci-layout").is_file():
        name = f"oci:{path}"
    elif path == DIST or path.is_dir():
        name = str(resolve_archive(path))
    with existing_image(name, ctx) as existing:
        if not platform:
            item = existing.item
            yield existing, child_for(item, host_platform()) if isinstance(item, Index) else item
            return
        wanted = Platform.parse(platform)
        image = next((image for image in existing.images if image.platform == wanted), None)
        if image is None:
            known = ", ".join(str(image.platform) for image in existing.images)
            raise ConfigError(f"{name} has no image for {wanted}; it has: {known}")
        yield existing, image


def read_image(name: str, existing: ExistingImage, image: Image, *, hashed: bool = False) -> NamedImage:
    """Read the contents of an image that `open_image` opened; for `hashed` see `read_contents`."""
    tag = f":{existing.tags[0]}" if existing.tags else ""
    title = f"{existing.image}{tag}" if existing.image else existing.label("title") or name
    platforms = tuple((image.platform, image.digest, image.size) for image in existing.images)
    contents = read_contents(image, hashed=hashed)
    return NamedImage(title, existing.item.digest, platforms, contents, existing.left_out(image))
