"""The build requirements of an sdist, installed: a virtual environment in a tree of the store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hatch_docker.context import Context
from hatch_docker.oci.layer import Entry
from hatch_docker.store import key_of
from hatch_docker.wheels import Pin
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.install import VenvTarget, venv_entries, wheel_entries

RECIPE = 1


def build_environment(pins: Sequence[Pin], venv: VenvTarget, project: Path, ctx: Context) -> Path:
    """The tree that holds `venv` with the pinned wheels; made once for the same wheels and interpreter.

    Nothing of the wheels is run. Raises what `fetch` and `wheel_entries` raise.
    """

    def make(directory: Path) -> None:
        wheels = fetch(pins, ctx, root=project)
        write_entries(venv_entries(venv), directory)
        for pin, wheel in zip(pins, wheels, strict=True):
            write_entries(wheel_entries(wheel, venv, filename=pin.filename), directory)

    interpreter = venv.interpreter
    key = key_of(RECIPE, venv.root, interpreter.path, interpreter.version, [pin.sha256 for pin in pins])
    return ctx.store.tree("build-env", key, make)


def write_entries(entries: Sequence[Entry], root: Path) -> None:
    """Write directories, files and links into a directory; their paths are safe (`wheel_entries`)."""
    for entry in entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "directory":
            path.mkdir(exist_ok=True)
        elif entry.kind == "symlink":
            path.symlink_to(entry.target)
        else:
            _write_file(entry, path)


def _write_file(entry: Entry, path: Path) -> None:
    content = entry.content
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    elif content is None or isinstance(content, bytes):
        path.write_bytes(content or b"")
    else:
        with content() as stream, path.open("wb") as out:
            shutil.copyfileobj(stream, out)
    path.chmod(entry.mode)
