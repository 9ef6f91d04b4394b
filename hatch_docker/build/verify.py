"""`hatch-docker verify`: the image of an archive made once more from the lock, and compared to the last byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hatch_docker.core.context import CACHE_DIR, open_context
from hatch_docker.core.errors import BuildError, ImageError
from hatch_docker.core.files import temporary_tree
from hatch_docker.core.progress import silent
from hatch_docker.oci.model import Image, Index, images_of

Rebuild = Callable[[Mapping[str, str]], Image | Index]


@dataclass(frozen=True, slots=True)
class Verified:
    """An archive whose image came out the same; `created` is the time in it, `reused` says what was not made anew."""

    archive: Path
    digest: str
    created: str
    reused: str


def verify(
    archive: Path, rebuild: Rebuild, environ: Mapping[str, str], *, keep_downloads: bool = False
) -> Verified:
    """Rebuild the image of an archive in an empty cache, and compare the digests.

    Its platforms and its time are the archive's, everything else is up to `rebuild`, which is handed the variables of
    a build. With `keep_downloads` files that were downloaded before are taken from the cache, by their hashes. Raises
    BuildError, which says where they differ, and ImageError for an archive that is damaged.
    """
    from hatch_docker.oci.archive import read_archive
    from hatch_docker.oci.diff import differences
    from hatch_docker.oci.validate import validate

    expected = read_archive(archive)
    validate(expected)
    images = images_of(expected)
    times = {str(image.config_json.get("created")) for image in images}
    created = max(times)
    variables = {**environ, "HATCH_DOCKER_PLATFORMS": ",".join(str(image.platform) for image in images)}
    variables.pop("SOURCE_DATE_EPOCH", "")
    if len(times) == 1:  # else they are the times of each platform's wheels: nothing told that of the sources
        try:
            variables["SOURCE_DATE_EPOCH"] = str(int(datetime.fromisoformat(created).timestamp()))
        except ValueError:
            raise ImageError(f"{archive} says of no time that it was made then: {created[:40]!r}") from None
    with _empty_cache(environ, keep_downloads=keep_downloads) as cache:
        made = rebuild({**variables, CACHE_DIR: str(cache)})
        if made.digest != expected.digest:
            lines = "".join(f"\n  {line}" for line in differences(expected, made))
            raise BuildError(f"{archive.name} is {expected.digest}, and the rebuild is {made.digest}:{lines}")
    reused = "downloads of the cache, by their hashes" if keep_downloads else "nothing"
    return Verified(archive, expected.digest, created, reused)


@contextmanager
def _empty_cache(environ: Mapping[str, str], *, keep_downloads: bool) -> Iterator[Path]:
    """A cache that knows nothing, on the disk of the user's, whose blobs it has where downloads are kept."""
    store = open_context(environ, silent()).store
    with temporary_tree(store.root / "tmp", "verify-") as place:
        if keep_downloads:
            # Blobs are checked by their names, and nothing but downloads is asked for by name where no fact is known.
            root = place / store.root.name
            root.mkdir()
            (root / "blobs").symlink_to(store.root / "blobs")
        yield place
