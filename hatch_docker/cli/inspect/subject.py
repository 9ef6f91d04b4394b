"""What `inspect` and its kin look at: a name, the image behind it for one platform, and what is in that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.build.existing import Existing, opened
from hatch_docker.cli.inspect.model import Contents
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.core.errors import ConfigError
from hatch_docker.oci.archive import child_for
from hatch_docker.oci.model import Image, Index, Platform, host_platform

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.engines.model import Excluded


@dataclass(frozen=True, slots=True)
class Subject:
    """An image as a user named it. `digest` is the index's where there is one; `platforms` are all that it has, each
    with its image's digest and stored size in bytes."""

    name: str
    digest: str
    platforms: tuple[tuple[Platform, str, int], ...]
    contents: Contents
    left_out: tuple[Excluded, ...] = ()           # as the receipt says, where it is at hand


@contextlib.contextmanager
def open_subject(name: str, platform: str, ctx: Context) -> Iterator[tuple[Existing, Image]]:
    """The image that a name stands for, of a platform, or of the one that this machine would run.

    An archive may be named by the directory that it is alone in. Raises ConfigError where it has no such platform.
    """
    from hatch_docker.build.publish import DIST, given_archive

    if Path(name) == DIST or Path(name).is_dir():
        name = _directory(Path(name)) or str(given_archive(Path(name)))
    with opened(name, ctx) as existing:
        if not platform:
            item = existing.item
            yield existing, child_for(item, host_platform()) if isinstance(item, Index) else item
            return
        wanted = Platform.parse(platform)
        found = [image for image in existing.images if image.platform == wanted]
        if not found:
            known = ", ".join(str(image.platform) for image in existing.images)
            raise ConfigError(f"{name} has no image for {wanted}; it has: {known}")
        yield existing, found[0]


def _directory(path: Path) -> str:
    """A layout as it is named with its scheme; "" for any other directory."""
    return f"oci:{path}" if (path / "oci-layout").is_file() else ""


def read_subject(name: str, existing: Existing, image: Image, *, hashed: bool = False) -> Subject:
    """What is in an image that `open_subject` opened."""
    tag = f":{existing.tags[0]}" if existing.tags else ""
    title = f"{existing.image}{tag}" if existing.image else existing.label("title") or name
    platforms = tuple((one.platform, one.digest, one.size) for one in existing.images)
    contents = read_contents(image, hashed=hashed)
    return Subject(title, existing.item.digest, platforms, contents, existing.left_out(image))
