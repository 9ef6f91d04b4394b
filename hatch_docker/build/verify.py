"""`hatch-docker verify`: build the image of an archive again from the lock, and compare the digests."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from hatch_docker.core.cache.store import CACHE_DIR, open_store
from hatch_docker.core.context import open_context
from hatch_docker.core.errors import BuildError, ImageError
from hatch_docker.core.files import temporary_tree
from hatch_docker.core.progress import silent
from hatch_docker.oci.archive import archive_names, docker_names, read_archive
from hatch_docker.oci.diff import differences
from hatch_docker.oci.model import Image, Index, images_of

Rebuilt = tuple[Image | Index, Sequence[str]]
"""An image that was built again, and the names that a build gives it."""

Rebuild = Callable[[Mapping[str, str]], Rebuilt]
"""Function that builds an image with some variables."""


def verify(
    archive: Path, rebuild: Rebuild, environ: Mapping[str, str], *, keep_downloads: bool = False
) -> tuple[str, str]:
    """Rebuild the image of an archive in an empty cache, and compare both; return the digest and its time.

    `rebuild` gets the variables of a build with the platforms and the time of the archive. With `keep_downloads`, files
    that were downloaded before are taken from the user's cache, by their hashes. Raises BuildError, which says where
    the images or their names differ, and ImageError for a damaged archive.
    """
    expected = read_archive(archive)
    images = images_of(expected)
    for layer in (layer for image in images for layer in image.layers):
        layer.open().close()  # which compares it with its digest
    times = {str(image.config_json.get("created")) for image in images}
    created = max(times)
    variables = {**environ, "HATCH_DOCKER_PLATFORMS": ",".join(str(image.platform) for image in images)}
    variables.pop("SOURCE_DATE_EPOCH", "")
    if len(times) == 1:  # else they are the times of each platform's wheels, and not of the sources
        try:
            variables["SOURCE_DATE_EPOCH"] = str(int(datetime.fromisoformat(created).timestamp()))
        except ValueError:
            raise ImageError(f"{archive} has an invalid creation time: {created[:40]!r}") from None
    store = open_context(environ, silent()).store
    with temporary_tree(store.root / "tmp", "verify-") as cache:  # on the disk of the user's cache
        if keep_downloads:
            # Blobs are verified by their names, and without facts about them a build looks for downloads only.
            kept = open_store(cache)
            for blob in (store.root / "blobs").iterdir():
                with contextlib.suppress(OSError):  # another build removes it, or the file system has no hard links
                    kept.blob_path(blob.name).hardlink_to(blob)
        # A shared cache would say what others made, and a builder's compiler cache what earlier builds left there.
        alone = {"HATCH_DOCKER_CACHE_FROM": "none", "HATCH_DOCKER_CACHE_TO": "none"}
        alone["HATCH_DOCKER_BUILD_COMPILER_CACHE"] = "false"
        made, references = rebuild({**variables, CACHE_DIR: str(cache), **alone})
        if made.digest != expected.digest:
            lines = "".join(f"\n  {line}" for line in differences(expected, made))
            raise BuildError(f"{archive.name} is {expected.digest}, and the rebuild is {made.digest}:{lines}")
    found, names = (" ".join(texts) or "without a name" for texts in (archive_names(archive), docker_names(references)))
    if found != names:
        raise BuildError(
            f"{archive.name} is named {found}, and a build names it {names}; set HATCH_DOCKER_TAGS as for its build"
        )
    return expected.digest, created
