"""Paths in an image, relative to its root.

Standard library only and read by Python 3.9: a stage of the Dockerfile runs this file too (`engines.recipe`).
"""

from __future__ import annotations

from collections.abc import Iterator

from hatch_docker.core.errors import ImageError

SOURCE_DATE = 315532800  # 1980-01-01, in seconds since the epoch, the earliest in a zip file: of all that has no time
WHITEOUT = ".wh."  # how the names of files start that remove others (layer.md, Whiteouts)
DEPTH_LIMIT = 256  # directories; a function that walks a tree may do so by recursion
PATH_LIMIT = 4095  # Linux's PATH_MAX, less the final NUL
SHOWN = 80  # characters of a name in a message


def parents(path: str) -> Iterator[str]:
    """Yield the directories that a relative path is in, the nearest first: "opt/venv/bin" -> "opt/venv", "opt"."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def safe_path(name: str, *, backslash: bool = True) -> str:
    """Return the normalised relative path that a name in an archive stands for, without `./` and trailing `/`.

    Every name from a tar, a wheel or a package passes here. Raises ImageError for a name that is empty or
    absolute, climbs with `..`, or that no Linux file system can hold; for a backslash where `backslash` is
    False (a separator on the machine that made the wheel, a plain character in Debian's packages).
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    why = ""
    if name.startswith("/"):
        why = "it is absolute"
    elif not parts:
        why = "it names nothing"
    elif ".." in parts:
        why = "it climbs out with '..'"
    elif "\0" in name or (not backslash and "\\" in name):
        why = "it holds a NUL or a backslash"
    elif len(name) > PATH_LIMIT or (
        len(name) > 63 and any(len(part.encode(errors="surrogateescape")) > 255 for part in parts)
    ):
        why = "it is too long for a file system"
    elif len(parts) > DEPTH_LIMIT:
        why = f"it is more than {DEPTH_LIMIT} directories deep"
    if why:
        raise ImageError(f"unsafe path {shown(name)} in an archive: {why}")
    return "/".join(parts)


def shown(name: str) -> str:
    """Return a name out of an archive as messages have it: quoted, and cut where it is long."""
    return repr(name) if len(name) <= SHOWN else f"{name[:SHOWN]!r}..."
