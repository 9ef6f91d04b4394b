"""The layer of `volumes`: a directory for each, which the image's user may write to.

A new volume of Docker or Podman takes owner and mode of the directory that it is mounted on, and root's is what they
make where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from hatch_docker.bases import Base, real_path
from hatch_docker.context import Context
from hatch_docker.engines import LayerNote
from hatch_docker.engines.files import file_entries
from hatch_docker.engines.settings import numeric_user
from hatch_docker.errors import ConfigError, ImageError
from hatch_docker.layers import layer_by_key
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import WHITEOUT, Entry, safe_path
from hatch_docker.oci.model import Layer
from hatch_docker.plan import VENV, Plan
from hatch_docker.store import key_of
from hatch_docker.wheels.install import SOURCE_DATE, parent_entries

OPTION = "tool.hatch-docker.volumes"


def make_volumes(
    plan: Plan, root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, LayerNote] | None:
    """The layer of those directories that are in no other, and its note; None where all are there already.

    Each is 0755 and belongs to the image's user, missing ones above it to root. What the base or `files` brought stays
    as it is. Raises ConfigError where one of them has a file in the way.
    """
    files = file_entries(plan.files, root, base)
    missing = _missing(plan, files, base, ctx)
    if not missing:
        return None
    uid, gid = owner(plan.config.user, base)
    there = {one.path for one in (*files.values(), *parent_entries(files)) if one.kind == "directory"}
    entries = {one.path: one for one in parent_entries(missing, base.directories | there)}
    entries |= {path: Entry(path, "directory", 0o755, SOURCE_DATE, uid=uid, gid=gid) for path in missing}
    ordered = [entries[path] for path in sorted(entries)]
    key = key_of("volumes", 1, [[one.path, one.mode, one.uid, one.gid] for one in ordered])
    layer, cached = layer_by_key(key, compression, ctx, lambda: ordered)
    return layer, LayerNote("files", tuple(missing.values()), cached)


def owner(user: str, base: Base) -> tuple[int, int]:
    """The numbers of a user and its group: where only the user is given the base's passwd has it, else 0 is it."""
    name, _, group = numeric_user(user, base).partition(":")
    uid = int(name)
    groups = (gid for _, (number, gid) in sorted(base.users.items()) if number == uid)
    return uid, int(group) if group else next(groups, 0)


def _missing(plan: Plan, files: Mapping[str, Entry], base: Base, ctx: Context) -> dict[str, str]:
    """The directories to be made, relative to the root, and what the user calls them."""
    missing: dict[str, str] = {}
    for volume in plan.config.volumes:
        path = _located(volume, base)
        if path in base.symlinks:
            ctx.progress.warn(
                f"{OPTION}: {volume} is a link to {base.symlinks[path]} in base {base.name}, and stays as it is; "
                f"name the directory: /{real_path(base.symlinks, path)}"
            )
        elif f"{path}/".startswith(f"{VENV}/"):
            ctx.progress.warn(
                f"{OPTION}: {volume} is where the code is, which belongs to root, and stays as it is; "
                "name a directory elsewhere, such as /data"
            )
        elif not (path in base.directories or f"{VENV}/".startswith(f"{path}/") or _is_directory(files.get(path))):
            missing.setdefault(path, volume)
    _check_files(missing, files, base, ctx)
    return missing


def _located(volume: str, base: Base) -> str:
    """Where the directory is, once the base's symbolic links above it are followed."""
    try:
        parent, _, name = safe_path(volume.lstrip("/")).rpartition("/")
    except ImageError as error:
        raise ConfigError(f"{OPTION}: {volume[:60]!r}: {str(error).rpartition(': ')[2]}; choose another") from error
    if any(part.startswith(WHITEOUT) for part in volume.split("/")):
        raise ConfigError(f"{OPTION}: {volume}: no layer can hold a name that starts with {WHITEOUT}; choose another")
    parent = real_path(base.symlinks, parent) if parent else ""
    return f"{parent}/{name}" if parent else name


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == "directory"


def _check_files(missing: Mapping[str, str], files: Mapping[str, Entry], base: Base, ctx: Context) -> None:
    """Raise ConfigError where a directory, or one above it, is something else already."""
    ways = {path: [path, *(one.path for one in parent_entries([path], base.directories))] for path in missing}
    in_base = _files_of(base, {one for way in ways.values() for one in way}, ctx)
    for path, way in ways.items():
        for one in way:
            brought = one in files and not _is_directory(files[one])
            if brought or one in in_base:
                whose = "`files`" if brought else f"base {base.name}"
                raise ConfigError(
                    f"{OPTION}: {missing[path]} cannot be a directory: /{one} of {whose} is none; choose another path"
                )


def _files_of(base: Base, paths: Iterable[str], ctx: Context) -> frozenset[str]:
    """Those of some paths that the base has, none of which is a directory there; looked up once."""
    wanted = sorted(paths)
    if not wanted:
        return frozenset()
    key = key_of("base files", 1, [layer.diff_id for layer in base.image.layers], wanted)
    known = ctx.store.recall("base", key)
    if known is None:
        from hatch_docker.oci.tree import listing

        tree = listing(base.image.layers)
        known = [path for path in wanted if path in tree]
        ctx.store.remember("base", key, known)
    return frozenset(known)
