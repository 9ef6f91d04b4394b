"""`hatch-docker verify`: the image of an archive made once more from the lock, and compared to the last byte."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.context import open_context
from hatch_docker.doors import make_item, open_plan
from hatch_docker.errors import BuildError, ConfigError
from hatch_docker.oci.model import Image, Index
from hatch_docker.outputs import remove_tree
from hatch_docker.pins import NAME
from hatch_docker.progress import silent

if TYPE_CHECKING:
    from hatchling.builders.plugin.interface import BuilderInterface


@dataclass(frozen=True, slots=True)
class Verified:
    """An archive whose image came out the same; `created` is the time in it, `reused` says what was not made anew."""

    archive: Path
    digest: str
    created: str
    reused: str


def verify(
    builder: BuilderInterface[Any, Any], archive: Path, environ: Mapping[str, str], *, keep_downloads: bool = False
) -> Verified:
    """Rebuild the image of an archive by the project's lock in an empty cache, and compare the digests.

    Its platforms and its time are the archive's, everything else is the project's. With `keep_downloads` files that
    were downloaded before are taken from the cache, by their hashes. Raises BuildError, which says where they differ,
    ConfigError for a project without a lock, and ImageError for an archive that is damaged.
    """
    from hatch_docker.oci.archive import read_archive
    from hatch_docker.oci.difference import differences
    from hatch_docker.oci.validate import validate

    expected = read_archive(archive)
    validate(expected)
    created = _first(expected).config_json["created"]
    with _empty_cache(environ, keep_downloads=keep_downloads) as cache:
        made = _rebuilt(builder, expected, created, {**environ, "HATCH_DOCKER_CACHE_DIR": str(cache)})
        if made.digest != expected.digest:
            lines = "".join(f"\n  {line}" for line in differences(expected, made))
            raise BuildError(f"{archive.name} is {expected.digest}, and the rebuild is {made.digest}:{lines}")
    reused = "downloads of the cache, by their hashes" if keep_downloads else "nothing"
    return Verified(archive, expected.digest, created, reused)


def _first(item: Image | Index) -> Image:
    return item.images[0] if isinstance(item, Index) else item


def _rebuilt(
    builder: BuilderInterface[Any, Any], expected: Image | Index, created: str, environ: Mapping[str, str]
) -> Image | Index:
    from hatch_docker.project import open_source

    images = expected.images if isinstance(expected, Index) else (expected,)
    variables = {
        "SOURCE_DATE_EPOCH": str(int(datetime.fromisoformat(created).timestamp())),
        "HATCH_DOCKER_PLATFORMS": ",".join(str(image.platform) for image in images),
    }
    plan, ctx = open_plan(builder, {**environ, **variables})
    if ctx.pins is None:
        raise ConfigError(f"there is no {NAME} to rebuild from: run `hatch-docker lock`, and build by it")
    with tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary:
        return make_item(plan, open_source(builder, Path(temporary)), ctx)


@contextmanager
def _empty_cache(environ: Mapping[str, str], *, keep_downloads: bool) -> Iterator[Path]:
    """A cache that knows nothing, on the disk of the user's, whose blobs it has where downloads are kept."""
    store = open_context(environ, silent()).store
    place = Path(tempfile.mkdtemp(dir=store.root / "tmp", prefix="verify-"))
    try:
        if keep_downloads:
            # Blobs are checked by their names, and nothing but downloads is asked for by name where no fact is known.
            root = place / store.root.name
            root.mkdir()
            (root / "blobs").symlink_to(store.root / "blobs")
        yield place
    finally:
        remove_tree(place)
