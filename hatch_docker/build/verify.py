"""`hatch-docker verify`: build the image of an archive again from the image lock, and compare the digests."""

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
"""The image that was built again, and its names."""

Rebuild = Callable[[Mapping[str, str]], Rebuilt]
"""A function that builds the image with the given environment variables."""


def verify(
    archive: Path, rebuild: Rebuild, environ: Mapping[str, str], *, keep_downloads: bool = False
) -> tuple[str, str]:
    """Build the image of an archive again with an empty cache, and compare both; return digest and creation time.

    `rebuild` gets environment variables with the platforms and the time of the archive. `keep_downloads`: use downloads
    in the user's cache, by digest. Raises BuildError with the differences, and ImageError for a damaged archive.
    """
    expected = read_archive(archive)
    images = images_of(expected)
    for layer in (layer for image in images for layer in image.layers):
        layer.open().close()  # verifies the digest
    times = {str(image.config_json.get("created")) for image in images}
    created = max(times)
    variables = {**environ, "HATCH_DOCKER_PLATFORMS": ",".join(str(image.platform) for image in images)}
    variables.pop("SOURCE_DATE_EPOCH", "")
    if len(times) == 1:  # several times are those of the platforms' wheels, not of the sources
        try:
            variables["SOURCE_DATE_EPOCH"] = str(int(datetime.fromisoformat(created).timestamp()))
        except ValueError:
            raise ImageError(f"{archive} has an invalid creation time: {created[:40]!r}") from None
    store = open_context(environ, silent()).store
    with temporary_tree(store.root / "tmp", "verify-") as cache:  # the same file system, for hard links
        if keep_downloads:
            # Blobs are verified by digest. Without the facts of the old cache, a build uses only downloads of them.
            downloads = open_store(cache)
            for blob in (store.root / "blobs").iterdir():
                with contextlib.suppress(OSError):  # another build removes it, or the file system has no hard links
                    downloads.blob_path(blob.name).hardlink_to(blob)
        # The rebuild must not use results of other builds, from a shared cache or a compiler cache.
        no_caches = {"HATCH_DOCKER_CACHE_FROM": "none", "HATCH_DOCKER_CACHE_TO": "none"}
        no_caches["HATCH_DOCKER_BUILD_COMPILER_CACHE"] = "false"
        rebuilt, references = rebuild({**variables, CACHE_DIR: str(cache), **no_caches})
        if rebuilt.digest != expected.digest:
            lines = "".join(f"\n  {line}" for line in differences(expected, rebuilt))
            raise BuildError(f"{archive.name} is {expected.digest}, and the rebuild is {rebuilt.digest}:{lines}")
    found, names = (" ".join(texts) or "without a name" for texts in (archive_names(archive), docker_names(references)))
    if found != names:
        raise BuildError(
            f"{archive.name} is named {found}, and a build names it {names}; set HATCH_DOCKER_TAGS as for its build"
        )
    return expected.digest, created
