"""The image that a user names on the command line: where it is, one of its platforms, and its contents."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.build.existing import existing_image
from hatch_docker.build.publish import DIST, resolve_archive
from hatch_docker.build.receipt import Receipt
from hatch_docker.cli.inspect.model import ImageContents
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.model import Excluded
from hatch_docker.oci.archive import child_for
from hatch_docker.oci.model import Index, Platform, host_platform


@dataclass(frozen=True, slots=True)
class NamedImage:
    """The contents of an image that has a name.

    `digest` is that of the index if there is one. `platforms` are all platforms of the index, each with its image's
    digest and stored size in bytes. `left_out` is what the receipt, if there is one, says was left out of wheels.
    """

    name: str
    digest: str
    platforms: tuple[tuple[Platform, str, int], ...]
    contents: ImageContents
    left_out: tuple[Excluded, ...]
    receipt: Receipt | None


@contextlib.contextmanager
def open_image(name: str, platform: str, ctx: Context, *, hashed: bool = False) -> Iterator[NamedImage]:
    """Open and read the image of a name, for a platform or else for this machine's; for `hashed` see `read_contents`.

    The name of a directory stands for the only archive in it, or for a layout. Raises ConfigError if there is no image
    for the platform.
    """
    path, place = Path(name), name
    if (path / "oci-layout").is_file():
        place = f"oci:{path}"
    elif path == DIST or path.is_dir():
        place = str(resolve_archive(path))
    with existing_image(place, ctx) as existing:
        platforms = tuple((image.platform, image.digest, image.size) for image in existing.images)
        if not platform:
            image = child_for(existing.item, host_platform()) if isinstance(existing.item, Index) else existing.item
        else:
            wanted = Platform.parse(platform)
            matching = [image for image in existing.images if image.platform == wanted]
            if not matching:
                known = ", ".join(str(platform) for platform, _, _ in platforms)
                raise ConfigError(f"{place} has no image for {wanted}; it has: {known}")
            image = matching[0]
        tag = f":{existing.tags[0]}" if existing.tags else ""
        title = f"{existing.image}{tag}" if existing.image else existing.label("title") or name
        contents = read_contents(image, hashed=hashed)
        left_out = existing.left_out(image)
        yield NamedImage(title, existing.item.digest, platforms, contents, left_out, existing.receipt)
