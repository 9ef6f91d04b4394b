"""Paths in an image, relative to its root.

A stage of the Dockerfile imports this module too (`engines.buildkit.context.STAGE_MODULES`): it needs only the standard
library of Python 3.9.
"""

from __future__ import annotations

from collections.abc import Iterator

from hatch_docker.core.errors import ImageError

SOURCE_DATE = 315532800  # default mtime: 1980-01-01 in seconds since the epoch, the earliest time in a zip file
WHITEOUT = ".wh."  # prefix of names that remove files of lower layers (layer.md, Whiteouts)
DEPTH_LIMIT = 256  # directories in a path: functions may walk a tree recursively
PATH_LIMIT = 4095  # characters: Linux's PATH_MAX without the final NUL
SHOWN = 80  # characters of a name in a message


def parents(path: str) -> Iterator[str]:
    """Yield the parent directories of a relative path, nearest first: "opt/venv/bin" -> "opt/venv", "opt"."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def safe_path(name: str, *, backslash: bool = True) -> str:
    """Return the normalised relative path of a name in an archive, without `./` and trailing `/`.

    Used for every name from a tar, a wheel or a Debian package. Raises ImageError for a name that is empty or absolute,
    contains `..` or NUL, or is too long for Linux. If `backslash` is False, a backslash is an error, too (in wheels,
    where it may be a separator of Windows; in Debian packages it is a normal character).
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
        raise ImageError(f"unsafe path {quote(name)} in an archive: {why}")
    return "/".join(parts)


def quote(name: str) -> str:
    """Return a name from an archive for a message: quoted, and cut after SHOWN characters."""
    return repr(name) if len(name) <= SHOWN else f"{name[:SHOWN]!r}..."
