"""A file of a build whose name and digest are known, and whose bytes are opened only if they are needed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A wheel or an sdist. `open` returns the path of the file, from the cache or built again.

    `open` raises DamagedBlobError if the file was built again and its digest is not `digest`. `subdirectory` is the
    directory of the project in an sdist, "" for the top directory.
    """

    name: str
    digest: str
    open: Callable[[], Path]
    subdirectory: str = ""


def existing_file(path: Path) -> KeptFile:
    """Return the KeptFile of a file on this machine."""
    from hatch_docker.core.cache.store import file_digest

    return KeptFile(path.name, file_digest(path), lambda: path)
