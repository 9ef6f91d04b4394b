"""Entries of layers, with the earliest time that zip files can represent."""

import io
from collections.abc import Callable
from pathlib import Path

from hatch_docker.oci.layer import Entry

TIME = 315532800


def file(path: str, content: bytes | Path | Callable[[], io.BytesIO] = b"", **more: object) -> Entry:
    return Entry(path, "file", 0o644, TIME, content=content, **more)  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, "directory", mode, TIME)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, "symlink", 0o777, TIME, target=target)
