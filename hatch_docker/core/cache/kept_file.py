"""A file that a build needs by its name and digest, and whose bytes it may never need."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A wheel or an sdist: its name, its digest, and `open`, which finds the file in the cache or makes it again.

    `open` raises DamagedBlobError where the file that is made again has another digest. `subdirectory` is where the
    project is in an sdist, "" for its top.
    """

    name: str
    digest: str
    open: Callable[[], Path]
    subdirectory: str = ""


def given_file(path: Path) -> KeptFile:
    """Return a file that exists."""
    from hatch_docker.core.cache.store import file_digest

    return KeptFile(path.name, file_digest(path), lambda: path)
